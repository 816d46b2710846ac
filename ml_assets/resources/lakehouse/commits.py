"""Commits: whoever loses a conflict between writers of a table tries again.

A commit replaces a whole window or nothing. Loaded when a step runs.
"""

import uuid
from collections.abc import Callable
from typing import TypeVar

import dagster as dg
import pyarrow as pa
import tenacity
from pyiceberg import exceptions
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.expressions import BooleanExpression
from pyiceberg.table import Table, Transaction
from pyiceberg.transforms import DayTransform, MonthTransform
from sqlalchemy.exc import DBAPIError

from ml_assets.ml.errors import DataError
from ml_assets.resources.lakehouse.catalog import namespace, require_own
from ml_assets.resources.lakehouse.schemas import fitting, time_column

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
    try:
        return retrying(attempt, catalog)
    except _CONFLICTS as error:
        raise dg.Failure(
            f"{table}: expected a commit within {seconds:g} seconds; found {type(error).__name__}: "
            f"{error}. Remedy: see that the catalog answers and that fewer runs write this table "
            "at a time; then run again: the same window is replaced."
        ) from error


def replace(
    catalog: SqlCatalog,
    table: str,
    rows: pa.Table,
    column: str,
    window: BooleanExpression,
    partition_by: str,
) -> int:
    """Commit the rows in place of all rows of the window; the id of the snapshot that has them."""
    catalog.create_namespace_if_not_exists(namespace(table))
    try:
        found = catalog.load_table(table)
    except exceptions.NoSuchTableError:
        created = _creation(catalog, table, rows, column, partition_by).commit_transaction()
        require_own(catalog, created)
        return created.metadata.current_snapshot_id
    require_own(catalog, found)
    _check_time_column(found, table, column)
    empty = next(iter(found.scan(window).plan_files()), None) is None
    if empty and not len(rows):  # a holiday, say: a commit costs as much as a day's rows
        return found.metadata.current_snapshot_id
    transaction = found.transaction()
    with fitting(table, rows), transaction.update_schema() as update:
        update.union_by_name(rows.schema)
    if empty:
        # PyIceberg warns of an overwrite that finds nothing, which every new partition would be.
        transaction.append(rows)
    else:
        transaction.overwrite(rows, overwrite_filter=window)
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


def _check_time_column(found: Table, table: str, column: str) -> None:
    if time_column(found) != column:
        raise DataError(
            f"the time column {time_column(found)} of {table}",
            column,
            "write the table by that column",
        )
