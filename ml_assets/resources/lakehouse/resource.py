"""The resource through which the groups use the lakehouse.

PyIceberg is not known here: the modules that know it are imported when a step runs.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Literal

import dagster as dg
from pydantic import Field

from ml_assets.resources.lakehouse.results import Upkeep, WriteResult

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.catalog.sql import SqlCatalog

    from ml_assets.ml.errors import DataError

Period = Literal["day", "month"]
"""What a partition of a table spans."""


class Lakehouse(dg.ConfigurableResource):
    """Iceberg tables in a SQL catalog: SQLite, or PostgreSQL where several machines write."""

    catalog_uri: str = Field(
        description="The catalog's database: `sqlite:///path` or `postgresql://user@host/name`."
    )
    warehouse: str = Field(
        description="Where the tables' files are: a directory, or any fsspec URL such as "
        "`s3://bucket/warehouse`."
    )
    commit_timeout_seconds: float = Field(
        default=60,
        gt=0,
        description="How long a write is tried again while others commit to the same table.",
    )

    def replace(
        self,
        table: str,
        rows: "pa.Table",
        column: str,
        start: datetime,
        end: datetime,
        partition_by: Period = "month",
    ) -> WriteResult:
        """Replace all rows of a time window, in one commit; none by none without a commit.

        The namespace and the table are created when missing, and columns that are new in
        `rows` are added; rows outside the window stay as they are. Readers see the old rows or
        the new ones. Whoever commits last wins where windows overlap; other windows are not
        touched. A writer that is killed leaves the table as it was.

        Args:
            table: `group.name`.
            rows: The new rows, in any order. Timestamps are kept in microseconds, those with a
                time zone in UTC; categories as their values; small integers in 32 bits.
            column: The time column, a timestamp with a time zone.
            start: Start of the window, with a time zone.
            end: End of the window, not included, with a time zone.
            partition_by: What a partition of the table spans; decided when it is created.

        Raises:
            DataError: The rows are not all within the window, the time column is missing,
                empty in places or has no time zone, or the columns do not fit the table's.
            dagster.Failure: The catalog does not answer, or others kept committing.
        """
        [written] = self.replace_days(table, rows, column, [(start, end)], partition_by)
        return written

    def replace_days(
        self,
        table: str,
        rows: "pa.Table",
        column: str,
        windows: Sequence[tuple[datetime, datetime]],
        partition_by: Period = "month",
    ) -> list[WriteResult]:
        """Replace all rows of windows that follow one another, in one commit; see `replace`.

        Returns:
            What was written of each window: the same as if it had been written alone, but for the
            snapshot.
        """
        from ml_assets.resources.lakehouse.commits import committed, replace
        from ml_assets.resources.lakehouse.schemas import between, digest, divided, fitted

        start, end = windows[0][0], windows[-1][1]
        fitting = fitted(table, rows, column, start, end)
        attempt = partial(
            replace,
            table=table,
            rows=fitting,
            column=column,
            window=between(column, start, end),
            partition_by=partition_by,
        )
        with self._catalog() as catalog:
            snapshot_id = committed(catalog, table, self.commit_timeout_seconds, attempt)
        parts = divided(fitting, fitting[column], windows) if len(windows) > 1 else [fitting]
        return [
            WriteResult(table, snapshot_id, len(part), *window, digest(part))
            for part, window in zip(parts, windows, strict=True)
        ]

    def read(
        self,
        table: str,
        start: datetime,
        end: datetime,
        columns: Sequence[str] | None = None,
        snapshot_id: int | None = None,
    ) -> "pa.Table":
        """The rows of a time window, sorted by time; other files and columns are not read.

        Args:
            table: `group.name`.
            start: Start of the window, with a time zone.
            end: End of the window, not included, with a time zone.
            columns: The columns wanted, in this order; None for all.
            snapshot_id: Read the table as of this snapshot; None for now.

        Raises:
            DataError: There is no such table, column or snapshot.
            dagster.Failure: The catalog does not answer.
        """
        [rows] = self.read_days(table, [(start, end)], columns, snapshot_id)
        return rows

    def read_days(
        self,
        table: str,
        windows: Sequence[tuple[datetime, datetime]],
        columns: Sequence[str] | None = None,
        snapshot_id: int | None = None,
    ) -> "list[pa.Table]":
        """The rows of windows that follow one another, read at once; see `read`."""
        from ml_assets.resources.lakehouse.catalog import load
        from ml_assets.resources.lakehouse.schemas import (
            between,
            check_columns,
            check_window,
            divided,
            plain,
            time_column,
        )

        start, end = windows[0][0], windows[-1][1]
        check_window(start, end)
        with self._catalog() as catalog:
            found = load(catalog, table)
            check_columns(found, columns or (), snapshot_id)
            time = time_column(found)
            fields = ("*",) if columns is None else tuple({*columns, time})
            window = between(time, start, end)
            rows = found.scan(window, selected_fields=fields, snapshot_id=snapshot_id).to_arrow()
        rows = rows.sort_by(time)
        # PyIceberg gives other types of strings when there are no rows.
        kept = plain(rows.select(columns or rows.column_names))
        return [kept] if len(windows) == 1 else divided(kept, rows[time], windows)

    def snapshot_id(self, table: str) -> int:
        """The present snapshot of a table.

        Raises:
            DataError: There is no such table.
            dagster.Failure: The catalog does not answer.
        """
        from ml_assets.resources.lakehouse.catalog import load

        with self._catalog() as catalog:
            return load(catalog, table).metadata.current_snapshot_id

    def tables(self, namespace: str) -> list[str]:
        """The tables of a namespace as `group.name`, sorted; none if there is no namespace.

        Raises:
            dagster.Failure: The catalog does not answer.
        """
        with self._catalog() as catalog:
            if not catalog.namespace_exists(namespace):
                return []
            return sorted(".".join(name) for name in catalog.list_tables(namespace))

    def maintain(
        self,
        table: str,
        keep: timedelta = timedelta(days=90),
        grace: timedelta = timedelta(days=1),
    ) -> Upkeep:
        """Expire old snapshots, delete files that no snapshot needs, compact small files.

        It may run while others read and write. Memory: the largest partition that is compacted.

        Args:
            table: `group.name`.
            keep: Snapshots younger than this can be read on; the present one always can.
            grace: Files younger than this are left alone, because a writer may yet commit them.

        Raises:
            DataError: There is no such table.
            dagster.Failure: The catalog does not answer, or others kept committing.
        """
        from ml_assets.resources.lakehouse.upkeep import maintain

        with self._catalog() as catalog:
            return maintain(catalog, table, keep, grace, self.commit_timeout_seconds)

    def relocate(
        self, namespace: str, *, take_over: bool = False
    ) -> "tuple[list[str], list[DataError]]":
        """Make tables whose files were moved or copied below the warehouse usable there.

        Nothing outside the warehouse is touched. It may be interrupted and done again.

        Args:
            namespace: The tables' namespace.
            take_over: Also make the tables that belong to another catalog this one's.

        Returns:
            The tables that were relocated, and what stands against the others.

        Raises:
            dagster.Failure: The catalog does not answer.
        """
        from ml_assets.resources.lakehouse.relocation import relocate

        with self._catalog() as catalog:
            return relocate(catalog, namespace, take_over=take_over)

    @contextmanager
    def _catalog(self) -> Iterator["SqlCatalog"]:
        from ml_assets.resources.lakehouse.catalog import opened

        with opened(self.catalog_uri, self.warehouse) as catalog:
            yield catalog
