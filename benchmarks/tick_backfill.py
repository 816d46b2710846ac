"""A backfill of `tick`: days of trades from CSV files to features, in one Dagster run.

From the command line, minute bars, checks included, beside a plain pandas script that does the same
and keeps nothing (`benchmarks/bare_ticks.py`). The days are those of the bundled week, repeated for
six weeks: forty days, thirty of them with trades. The first week is run alone too (not with
`--quick`): memory is bounded if the peak is the same.
"""

import statistics
import sys
import tempfile
from datetime import date, timedelta
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.backfill import COLUMNS, Usage, dagster, measured, medians, part_rows, row
from benchmarks.common import parser, report, write_json
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
    days = 7 * (weeks - 1) + WEEK
    bare, ours, steps = [], [], []
    with tempfile.TemporaryDirectory() as directory:
        write_days(Path(directory), None, rows)
        week_usage = None if arguments.quick else _dagster(directory, WEEK)[0]
        for _ in range(1 if arguments.quick else arguments.runs):
            command = ["-m", "benchmarks.bare_ticks", directory, "time", "60"]
            bare.append(measured([sys.executable, *command], {}))
            usage, found = _dagster(directory, days)
            ours.append(usage)
            steps.append(found)
    bare_median, median = medians(bare), medians(ours)
    ratio = statistics.median(a.seconds / b.seconds for a, b in zip(ours, bare, strict=True))
    parts = {name: statistics.median(found[name] for found in steps) for name in steps[0]}
    lines = [
        row("bare script", days, bare_median, "1.00"),
        row("Dagster", days, median, f"{ratio:.2f}"),
    ]
    figures = {}
    if week_usage:
        lines.append(row("Dagster", WEEK, week_usage, ""))
        figures = {"week_peak_mb": week_usage.peak_mb}
    write_json(
        arguments.json,
        {
            "partitions": days,
            "rows": rows,
            "seconds": median.seconds,
            "seconds_per_partition": median.seconds / days,
            "cpu_seconds": median.cpu_seconds,
            "peak_mb": median.peak_mb,
            **figures,
            "bare_seconds": bare_median.seconds,
            "bare_peak_mb": bare_median.peak_mb,
            "ratio": ratio,
            "by_part": parts,
        },
    )
    title = f"Trades from text to features, {rows:,} rows, medians of {len(ours)}"
    report(title, COLUMNS, lines)
    report(f"Where the time of {days} days goes", ["", "wall", "a day"], part_rows(parts, days))
    return 0


def _dagster(directory: str, days: int) -> tuple[Usage, dict[str, float]]:
    """The run of the first days."""
    first = data.SAMPLE_FIRST_DAY
    last = date.fromisoformat(first) + timedelta(days=days - 1)
    source = {"TICK_SOURCE": "files", "TICK_DIRECTORY": directory, "TICK_FIRST_PARTITION": first}
    return dagster("tick", ASSETS, first, str(last), source)


if __name__ == "__main__":
    sys.exit(main())
