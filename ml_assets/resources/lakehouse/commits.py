"""Commits: writers of a table take turns, and who loses a conflict tries again.

A commit replaces a whole window or nothing. Loaded when a step runs.
"""

import logging
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import TypeVar

import dagster as dg
import pyarrow as pa
import tenacity
from pyiceberg import exceptions
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.expressions import BooleanExpression
from pyiceberg.table import Table, Transaction
from pyiceberg.transforms import DayTransform, MonthTransform
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from ml_assets.ml.errors import DataError
from ml_assets.resources.lakehouse.catalog import NAME, namespace
from ml_assets.resources.lakehouse.schemas import fitting, time_column

logger = logging.getLogger(__name__)

T = TypeVar("T")

_PROPERTIES = {
    # PyIceberg's own retry would keep an append that was planned before another writer filled
    # the same window: the rows would be there twice. `committed` plans anew.
    "commit.retry.num-retries": "0",
    # Each commit adds a manifest, all of which a read opens, and a version of the metadata.
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "20",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
}
_CONFLICTS = (
    exceptions.CommitFailedException,
    exceptions.ValidationException,
    exceptions.NamespaceAlreadyExistsError,
    exceptions.TableAlreadyExistsError,
    DBAPIError,
)


def committed(
    catalog: SqlCatalog, table: str, seconds: float, attempt: Callable[[SqlCatalog], T]
) -> T:
    """Call `attempt` until its commit goes through, each time on the table as it is then.

    Trying again is safe even where the outcome is unknown: the same window is replaced.

    Raises:
        dagster.Failure: The catalog does not answer, or others kept committing.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(_CONFLICTS),
        wait=tenacity.wait_random_exponential(multiplier=0.05, max=2),
        stop=tenacity.stop_after_delay(seconds),
        reraise=True,
    )
    with _turn(catalog.engine, table, seconds):
        try:
            return retrying(attempt, catalog)
        except _CONFLICTS as error:
            raise dg.Failure(
                f"{table}: expected a commit within {seconds:g} seconds; found "
                f"{type(error).__name__}: {error}. Remedy: see that the catalog "
                "answers and that fewer runs write this table at a time; then run again: the same "
                "window is replaced."
            ) from error


def replace(
    catalog: SqlCatalog,
    table: str,
    rows: pa.Table,
    column: str,
    window: BooleanExpression,
    partition_by: str,
) -> int:
    """Commit the rows in place of all rows of the window; the id of the snapshot made."""
    catalog.create_namespace_if_not_exists(namespace(table))
    try:
        found = catalog.load_table(table)
    except exceptions.NoSuchTableError:
        transaction = _creation(catalog, table, rows, column, partition_by)
    else:
        transaction = _replacement(found, table, rows, column, window)
    return transaction.commit_transaction().metadata.current_snapshot_id


def _creation(
    catalog: SqlCatalog, table: str, rows: pa.Table, column: str, partition_by: str
) -> Transaction:
    """A transaction that creates the table with its partitions and first rows, all at once."""
    # A place of its own: upkeep deletes what it does not know there, so the table of another
    # catalog with the same warehouse must not share it.
    place = f"{table.replace('.', '/')}-{uuid.uuid4().hex[:8]}"
    with fitting(table, rows):
        transaction = catalog.create_table_transaction(
            table,
            rows.schema,
            location=f"{catalog.properties['warehouse'].rstrip('/')}/{place}",
            properties=_PROPERTIES,
        )
    transform = {"day": DayTransform(), "month": MonthTransform()}[partition_by]
    with transaction.update_spec() as spec:
        spec.add_field(column, transform, f"{column}_{partition_by}")
    transaction.append(rows)
    return transaction


def _replacement(
    found: Table, table: str, rows: pa.Table, column: str, window: BooleanExpression
) -> Transaction:
    """A transaction that replaces the rows of the window and adds the columns that are new."""
    if time_column(found) != column:
        raise DataError(
            f"the time column {time_column(found)} of {table}",
            column,
            "write the table by that column",
        )
    transaction = found.transaction()
    with fitting(table, rows), transaction.update_schema() as update:
        update.union_by_name(rows.schema)
    if next(iter(found.scan(window).plan_files()), None):
        transaction.overwrite(rows, overwrite_filter=window)
    else:
        # PyIceberg warns of an overwrite that finds nothing, which every new partition would be.
        transaction.append(rows)
    return transaction


@contextmanager
def _turn(engine: Engine, table: str, seconds: float) -> Iterator[None]:
    """Wait until the others that write the table are done, but no longer than `seconds`.

    Writers that take turns do not undo each other's work; without turns, 30 at once did not
    all succeed within two minutes. Whoever waits in vain goes on: the lock only saves work,
    and the catalog refuses a commit on a table that has changed. A process that dies loses it.
    """
    with ExitStack() as held:
        try:
            if engine.dialect.name == "postgresql":
                _lock_postgres(held.enter_context(engine.connect()), table, seconds)
            elif engine.url.database:
                lock = f"{engine.url.database}.{table}.lock"
                held.enter_context(closing(sqlite3.connect(lock, seconds))).execute(
                    "BEGIN EXCLUSIVE"
                )
        except (sqlite3.OperationalError, DBAPIError) as error:
            logger.warning("%s: writing without a turn after %g s: %s", table, seconds, error)
        yield


def _lock_postgres(connection: Connection, table: str, seconds: float) -> None:
    """Lock until the connection's transaction ends, in this process or with it."""
    limit = {"limit": f"{seconds * 1000:.0f}ms"}
    connection.execute(text("SELECT set_config('lock_timeout', :limit, true)"), limit)
    name = {"name": f"{NAME} {table}"}
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), name)
