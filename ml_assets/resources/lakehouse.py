"""The lakehouse: Iceberg tables, read and replaced by windows of time.

PyIceberg does the work; here stand the windows, the retries and the upkeep. A table is named
`group.name` and has one time column. What is in a table is the group's business.
"""

import logging
import re
import sqlite3
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import dagster as dg
from pydantic import Field

from ml_assets.ml.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.catalog.sql import SqlCatalog
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.table import Table, Transaction
    from sqlalchemy import URL, Connection, Engine

logger = logging.getLogger(__name__)

Period = Literal["day", "month"]
"""What a partition of a table spans."""

T = TypeVar("T")

_CATALOG = "ml_assets"
_PROPERTIES = {
    # PyIceberg's own retry gives up where windows overlap and keeps a stale plan; see `_commit`.
    "commit.retry.num-retries": "0",
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "20",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
}
_SMALL_FILE_BYTES = 32 * 2**20
_OPEN_ATTEMPTS = 5


@dataclass(frozen=True)
class WriteResult:
    """What a write did.

    Attributes:
        table: The table, `group.name`.
        snapshot_id: The snapshot that the write made: `read` can read the table as of it.
        rows: Number of rows written.
        start: Start of the replaced window.
        end: End of it, not included.
    """

    table: str
    snapshot_id: int
    rows: int
    start: datetime
    end: datetime

    def metadata(self) -> dict[str, Any]:
        """The same for `dg.MaterializeResult`; ids as text, for they exceed JSON's integers."""
        return {
            "dagster/partition_row_count": self.rows,
            "table": self.table,
            "snapshot_id": str(self.snapshot_id),
            "window": f"{self.start.isoformat()} to {self.end.isoformat()}",
        }


@dataclass(frozen=True)
class Upkeep:
    """What the upkeep of a table did.

    Attributes:
        table: The table, `group.name`.
        compacted_partitions: Partitions whose small files became one.
        data_files: Number of data files before and after.
        expired_snapshots: Snapshots that can no longer be read.
        deleted_files: Files deleted, because no snapshot needs them.
        deleted_bytes: Their size.
    """

    table: str
    compacted_partitions: int
    data_files: tuple[int, int]
    expired_snapshots: int
    deleted_files: int
    deleted_bytes: int


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
        description="How long a write waits for its turn when others write the same table, and "
        "how long it then tries again where they commit regardless.",
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
        """Replace all rows of a time window, in one commit.

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
        from pyiceberg.exceptions import NoSuchTableError

        namespace, _ = _names(table)
        rows = _within(table, _timed(table, rows, column), column, start, end)
        window = _between(column, start, end)

        def attempt(catalog: "SqlCatalog") -> int:
            _create_namespace(catalog, namespace)
            try:
                found = catalog.load_table(table)
            except NoSuchTableError:
                transaction = _creation(catalog, table, rows, column, partition_by)
            else:
                transaction = _replacement(found, table, rows, column, window)
            return _current(transaction.commit_transaction())

        return WriteResult(table, self._commit(table, attempt), len(rows), start, end)

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
        _check_window(start, end)
        with self._open() as catalog:
            found = _load(catalog, table)
            time_column, _ = _partitioning(found)
            schema = _schema(found, snapshot_id)
            if unknown := [name for name in columns or () if name not in schema]:
                raise DataError(
                    f"the columns {', '.join(columns or ())} of {table}",
                    f"no {', '.join(unknown)} among {', '.join(schema)}",
                    "correct the names, or read a snapshot that has the columns",
                )
            fields = ("*",) if columns is None else tuple(dict.fromkeys([*columns, time_column]))
            window = _between(time_column, start, end)
            rows = found.scan(window, selected_fields=fields, snapshot_id=snapshot_id).to_arrow()
            # PyIceberg gives other types of strings when there are no rows.
            return _plain(rows.sort_by(time_column).select(columns or rows.column_names))

    def snapshot_id(self, table: str) -> int:
        """The present snapshot of a table.

        Raises:
            DataError: There is no such table.
            dagster.Failure: The catalog does not answer.
        """
        with self._open() as catalog:
            return _current(_load(catalog, table))

    def tables(self, namespace: str) -> list[str]:
        """The tables of a namespace as `group.name`, sorted; none if there is no namespace.

        Raises:
            dagster.Failure: The catalog does not answer.
        """
        with self._open() as catalog:
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
        now = datetime.now(UTC)
        # First make room: on a full disk, forgetting a snapshot is already a write too many.
        sizes = self._delete_orphans(table, now - grace)
        expired = self._commit(table, partial(_expire, table=table, cutoff=now - keep))
        sizes += self._delete_orphans(table, now - grace)
        before, scattered = self._files(table)
        for partition in scattered:
            self._commit(table, partial(_compact, table=table, partition=partition))
        return Upkeep(
            table=table,
            compacted_partitions=len(scattered),
            data_files=(before, self._files(table)[0]),
            expired_snapshots=expired,
            deleted_files=len(sizes),
            deleted_bytes=sum(sizes),
        )

    def _files(self, table: str) -> tuple[int, list[int]]:
        """Number of data files, and the partitions that have several small ones."""
        with self._open() as catalog:
            files = [task.file for task in _load(catalog, table).scan().plan_files()]
        small = Counter(
            file.partition[0] for file in files if file.file_size_in_bytes < _SMALL_FILE_BYTES
        )
        return len(files), sorted(value for value, number in small.items() if number > 1)

    def _delete_orphans(self, table: str, cutoff: datetime) -> list[int]:
        """Delete the files last changed before `cutoff` that no snapshot needs; their sizes."""
        from upath import UPath

        with self._open() as catalog:
            location = UPath(_load(catalog, table).location())
            # Listed before the table is loaded: what is committed in between is then known.
            listed = [(path, path.stat()) for path in location.rglob("*") if path.is_file()]
            needed = {UPath(path).path for path in _needed(_load(catalog, table))}
        sizes = []
        for path, stat in listed:
            if path.path not in needed and stat.st_mtime < cutoff.timestamp():
                path.unlink()
                sizes.append(stat.st_size)
        return sizes

    def _commit(self, table: str, attempt: Callable[["SqlCatalog"], T]) -> T:
        """Call `attempt` until its commit goes through, each time on the table as it is then.

        Trying again is safe even where the outcome is unknown: the same window is replaced.
        """
        import tenacity
        from pyiceberg import exceptions
        from sqlalchemy.exc import DBAPIError

        conflicts = (
            exceptions.CommitFailedException,
            exceptions.ValidationException,
            exceptions.NamespaceAlreadyExistsError,
            exceptions.TableAlreadyExistsError,
            DBAPIError,
        )
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(conflicts),
            wait=tenacity.wait_random_exponential(multiplier=0.05, max=2),
            stop=tenacity.stop_after_delay(self.commit_timeout_seconds),
            reraise=True,
        )
        with self._open() as catalog, _turn(catalog.engine, table, self.commit_timeout_seconds):
            try:
                return retrying(attempt, catalog)
            except conflicts as error:
                raise dg.Failure(
                    f"{table}: expected a commit within {self.commit_timeout_seconds:g} seconds; "
                    f"found {type(error).__name__}: {error}. Remedy: see that the catalog "
                    f"{self._shown_uri()} answers and that fewer runs write this table at a time; "
                    "then run again: the same window is replaced."
                ) from error

    @contextmanager
    def _open(self) -> Iterator["SqlCatalog"]:
        """The catalog, its database tables created when missing."""
        import tenacity
        from pyiceberg.catalog.sql import SqlCatalog
        from sqlalchemy.exc import DBAPIError

        uri = self._url().render_as_string(hide_password=False)
        # Two processes may create the catalog's tables at once: the slower one fails, and
        # finds them the next time.
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(DBAPIError),
            wait=tenacity.wait_random_exponential(multiplier=0.05, max=1),
            stop=tenacity.stop_after_attempt(_OPEN_ATTEMPTS),
            reraise=True,
        )
        try:
            catalog = retrying(SqlCatalog, _CATALOG, uri=uri, **self._file_settings())
        except DBAPIError as error:
            raise dg.Failure(
                f"The lakehouse's catalog at {self._shown_uri()} failed: {error.orig}. Expected: "
                "a database that answers. Remedy: start it, or correct the catalog URI."
            ) from error
        with catalog:
            yield catalog

    def _url(self) -> "URL":
        """The catalog's URL with its driver and time limits; SQLite's directory is created."""
        url = _parsed(self.catalog_uri)
        if url.get_backend_name() == "postgresql":
            # SQLAlchemy 2.1 would take psycopg 3.
            limited = {"connect_timeout": "10", **url.query}
            return url.set(drivername="postgresql+psycopg2", query=limited)
        if url.database:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        return url.set(query={"timeout": "30", **url.query})

    def _shown_uri(self) -> str:
        """The catalog's URI without password and options."""
        return _parsed(self.catalog_uri).set(password=None, query={}).render_as_string()

    def _file_settings(self) -> dict[str, str]:
        from pyiceberg.io import SCHEMA_TO_FILE_IO

        scheme, separator, _ = self.warehouse.partition("://")
        if not separator:
            return {"warehouse": str(Path(self.warehouse).absolute())}
        if scheme in SCHEMA_TO_FILE_IO:
            return {"warehouse": self.warehouse}
        implementation = "ml_assets.resources.lakehouse_files.AnyFileIO"
        return {"warehouse": self.warehouse, "py-io-impl": implementation}


def _names(table: str) -> tuple[str, str]:
    """Namespace and name of a table.

    >>> _names("power.readings")
    ('power', 'readings')
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*", table):
        raise DataError(
            "a table named `group.name`, in lower case", repr(table), "correct the name"
        )
    namespace, _, name = table.partition(".")
    return namespace, name


def _parsed(uri: str) -> "URL":
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        # `postgres://` is another name that SQLAlchemy does not know.
        url = make_url(re.sub(r"^postgres://", "postgresql://", uri))
    except (ArgumentError, ValueError):
        # The error may quote a piece of the password: it is not shown.
        url = None
    if url is None or url.get_backend_name() not in {"postgresql", "sqlite"}:
        raise dg.Failure(
            "The lakehouse's catalog URI cannot be read. Expected: `sqlite:///path` or "
            "`postgresql://user:password@host:port/name`, special characters in the password "
            "percent-encoded. Remedy: correct the URI; it is not shown, it may hold a password.",
            allow_retries=False,
        )
    return url


def _check_window(start: datetime, end: datetime) -> None:
    if start.utcoffset() is None or end.utcoffset() is None or start >= end:
        raise DataError(
            "a window from an earlier to a later time, both with a time zone",
            f"{start.isoformat()} to {end.isoformat()}",
            "pass `datetime`s with `tzinfo`, the earlier one first",
        )


def _timed(table: str, rows: "pa.Table", column: str) -> "pa.Table":
    """The rows in the types that Iceberg keeps, after a look at their time column."""
    import pyarrow as pa

    found = rows.schema.field(column).type if column in rows.column_names else None
    if found is None or not pa.types.is_timestamp(found) or found.tz is None:
        raise DataError(
            f"the time column {column} of {table}, a timestamp with a time zone",
            "no such column" if found is None else str(found),
            "convert the column to UTC before writing it",
        )
    try:
        return _plain(rows)
    except pa.ArrowInvalid as error:
        raise DataError(
            f"values of {table} that can be kept: times in whole microseconds, integers of 64 bits",
            str(error),
            "round the times, or convert the column",
        ) from error


def _plain(rows: "pa.Table") -> "pa.Table":
    """The rows in the types that Iceberg keeps, so that all files of a table are alike."""
    import pyarrow as pa

    return rows.cast(pa.schema([field.with_type(_kept(field.type)) for field in rows.schema]))


def _kept(kind: "pa.DataType") -> "pa.DataType":
    """The type in which Iceberg keeps values of a type."""
    import pyarrow as pa

    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    if pa.types.is_dictionary(kind):
        return _kept(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_integer(kind):
        return pa.int32() if kind.bit_width < 32 or kind == pa.int32() else pa.int64()
    return pa.float32() if pa.types.is_float16(kind) else kind


def _within(
    table: str, rows: "pa.Table", column: str, start: datetime, end: datetime
) -> "pa.Table":
    """The rows sorted by time, which must lie within the window."""
    import pyarrow.compute as pc

    _check_window(start, end)
    times = rows[column]
    first, last = pc.min_max(times).as_py().values()
    if times.null_count or (len(times) and not (start <= first and last < end)):
        raise DataError(
            f"rows of {table} with {column} from {start.isoformat()} to before {end.isoformat()}",
            f"{len(times)} rows from {first} to {last}, {times.null_count} without a time",
            "filter the rows, or write them to the window they belong to",
        )
    return rows.sort_by(column)


def _between(column: str, start: datetime, end: datetime) -> "BooleanExpression":
    from pyiceberg.expressions import And, GreaterThanOrEqual, LessThan

    return And(
        GreaterThanOrEqual(column, start.astimezone(UTC).isoformat()),
        LessThan(column, end.astimezone(UTC).isoformat()),
    )


def _create_namespace(catalog: "SqlCatalog", namespace: str) -> None:
    from pyiceberg.exceptions import NamespaceAlreadyExistsError
    from sqlalchemy.exc import IntegrityError

    try:
        catalog.create_namespace_if_not_exists(namespace)
    except (NamespaceAlreadyExistsError, IntegrityError):
        # Somebody else created it a moment ago.
        return


def _creation(
    catalog: "SqlCatalog", table: str, rows: "pa.Table", column: str, partition_by: Period
) -> "Transaction":
    """A transaction that creates the table with its partitions and first rows, all at once."""
    from pyiceberg.transforms import DayTransform, MonthTransform

    transform = DayTransform() if partition_by == "day" else MonthTransform()
    # A place of its own: upkeep deletes what it does not know there, so the table of another
    # catalog with the same warehouse must not share it.
    place = f"{table.replace('.', '/')}-{uuid.uuid4().hex[:8]}"
    with _fitting(table, rows):
        transaction = catalog.create_table_transaction(
            table,
            rows.schema,
            location=f"{catalog.properties['warehouse'].rstrip('/')}/{place}",
            properties=_PROPERTIES,
        )
    with transaction.update_spec() as spec:
        spec.add_field(column, transform, f"{column}_{partition_by}")
    transaction.append(rows)
    return transaction


def _replacement(
    found: "Table", table: str, rows: "pa.Table", column: str, window: "BooleanExpression"
) -> "Transaction":
    """A transaction that replaces the rows of the window and adds the columns that are new.

    It reads and rewrites only the files that reach beyond the window.
    """
    time_column, _ = _partitioning(found)
    if time_column != column:
        raise DataError(
            f"the time column {time_column} of {table}", column, "write the table by that column"
        )
    transaction = found.transaction()
    with _fitting(table, rows), transaction.update_schema() as update:
        update.union_by_name(rows.schema)
    if next(iter(found.scan(window).plan_files()), None):
        transaction.overwrite(rows, overwrite_filter=window)
    else:
        transaction.append(rows)
    return transaction


@contextmanager
def _fitting(table: str, rows: "pa.Table") -> Iterator[None]:
    """Report columns that Iceberg, or the table, cannot take as a `DataError`."""
    from pyiceberg.exceptions import ValidationError
    from pyiceberg.io.pyarrow import UnsupportedPyArrowTypeException

    try:
        yield
    except (TypeError, ValueError, ValidationError, UnsupportedPyArrowTypeException) as error:
        columns = ", ".join(f"{field.name} {field.type}" for field in rows.schema)
        raise DataError(
            f"columns that fit the table {table}",
            f"{columns}: {error}",
            "give the columns the types they have in the table; new columns need a type too",
        ) from error


@contextmanager
def _turn(engine: "Engine", table: str, seconds: float) -> Iterator[None]:
    """Wait until the others that write the table are done, but no longer than `seconds`.

    Writers that take turns do not undo each other's work; without turns, 30 at once did not
    all succeed within two minutes. Whoever waits in vain goes on: the lock only saves work,
    and the catalog refuses a commit on a table that has changed. A process that dies loses it.
    """
    from sqlalchemy.exc import DBAPIError

    with ExitStack() as held:
        try:
            if engine.dialect.name == "postgresql":
                _lock_postgres(held.enter_context(engine.connect()), table, seconds)
            elif engine.url.database:
                lock = f"{engine.url.database}.{table}.lock"
                _lock_sqlite(held.enter_context(closing(sqlite3.connect(lock, seconds))))
        except (sqlite3.OperationalError, DBAPIError) as error:
            logger.warning("%s: writing without a turn after %g s: %s", table, seconds, error)
        yield


def _lock_postgres(connection: "Connection", table: str, seconds: float) -> None:
    """Lock until the connection's transaction ends, in this process or with it."""
    from sqlalchemy import text

    limit = {"limit": f"{seconds * 1000:.0f}ms"}
    connection.execute(text("SELECT set_config('lock_timeout', :limit, true)"), limit)
    name = {"name": f"{_CATALOG} {table}"}
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), name)


def _lock_sqlite(connection: sqlite3.Connection) -> None:
    """Lock until the connection is closed, by this process or with it."""
    connection.execute("BEGIN EXCLUSIVE")


def _load(catalog: "SqlCatalog", table: str) -> "Table":
    from pyiceberg.exceptions import NoSuchTableError

    _names(table)
    try:
        return catalog.load_table(table)
    except NoSuchTableError as error:
        raise DataError(
            f"the table {table}", "no such table", "materialize the asset that writes it"
        ) from error


def _current(table: "Table") -> int:
    """The present snapshot; every commit of this module makes one, the first one included."""
    snapshot = table.current_snapshot()
    if snapshot is None:
        raise DataError(
            f"a snapshot of {'.'.join(table.name())}",
            "a table without snapshots",
            "drop the table, which something else than this project created",
        )
    return snapshot.snapshot_id


def _partitioning(table: "Table") -> tuple[str, str]:
    """The time column of a table, and what its partitions span."""
    [field] = table.spec().fields
    return table.schema().find_field(field.source_id).name, str(field.transform)


def _schema(table: "Table", snapshot_id: int | None) -> list[str]:
    """The names of the columns that a table has, or had in a snapshot."""
    if snapshot_id is not None and table.snapshot_by_id(snapshot_id) is None:
        raise DataError(
            f"the snapshot {snapshot_id} of {'.'.join(table.name())}",
            "no such snapshot",
            "it may have expired: read the present rows, or a younger snapshot",
        )
    return [field.name for field in table.scan(snapshot_id=snapshot_id).projection().fields]


def _period(transform: str, value: int) -> tuple[datetime, datetime]:
    """Start and end of a partition.

    >>> [edge.date().isoformat() for edge in _period("month", 11)]
    ['1970-12-01', '1971-01-01']
    >>> [edge.date().isoformat() for edge in _period("day", 31)]
    ['1970-02-01', '1970-02-02']
    """
    if transform == "day":
        start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=value)
        return start, start + timedelta(days=1)
    start, end = (datetime(1970 + n // 12, n % 12 + 1, 1, tzinfo=UTC) for n in (value, value + 1))
    return start, end


def _compact(catalog: "SqlCatalog", table: str, partition: int) -> None:
    """Write the rows of a partition anew, as few files as they need."""
    found = _load(catalog, table)
    column, transform = _partitioning(found)
    window = _between(column, *_period(transform, partition))
    rows = found.scan(window).to_arrow().sort_by(column)
    transaction = found.transaction()
    transaction.overwrite(rows, overwrite_filter=window)
    transaction.commit_transaction()


def _expire(catalog: "SqlCatalog", table: str, cutoff: datetime) -> int:
    """Forget the snapshots made before `cutoff`, but never the present one; their number."""
    found = _load(catalog, table)
    old = [
        snapshot.snapshot_id
        for snapshot in found.snapshots()
        if snapshot.timestamp_ms < cutoff.timestamp() * 1000
        and snapshot.snapshot_id not in {ref.snapshot_id for ref in found.metadata.refs.values()}
    ]
    if old:
        found.maintenance.expire_snapshots().by_ids(old).commit()
    return len(old)


def _needed(table: "Table") -> Iterable[str]:
    """The files that the table and its snapshots consist of."""
    yield table.metadata_location
    yield from (entry.metadata_file for entry in table.metadata.metadata_log)
    manifests = {}
    for snapshot in table.snapshots():
        yield snapshot.manifest_list
        for manifest in snapshot.manifests(table.io):
            manifests[manifest.manifest_path] = manifest
    for path, manifest in manifests.items():
        yield path
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False):
            yield entry.data_file.file_path
