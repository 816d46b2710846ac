"""Draws the bundled sample: `python -m ml_assets.samples.ticks DIRECTORY`.

The trades of one share on the five trading days from Monday 2013-10-07 to Friday 2013-10-11,
a row group a day, in their original order.
"""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

COLUMNS = ["timestamp", "price", "size", "suspicious"]
SCHEMA = pa.schema(
    [
        ("timestamp", pa.timestamp("ms", "UTC")),
        ("price", pa.float64()),
        ("size", pa.int32()),
        ("suspicious", pa.bool_()),
    ]
)


def draw(directory: Path, sample: Path) -> None:
    """Write the sample of a directory with a Parquet file a day to `sample`.

    The same version of PyArrow (25.0.1 drew the bundled one) writes the same bytes.

    Raises:
        pyarrow.ArrowInvalid: A time is not in whole milliseconds.
    """
    with pq.ParquetWriter(
        sample,
        SCHEMA,
        compression="zstd",
        compression_level=22,
        use_dictionary=["price", "size"],
        column_encoding={"timestamp": "DELTA_BINARY_PACKED"},
        store_schema=False,
    ) as writer:
        for path in sorted(directory.glob("*.parquet")):
            rows = pq.read_table(path, columns=COLUMNS)
            suspicious = pc.not_equal(rows["suspicious"], 0)
            rows = rows.set_column(3, "suspicious", suspicious).cast(SCHEMA)
            writer.write_table(rows, row_group_size=len(rows))


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(__file__).with_name("ticks.parquet"))
