"""Reading from PostgreSQL: a session that cannot write, and what its errors mean.

Which tables are read, and how, is the sources' business.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets.ml.errors import DataError
from ml_assets.resources.database_urls import parsed
from ml_assets.settings import without_credentials

if TYPE_CHECKING:
    from psycopg2 import extensions

_GRACE_SECONDS = 5


@dataclass(frozen=True)
class Database:
    """A database that is only ever read.

    Attributes:
        url: `postgresql://user:password@host:port/name`.
        owner: Whose database errors speak of, such as `readings`.
        connect_timeout_seconds: Silence allowed.
        statement_timeout_seconds: How long a statement may take.
    """

    url: str
    owner: str
    connect_timeout_seconds: int
    statement_timeout_seconds: int

    @contextmanager
    def session(self, timezone: str, expected: str) -> Iterator["extensions.cursor"]:
        """A cursor in a transaction that cannot write and shows times in a time zone.

        Args:
            timezone: Such as `Europe/Paris`.
            expected: What errors say should have been there: the table with its columns.

        Raises:
            DataError: There is no such table, column or time zone, or they may not be read.
            dagster.Failure: The database does not answer; it may be tried again.
        """
        with (
            self._reported(expected),
            closing(self._connected()) as connection,
            self._ended_in_time(connection),
        ):
            cursor = connection.cursor()
            cursor.execute(
                "SELECT set_config('TimeZone', %s, true), "
                "set_config('statement_timeout', %s, true)",
                (timezone, f"{self.statement_timeout_seconds}s"),
            )
            yield cursor

    def _connected(self) -> "extensions.connection":
        import psycopg2

        connection = psycopg2.connect(**self._parameters())
        connection.set_session(readonly=True)
        return connection

    @contextmanager
    def _ended_in_time(self, connection: "extensions.connection") -> Iterator[None]:
        """Hang up when a session takes too long: a server that hangs keeps no time limit."""
        line = socket.socket(fileno=os.dup(connection.fileno()))

        def hang_up() -> None:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(self.statement_timeout_seconds + _GRACE_SECONDS, hang_up)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            line.close()

    def _parameters(self) -> dict[str, Any]:
        """What libpq is told, taken from the URL as SQLAlchemy reads it."""
        url = parsed(self.url, f"URL of the {self.owner}' database", sqlite=False)
        known = url.translate_connect_args(username="user", database="dbname")
        return {"connect_timeout": self.connect_timeout_seconds} | known | dict(url.query)

    @contextmanager
    def _reported(self, expected: str) -> Iterator[None]:
        """Errors of the database, with what to do about them."""
        import psycopg2

        try:
            yield
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            raise dg.Failure(
                f"The {self.owner}' database at {without_credentials(self.url)} failed: "
                f"{_one_line(error)}. Expected: a database that answers within "
                f"{self.statement_timeout_seconds} s. Remedy: start it, or correct its URL; if "
                "reading takes too long, create an index on the time column."
            ) from error
        except psycopg2.Error as error:
            raise DataError(
                expected,
                _one_line(error),
                "correct the names of table and columns, or grant SELECT on the table",
            ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
