"""Readings in a table of a PostgreSQL database."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from ml_assets.ml.errors import DataError
from ml_assets.resources.readings.source import ReadingsSource
from ml_assets.settings import without_credentials

if TYPE_CHECKING:
    import pyarrow as pa
    from psycopg2 import extensions, sql

_MEMORY_BYTES = 1 << 24


class PostgresReadings(ReadingsSource):
    """A table with a time column and seven numeric ones, which is only ever read.

    The time is a `timestamptz`, or a `timestamp` that shows the local time; an index on it keeps
    reading a day cheap. Rows without a time belong to no day.
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
        with tempfile.SpooledTemporaryFile(_MEMORY_BYTES) as file:
            with self._reported(), closing(self._connected()) as connection:
                cursor = connection.cursor()
                cursor.execute(
                    "SELECT set_config('TimeZone', %s, true), "
                    "set_config('statement_timeout', %s, true)",
                    (self.timezone, f"{self.statement_timeout_seconds}s"),
                )
                cursor.copy_expert(self._query(start, end), file)
            file.seek(0)
            yield file

    def _query(self, start: date, end: date) -> "sql.Composed":
        from psycopg2 import sql

        # By its alias: the bare name of a column would mean the text that is selected. Equal
        # times are sorted by their values, so that the same rows always come in one order.
        time, *values = [sql.Identifier("readings", name) for name in self.columns]
        return sql.SQL(
            "COPY (SELECT to_char({time}::timestamp, 'FMDD/FMMM/FMYYYY'), {time}::timestamp::time,"
            " {values} FROM {table} AS readings"
            " WHERE {time} >= {start}::date AND {time} < {end}::date ORDER BY {time}, {values})"
            " TO STDOUT (DELIMITER ';', NULL '?')"
        ).format(
            time=time,
            values=sql.SQL(", ").join(values),
            table=sql.Identifier(*self.table.split(".")),
            start=sql.Literal(start.isoformat()),
            end=sql.Literal(end.isoformat()),
        )

    def _connected(self) -> "extensions.connection":
        """A connection that cannot write."""
        import psycopg2

        connection = psycopg2.connect(**self._parameters())
        connection.set_session(readonly=True)
        return connection

    def _parameters(self) -> dict[str, Any]:
        """What libpq is told, taken from the URL as SQLAlchemy reads it."""
        from sqlalchemy import make_url
        from sqlalchemy.exc import ArgumentError

        try:
            url = make_url(self.url)
            readable = url.get_backend_name() == "postgresql"
        except (ArgumentError, ValueError):
            readable = False
        if not readable:
            # The error is left out: it may quote a piece of the password.
            raise dg.Failure(
                "The URL of the readings' database cannot be read. Expected: "
                "`postgresql://user:password@host:port/name`, special characters in the password "
                "percent-encoded. Remedy: correct the URL; it is not shown, it may hold a "
                "password.",
                allow_retries=False,
            )
        known = url.translate_connect_args(username="user", database="dbname")
        return {"connect_timeout": self.connect_timeout_seconds} | known | dict(url.query)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Errors of the database, with what to do about them."""
        import psycopg2

        try:
            yield
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            raise dg.Failure(
                f"The readings' database at {without_credentials(self.url)} failed: "
                f"{_one_line(error)}. Expected: a database that answers within "
                f"{self.statement_timeout_seconds} s. Remedy: start it, or correct its URL; if "
                "reading takes too long, create an index on the time column."
            ) from error
        except psycopg2.Error as error:
            raise DataError(
                f"the table {self.table} with the columns {', '.join(self.columns)}, read in the "
                f"time zone {self.timezone}",
                _one_line(error),
                "correct the names of table and columns, or grant SELECT on the table",
            ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
