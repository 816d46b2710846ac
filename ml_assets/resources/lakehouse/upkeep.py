"""Upkeep: small files become one, old snapshots expire, files that nobody needs are deleted.

How often is the groups' business. Loaded when a step runs.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table
from upath import UPath

from ml_assets.resources.lakehouse.catalog import load, load_own
from ml_assets.resources.lakehouse.commits import committed
from ml_assets.resources.lakehouse.ownership import OWNER
from ml_assets.resources.lakehouse.results import Upkeep
from ml_assets.resources.lakehouse.schemas import between, period, time_column

_SMALL_FILE_BYTES = 32 * 2**20


def maintain(
    catalog: SqlCatalog, table: str, keep: timedelta, grace: timedelta, seconds: float
) -> Upkeep:
    """Do all three on a table; see `Lakehouse.maintain`."""
    now = datetime.now(UTC)
    # First make room: on a full disk, forgetting a snapshot is already a write too many.
    sizes = _delete_orphans(catalog, table, now - grace)
    expired = committed(catalog, table, seconds, partial(_expire, table=table, cutoff=now - keep))
    sizes += _delete_orphans(catalog, table, now - grace)
    before, scattered = _data_files(load(catalog, table))
    for partition in scattered:
        committed(catalog, table, seconds, partial(_compact, table=table, partition=partition))
    after, _ = _data_files(load(catalog, table))
    return Upkeep(
        table=table,
        compacted_partitions=len(scattered),
        data_files=(before, after),
        expired_snapshots=expired,
        deleted_files=len(sizes),
        deleted_bytes=sum(sizes),
    )


def _data_files(table: Table) -> tuple[int, list[int]]:
    """Number of data files, and the partitions that have several small ones."""
    files = [task.file for task in table.scan().plan_files()]
    small = Counter(
        file.partition[0] for file in files if file.file_size_in_bytes < _SMALL_FILE_BYTES
    )
    return len(files), sorted(partition for partition, number in small.items() if number > 1)


def _compact(catalog: SqlCatalog, table: str, partition: int) -> None:
    """Write the rows of a partition anew, as few files as they need."""
    found = load_own(catalog, table)
    column = time_column(found)
    window = between(column, *period(found, partition))
    rows = found.scan(window).to_arrow().sort_by(column)
    found.overwrite(rows, overwrite_filter=window)


def _expire(catalog: SqlCatalog, table: str, cutoff: datetime) -> int:
    """Forget the snapshots made before `cutoff`, but never the present one; their number."""
    found = load_own(catalog, table)
    number = len(found.snapshots())
    found.maintenance.expire_snapshots().older_than(cutoff).commit()
    return number - len(found.snapshots())


def _delete_orphans(catalog: SqlCatalog, table: str, cutoff: datetime) -> list[int]:
    """Delete the files last changed before `cutoff` that no snapshot needs; their sizes."""
    # Listed before the table is loaded: what is committed in between is then known.
    location = UPath(load_own(catalog, table).location())
    listed = [
        (path, path.stat())
        for path in location.rglob("*")
        if path.is_file() and not path.is_symlink()
    ]
    needed = {UPath(path).path for path in _needed(load(catalog, table))}
    needed.add((location / OWNER).path)
    sizes = []
    for path, stat in listed:
        if path.path not in needed and stat.st_mtime < cutoff.timestamp():
            path.unlink()
            sizes.append(stat.st_size)
    return sizes


def _needed(table: Table) -> Iterator[str]:
    """The files that the table and its snapshots consist of."""
    yield table.metadata_location
    yield from (entry.metadata_file for entry in table.metadata.metadata_log)
    yield from (snapshot.manifest_list for snapshot in table.snapshots())
    manifests = table.inspect.all_manifests()["path"].to_pylist()
    yield from manifests
    if manifests:  # PyIceberg cannot list the files of a table that never had a row
        yield from table.inspect.all_files()["file_path"].to_pylist()
