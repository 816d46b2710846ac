"""What a write and an upkeep report."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class WriteResult:
    """What a write did.

    Attributes:
        table: The table, `group.name`.
        snapshot_id: The snapshot that has the rows: `read` can read the table as of it.
        rows: Number of rows written.
        start: Start of the replaced window.
        end: End of it, not included.
        sha256: Digest of the rows: the same rows again, the same digest.
    """

    table: str
    snapshot_id: int
    rows: int
    start: datetime
    end: datetime
    sha256: str

    @classmethod
    def joined(cls, results: "Sequence[WriteResult]") -> "WriteResult":
        """Writes of consecutive windows of a table, as one; the snapshot is the last."""
        if len(results) == 1:
            return results[0]
        digests = "".join(result.sha256 for result in results)
        return cls(
            table=results[0].table,
            snapshot_id=results[-1].snapshot_id,
            rows=sum(result.rows for result in results),
            start=results[0].start,
            end=results[-1].end,
            sha256=hashlib.sha256(digests.encode()).hexdigest(),
        )

    def metadata(self) -> dict[str, Any]:
        """The same for `dg.MaterializeResult`; ids as text, for they exceed JSON's integers."""
        return {
            "rows": self.rows,
            "rows_sha256": self.sha256,
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
