"""Ticks in an Iceberg table that somebody else writes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from pydantic import Field, field_validator

from ml_assets.resources.deadlines import within
from ml_assets.resources.ticks.columns import check_table
from ml_assets.resources.ticks.source import TickSource

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.table import Table

T = TypeVar("T")


class IcebergTicks(TickSource):
    """A table with a `timestamptz` column, which is only ever read; trades or quotes.

    Rows without a time belong to no window.
    """

    catalog_uri: str = Field(
        description="The catalog: a database as `sqlite:///path` or "
        "`postgresql://user:password@host/name`, or a REST catalog as `https://host/path`; as "
        "`dg.EnvVar` where it has a password."
    )
    catalog_name: str = Field(
        description="Name of the catalog. PyIceberg takes more of its properties from variables "
        "such as `PYICEBERG_CATALOG__NAME__TOKEN`."
    )
    warehouse: str = Field(description="Where the tables' files are: a directory or a URL.")
    table: str = Field(description="The table, `namespace.name`.")
    columns: dict[str, str] = Field(
        description="Names of columns by what they are: `time` with `price` and `size`, or with "
        "`bid` and `ask`; where there are any `side` or `buyer_maker`, `suspicious`, and `order`, "
        "by which ticks of equal times are sorted; without it they are sorted by their values."
    )

    timeout_seconds: float = Field(
        default=600, gt=0, description="How long reading a window may take."
    )

    _check_columns = field_validator("columns")(check_table)

    def read(self, start: datetime, end: datetime) -> "pa.Table":
        """The ticks from `start` to before `end`, in the order of time.

        Returns:
            As in every source; `row` is the number of the tick in its UTC day, of those read.

        Raises:
            DataError: There is no such table or column.
            dagster.Failure: The catalog does not answer.
        """
        from ml_assets.resources.ticks import foreign

        def read() -> "pa.Table":
            with self._opened() as table:
                return foreign.read(table, self.columns, start, end, self._most_rows(start, end))

        return self._in_time(read)

    def digest(self, start: datetime, end: datetime) -> str:
        """Digest of the names of the files that may have ticks of the window."""
        from ml_assets.resources.ticks import foreign

        def digest() -> str:
            with self._opened() as table:
                return foreign.digest(table, self.columns, start, end)

        return self._in_time(digest)

    def describe(self) -> str:
        """Where the ticks come from, for people."""
        from ml_assets.settings import without_credentials

        return f"iceberg: {self.table} at {without_credentials(self.catalog_uri)}"

    def _in_time(self, read: Callable[[], T]) -> T:
        return within(self.timeout_seconds, f"reading {self.describe()}", read)

    @contextmanager
    def _opened(self) -> Iterator["Table"]:
        from ml_assets.resources.ticks import foreign

        with foreign.opened(self.catalog_uri, self.warehouse, self.catalog_name) as catalog:
            yield foreign.load(catalog, self.table)
