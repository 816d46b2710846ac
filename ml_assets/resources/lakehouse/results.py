"""What a write and an upkeep report."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any


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
