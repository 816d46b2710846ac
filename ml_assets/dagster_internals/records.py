"""Records of runs, schedules and sensors, read one by one, held by `test_dagster_internals.py`."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import dagster as dg
import sqlalchemy
from dagster._core.event_api import EventLogCursor
from dagster._core.scheduler.instigation import InstigatorState
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.schedules.schema import InstigatorsTable
from dagster._core.storage.schedules.sql_schedule_storage import SqlScheduleStorage
from dagster._serdes import deserialize_value


class Ending(NamedTuple):
    """That a run ended.

    Attributes:
        run_id: The run.
        kind: The type of the event, such as `PIPELINE_FAILURE`.
        timestamp: When, in seconds since 1970.
        storage_id: The place of the event in Dagster's index; 0 if it is not known.
    """

    run_id: str
    kind: str
    timestamp: float
    storage_id: int = 0

    @property
    def cursor(self) -> str:
        """Where the next reading begins."""
        return EventLogCursor.from_storage_id(self.storage_id).to_string()


def run_endings(
    instance: dg.DagsterInstance,
    kind: dg.DagsterEventType,
    *,
    after: str | None,
    since: float,
    limit: int,
) -> list[Ending]:
    """Read which runs ended in a way, oldest first, without the events themselves.

    `fetch_run_status_changes` deserializes the events: of one that is damaged it raises, for ever,
    or leaves it out without a word.

    Args:
        instance: Where to read.
        kind: The type of the event.
        after: The cursor of the last ending that is known.
        since: Nothing from before this time is read.
        limit: How many to read at most.
    """
    storage = instance.event_log_storage
    assert isinstance(storage, SqlEventLogStorage)  # noqa: S101 - SQLite and PostgreSQL both are
    table = SqlEventLogStorageTable.c
    query = (
        sqlalchemy.select(table.id, table.run_id, table.timestamp)
        .where(table.dagster_event_type == kind.value)
        .where(table.timestamp > datetime.fromtimestamp(since, UTC).replace(tzinfo=None))
        .order_by(table.id)
        .limit(limit)
    )
    if after:
        query = query.where(table.id > EventLogCursor.parse(after).storage_id())
    with storage.index_connection() as connection:
        rows = connection.execute(query).all()
    return [
        Ending(row.run_id, kind.value, row.timestamp.replace(tzinfo=UTC).timestamp(), row.id)
        for row in rows
    ]


def instigator_states(
    instance: dg.DagsterInstance,
) -> Iterator[tuple[str, InstigatorState | Exception]]:
    """Read the state of each schedule and sensor, or why it cannot be read, by its selector.

    `DagsterInstance.all_instigator_state` raises if one of them is damaged.
    """
    storage = instance.schedule_storage
    assert isinstance(storage, SqlScheduleStorage)  # noqa: S101 - SQLite and PostgreSQL both are
    table = InstigatorsTable.c
    for selector, body in storage.execute(
        sqlalchemy.select(table.selector_id, table.instigator_body).order_by(table.id)
    ):
        try:
            yield selector, deserialize_value(body, InstigatorState)
        except Exception as error:
            yield selector, error


def run_events_file(instance: dg.DagsterInstance, run_id: str) -> str:
    """The database that holds a run's events, where each run has one of its own; else empty."""
    path_for_shard = getattr(instance.event_log_storage, "path_for_shard", None)
    return str(path_for_shard(run_id)) if path_for_shard else ""
