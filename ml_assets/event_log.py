"""Dagster's event log in SQLite, with connections that stay open.

Dagster opens and closes a database for every event, and every close waits for the disk: ten
milliseconds an event and more, which is most of a backfill's time. Here an event still survives a
killed process; a power failure may take the last moments of the log, never its integrity.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.sql import create_engine
from dagster._serdes import ConfigurableClassData

_OPEN = 4
"""How many databases, one a run, stay open at a time."""


class EventLogStorage(SqliteEventLogStorage):
    """Configured in `dagster.yaml`; the databases are where Dagster's own storage has them."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: dict[str, sqlalchemy.Engine] = {}
        super().__init__(base_dir, inst_data)

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """It takes no configuration."""
        return {}

    @classmethod
    def from_config_value(
        cls,
        inst_data: ConfigurableClassData | None,
        config_value: Any,  # noqa: ARG003 - part of the interface
    ) -> "EventLogStorage":
        """The storage below `DAGSTER_HOME`."""
        return cls(str(Path(os.environ["DAGSTER_HOME"]) / "history" / "runs"), inst_data)

    def dispose(self) -> None:
        """Close what is open."""
        super().dispose()
        for engine in self._engines.values():
            engine.dispose()

    @contextmanager
    def _connect(self, shard: str) -> Iterator[sqlalchemy.Connection]:
        with self._db_lock:
            with self._engine(shard).connect() as connection, connection.begin():
                yield connection
            # Who watches a run, such as its page, waits for its file to change, and not for the
            # write-ahead log beside it.
            Path(self.path_for_shard(shard)).touch()

    def _engine(self, shard: str) -> sqlalchemy.Engine:
        engine = self._engines.pop(shard, None)
        if engine is None:
            engine = create_engine(
                self.conn_string_for_shard(shard),
                connect_args={"timeout": 60, "check_same_thread": False},
            )
            sqlalchemy.event.listen(engine, "connect", _do_not_wait_for_the_disk)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
        self._engines[shard] = engine  # the latest used is the last
        if len(self._engines) > _OPEN:
            self._engines.pop(next(iter(self._engines))).dispose()
        return engine


def _do_not_wait_for_the_disk(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA synchronous = NORMAL")
