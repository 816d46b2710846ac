"""Readings in a table of a PostgreSQL database."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ml_assets.ml.errors import DataError
from ml_assets.resources.postgres import Database
from ml_assets.resources.readings.source import ReadingsSource
from ml_assets.settings import without_credentials

if TYPE_CHECKING:
    import pyarrow as pa
    from psycopg2 import sql

_MEMORY_BYTES = 1 << 24
_MAX_BYTES = 1 << 30


class _Bounded:
    """A file to which psycopg2 writes no more than a window may have."""

    def __init__(self, file: Any) -> None:
        self._file, self._left = file, _MAX_BYTES

    def write(self, content: bytes) -> None:
        """Take some more bytes."""
        self._left -= len(content)
        if self._left < 0:
            raise DataError(
                f"at most {_MAX_BYTES} bytes of readings in the days that are read at once",
                "more",
                "correct the name of the table, or remove rows that are no readings",
            )
        self._file.write(content)


class PostgresReadings(ReadingsSource):
    """A table with a time column and seven numeric ones, which is only ever read.

    The time is a `timestamptz`, or a `timestamp` that shows the local time; an index on it keeps
    reading a day cheap. Rows without a time, and those at `infinity`, belong to no day.
    """

    url: str = Field(description="`postgresql://user:password@host:port/name`, as `dg.EnvVar`.")
    table: str = Field(description="The table, `name` or `schema.name`.")
    columns: list[str] = Field(
        description="The time column, then those of the seven values in UCI's order.",
        min_length=8,
        max_length=8,
    )
    timezone: str = Field(description="The time zone of the days, such as `Europe/Paris`.")
    connect_timeout_seconds: int = Field(default=10, ge=2, description="Silence allowed.")
    statement_timeout_seconds: int = Field(
        default=600, ge=1, description="How long reading a window may take."
    )

    def read(self, start: date, end: date) -> "pa.Table":
        """The rows of the local days from `start` to before `end`, in the order of time.

        Returns:
            As in every source; `line` is the number of the row in its day.

        Raises:
            DataError: There is no such table, column or time zone, or they may not be read.
            dagster.Failure: The database does not answer; it may be tried again.
        """
        from ml_assets.resources.readings import lines

        with self._copied(start, end) as file:
            # In the order of time a day is one run, whose lines are counted from 1.
            runs = [run._replace(line=1) for run in lines.find_runs(file, line=1)]
            return lines.table(file, runs)

    def digest(self, start: date, end: date) -> str:
        """SHA-256 of the rows, which are read for it."""
        with self._copied(start, end) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def describe(self) -> str:
        """Where the readings come from, for people."""
        return f"postgres: {self.table} at {without_credentials(self.url)}"

    @contextmanager
    def _copied(self, start: date, end: date) -> Iterator[Any]:
        """A temporary file with the rows of a window in UCI's form."""
        database = Database(
            self.url, "readings", self.connect_timeout_seconds, self.statement_timeout_seconds
        )
        expected = (
            f"the table {self.table} with the columns {', '.join(self.columns)}, read in the "
            f"time zone {self.timezone}"
        )
        with tempfile.SpooledTemporaryFile(_MEMORY_BYTES) as file:
            with database.session(self.timezone, expected) as cursor:
                cursor.copy_expert(self._query(start, end), _Bounded(file))
            file.seek(0)
            yield file

    def _query(self, start: date, end: date) -> "sql.Composed":
        from psycopg2 import sql

        # By its alias: the bare name of a column would mean the text that is selected. Equal
        # times are sorted by their values, so that the same rows always come in one order. The
        # date that the clock shows decides, not a comparison with midnight, which may not exist
        # or come twice; a day more on both sides lets the index help all the same.
        time, *values = [sql.Identifier("readings", name) for name in self.columns]
        return sql.SQL(
            "COPY (SELECT to_char({time}::timestamp, 'FMDD/FMMM/FMYYYY'), {time}::timestamp::time,"
            " {values} FROM {table} AS readings"
            " WHERE {time} >= {start}::date - 1 AND {time} < {end}::date + 1"
            " AND {time}::date >= {start}::date AND {time}::date < {end}::date"
            " ORDER BY {time}::date, {time}, {values})"
            " TO STDOUT (DELIMITER ';', NULL '?')"
        ).format(
            time=time,
            values=sql.SQL(", ").join(values),
            table=sql.Identifier(*self.table.split(".")),
            start=sql.Literal(start.isoformat()),
            end=sql.Literal(end.isoformat()),
        )
