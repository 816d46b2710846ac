"""Ticks in a table of a PostgreSQL database."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from ml_assets.resources.postgres import Database
from ml_assets.resources.ticks.columns import check_table
from ml_assets.resources.ticks.source import TickSource
from ml_assets.settings import without_credentials

if TYPE_CHECKING:
    import pyarrow as pa
    from psycopg2 import sql


class PostgresTicks(TickSource):
    """A table with a time column, which is only ever read; trades or quotes.

    The time is a `timestamptz`, or a `timestamp` in UTC; an index on it keeps reading a day
    cheap. Rows without a time, and those at `infinity`, belong to no window. NaN counts as missing.
    """

    url: str = Field(description="`postgresql://user:password@host:port/name`, as `dg.EnvVar`.")
    table: str = Field(description="The table, `name` or `schema.name`.")
    columns: dict[str, str] = Field(
        description="Names of columns by what they are: `time` with `price` and `size`, or with "
        "`bid` and `ask`; where there are any `side` or `buyer_maker`, `suspicious`, and `order`, "
        "by which ticks of equal times are sorted; without it they are sorted by their values."
    )
    connect_timeout_seconds: int = Field(default=10, ge=2, description="Silence allowed.")
    statement_timeout_seconds: int = Field(
        default=600, ge=1, description="How long reading a window may take."
    )

    _check_columns = field_validator("columns")(check_table)

    def read(self, start: datetime, end: datetime) -> "pa.Table":
        """The ticks from `start` to before `end`, in the order of time.

        Memory: the window, and a few megabytes.

        Returns:
            As in every source; `row` is the number of the tick in its UTC day, of those read.

        Raises:
            DataError: There is no such table or column, or they may not be read.
            dagster.Failure: The database does not answer; it may be tried again.
        """
        from ml_assets.resources.ticks.copied import Copied

        copied = Copied(self.columns, self._most_rows(start, end))
        with self._database().session("UTC", self._expected()) as cursor:
            cursor.copy_expert(self._copy(start, end), copied, 1 << 16)
        return copied.table()

    def digest(self, start: datetime, end: datetime) -> str:
        """Digest of number and hashes of the rows, which the database computes."""
        from ml_assets.resources.ticks.rows import joined_digest

        with self._database().session("UTC", self._expected()) as cursor:
            cursor.execute(self._hash(start, end))
            return joined_digest([sorted(self.columns.items()), *cursor.fetchone()])

    def describe(self) -> str:
        """Where the ticks come from, for people."""
        return f"postgres: {self.table} at {without_credentials(self.url)}"

    def _database(self) -> Database:
        return Database(
            self.url, "ticks", self.connect_timeout_seconds, self.statement_timeout_seconds
        )

    def _expected(self) -> str:
        return f"the table {self.table} with the columns {', '.join(self.columns.values())}"

    def _copy(self, start: datetime, end: datetime) -> "sql.Composed":
        from psycopg2 import sql

        from ml_assets.resources.ticks.copied import expressions
        from ml_assets.resources.ticks.rows import order

        named = self._named()
        return sql.SQL(
            "COPY (SELECT {values} FROM {table} AS ticks WHERE {window} ORDER BY {order})"
            " TO STDOUT (FORMAT binary)"
        ).format(
            values=sql.SQL(", ").join(expressions(named)),
            table=sql.Identifier(*self.table.split(".")),
            window=self._window(start, end),
            order=sql.SQL(", ").join(named[role] for role in order(named)),
        )

    def _hash(self, start: datetime, end: datetime) -> "sql.Composed":
        from psycopg2 import sql

        return sql.SQL(
            "SELECT count(*), sum(hashtextextended(ROW({values})::text, 0)::numeric)"
            " FROM {table} AS ticks WHERE {window}"
        ).format(
            values=sql.SQL(", ").join(self._named().values()),
            table=sql.Identifier(*self.table.split(".")),
            window=self._window(start, end),
        )

    def _window(self, start: datetime, end: datetime) -> "sql.Composed":
        from psycopg2 import sql

        return sql.SQL("{time} >= {start}::timestamptz AND {time} < {end}::timestamptz").format(
            time=self._named()["time"],
            start=sql.Literal(start.isoformat()),
            end=sql.Literal(end.isoformat()),
        )

    def _named(self) -> "Mapping[str, sql.Identifier]":
        """The columns by what they are, quoted."""
        from psycopg2 import sql

        return {role: sql.Identifier("ticks", name) for role, name in self.columns.items()}
