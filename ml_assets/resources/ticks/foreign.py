"""Reading an Iceberg table that somebody else writes, by windows of its time column.

Loaded when a step runs.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

import polars as pl
import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import NoSuchIdentifierError, NoSuchTableError
from pyiceberg.table import DataScan, Table
from pyiceberg.types import TimestamptzNanoType, TimestamptzType

from ml_assets.ml.errors import DataError
from ml_assets.resources.lakehouse import catalog as lakehouse
from ml_assets.resources.lakehouse.schemas import between, check_columns, check_window
from ml_assets.resources.ticks import rows
from ml_assets.settings import without_credentials


class _RestCatalog(lakehouse.GuardedCatalog, RestCatalog):
    """A REST catalog whose server and tables name no code."""

    def _fetch_config(self) -> None:
        ours = self.properties
        super()._fetch_config()
        told = {name: its for name, its in self.properties.items() if ours.get(name) != its}
        lakehouse.refuse_code(told, f"the catalog at {without_credentials(self.uri)}")


@contextmanager
def opened(uri: str, warehouse: str, name: str) -> Iterator[Catalog]:
    """The catalog, in which nothing is created.

    Raises:
        DataError: A file of a table is missing, or catalog or table name code to run.
        dagster.Failure: The URI cannot be read, or the database does not answer.
    """
    rest = uri.partition("://")[0] in {"http", "https"}
    try:
        with (
            _RestCatalog(name, uri=uri, warehouse=warehouse)
            if rest
            else lakehouse.opened(uri, warehouse, name, create=False)
        ) as catalog:
            yield catalog
    except FileNotFoundError as error:
        raise DataError(
            f"all files of the table, whose catalog is at {without_credentials(uri)}",
            str(error),
            "make the warehouse readable here, or have its writer repair the table",
        ) from error


def load(catalog: Catalog, table: str) -> Table:
    """The table as it is now.

    Raises:
        DataError: There is no such table.
    """
    try:
        # PyIceberg has a plain ValueError for a name without a namespace.
        return catalog.load_table(table if "." in table else f"default.{table}")
    except (NoSuchTableError, NoSuchIdentifierError) as error:
        raise DataError(
            f"the table {table} in the catalog {catalog.name}",
            "no such table",
            "correct the names of table and catalog",
        ) from error


def read(
    table: Table, columns: Mapping[str, str], start: datetime, end: datetime, most: int
) -> pa.Table:
    """The ticks of a window, in the order of time; no more than so many."""
    count, batches = 0, []
    with _scan(table, columns, start, end).to_arrow_batch_reader() as reader:
        for batch in reader:
            count += len(batch)
            rows.check_count(count, most)
            batches.append(batch)
        found = pa.Table.from_batches(batches, reader.schema)
    stamps = found[columns["time"]].cast(pa.timestamp("ns", "UTC")).cast(pa.int64())
    frame = pl.DataFrame(found).select(
        pl.col(name).alias(role) for role, name in columns.items() if role != "time"
    )
    frame = frame.with_columns(time=pl.Series(stamps))
    frame = frame.sort(rows.order(columns), nulls_last=True).rename({"time": "event_time_ns"})
    return rows.table([rows.numbered(rows.shaped(rows.decoded(frame)))], most)


def digest(table: Table, columns: Mapping[str, str], start: datetime, end: datetime) -> str:
    """SHA-256 of the names of the files with rows, or deletions, of the window."""
    files = [
        " ".join([task.file.file_path, *sorted(file.file_path for file in task.delete_files)])
        for task in _scan(table, columns, start, end).plan_files()
    ]
    return rows.joined_digest([sorted(columns.items()), *sorted(files)])


def _scan(table: Table, columns: Mapping[str, str], start: datetime, end: datetime) -> DataScan:
    check_window(start, end)
    check_columns(table, list(columns.values()), None)
    kind = table.schema().find_field(columns["time"]).field_type
    if not isinstance(kind, TimestamptzType | TimestamptzNanoType):
        raise DataError(
            f"the column {columns['time']} of {'.'.join(table.name())}, a timestamptz",
            str(kind),
            "say in `columns` which column has the time",
        )
    names = tuple(dict.fromkeys(columns.values()))
    return table.scan(between(columns["time"], start, end), selected_fields=names)
