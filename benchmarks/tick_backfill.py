"""A backfill of `tick`: days of trades from CSV files to features, in one Dagster run.

From the command line, minute bars, checks included, beside a plain pandas script that does the same
and keeps nothing (`benchmarks/bare_ticks.py`). The days are those of the bundled week, repeated for
six weeks: forty days, thirty of them with trades. The first week is run alone too (not with
`--quick`): memory is bounded if the peak is the same.
"""

import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.backfill import compare, dagster, measured
from benchmarks.common import parser
from benchmarks.tick_features import write_days
from ml_assets.resources.datasets import SAMPLES
from ml_assets.tick import data

ASSETS = ("raw_ticks", "ticks", "bars", "features")
WEEK = 5
"""Days from the first to the last with trades."""


def main() -> int:
    """Measure in turn, and print the medians."""
    options = parser(__doc__)
    options.add_argument("--runs", type=int, default=1, help="runs of each")
    arguments = options.parse_args()
    weeks = 1 if arguments.quick else 6
    rows = weeks * pq.ParquetFile(SAMPLES / data.SAMPLE_NAME).metadata.num_rows
    with tempfile.TemporaryDirectory() as directory:
        write_days(Path(directory), None, rows)
        command = [sys.executable, "-m", "benchmarks.bare_ticks", directory, "time", "60"]
        source = {
            "TICK_SOURCE": "files",
            "TICK_DIRECTORY": directory,
            "TICK_FIRST_PARTITION": data.SAMPLE_FIRST_DAY,
        }
        return compare(
            arguments,
            f"Trades from text to features, {rows:,} rows",
            7 * (weeks - 1) + WEEK,
            ("week", WEEK),
            lambda: measured(command, {}),
            lambda count: dagster("tick", ASSETS, data.SAMPLE_FIRST_DAY, count, source),
        )


if __name__ == "__main__":
    sys.exit(main())
