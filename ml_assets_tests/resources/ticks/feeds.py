"""Small feeds, and the real trades of one morning."""

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ml_assets.resources.datasets import SAMPLES
from ml_assets.resources.ticks import FileTicks

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MONDAY = datetime(2013, 10, 7, tzinfo=UTC)
ALWAYS = (datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))
SCHEMA = pa.schema(
    [
        ("event_time_ns", pa.int64()),
        ("price", pa.float64()),
        ("size", pa.float64()),
        ("bid", pa.float64()),
        ("ask", pa.float64()),
        ("side", pa.int8()),
        ("suspicious", pa.bool_()),
        ("row", pa.int64()),
        ("text", pa.string()),
    ]
)
TRADES = "timestamp,price,size"
QUOTES = "timestamp,bid,ask"


def files(directory: Path, **changes: Any) -> FileTicks:
    return FileTicks(**{"directory": str(directory)} | changes)


def write(directory: Path, name: str, *lines: str, end: str = "\n") -> Path:
    path = directory / name
    path.write_bytes("".join(f"{line}{end}" for line in lines).encode())
    return path


def rows(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a table that has the columns every source gives, without what is null."""
    assert table.schema == SCHEMA
    return [
        {name: value for name, value in row.items() if value is not None}
        for row in table.to_pylist()
    ]


def values(table: pa.Table, column: str) -> list[Any]:
    assert table.schema == SCHEMA
    return table[column].to_pylist()


def ns(moment: datetime) -> int:
    return round((moment - ALWAYS[0]) / timedelta(microseconds=1)) * 1000


def sample_frame(days: int = 2) -> pl.DataFrame:
    """Trades of the bundled sample: the first 2,000 of each of the first days."""
    file = pq.ParquetFile(SAMPLES / "ticks.parquet")
    groups = [pl.DataFrame(file.read_row_group(day)).head(2000) for day in range(days)]
    return pl.concat(groups).with_columns(pl.col("timestamp").dt.cast_time_unit("ns"))


def parquet(**columns: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()
