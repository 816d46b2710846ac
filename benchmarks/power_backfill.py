"""A backfill of `power`: days of readings from raw text to features, in one Dagster run.

From the command line, checks included, beside a bare script that does the same with pandas
(`benchmarks/bare_power.py`). Without `--data` these are the 182 days of the bundled sample, with it
the 1,440 whole days of UCI's text. The first quarter of the days is run alone too (not with
`--quick`): memory is bounded if the peak is the same.
"""

import statistics
import sys
import tempfile
from datetime import date, timedelta
from pathlib import Path

from benchmarks.backfill import COLUMNS, Usage, dagster, measured, medians, part_rows, row
from benchmarks.common import parser, report, write_json
from ml_assets.power import data
from ml_assets.resources.datasets import SAMPLES

ASSETS = ("raw_readings", "readings", "features")


def main() -> int:
    """Measure in turn, and print the medians."""
    options = parser(__doc__)
    options.add_argument("--runs", type=int, default=1, help="runs of each")
    options.add_argument(
        "--data", type=Path, metavar="FILE", help=f"`{data.FILE_NAME}`; the sample if left out"
    )
    arguments = options.parse_args()
    path = None if arguments.quick or not arguments.data else arguments.data.absolute()
    first, last = (
        (data.FIRST_DAY, data.LAST_DAY) if path else (data.SAMPLE_FIRST_DAY, data.SAMPLE_LAST_DAY)
    )
    days = _days(first, last)
    quarter = str(date.fromisoformat(first) + timedelta(days=days // 4 - 1))
    quarter_usage = None if arguments.quick else _dagster(path, first, quarter)[0]
    bare, ours, steps = [], [], []
    for _ in range(1 if arguments.quick else arguments.runs):
        bare.append(_bare(path or SAMPLES / data.SAMPLE_NAME, first, last))
        usage, found = _dagster(path, first, last)
        ours.append(usage)
        steps.append(found)
    bare_median, median = medians(bare), medians(ours)
    ratio = statistics.median(a.seconds / b.seconds for a, b in zip(ours, bare, strict=True))
    parts = {name: statistics.median(found[name] for found in steps) for name in steps[0]}
    rows = [
        row("bare script", days, bare_median, "1.00"),
        row("Dagster", days, median, f"{ratio:.2f}"),
    ]
    figures = {}
    if quarter_usage:
        rows.append(row("Dagster", days // 4, quarter_usage, ""))
        figures = {"quarter_partitions": days // 4, "quarter_peak_mb": quarter_usage.peak_mb}
    write_json(
        arguments.json,
        {
            "partitions": days,
            "seconds": median.seconds,
            "seconds_per_partition": median.seconds / days,
            "cpu_seconds": median.cpu_seconds,
            "peak_mb": median.peak_mb,
            **figures,
            "bare_seconds": bare_median.seconds,
            "bare_cpu_seconds": bare_median.cpu_seconds,
            "bare_peak_mb": bare_median.peak_mb,
            "ratio": ratio,
            "by_part": parts,
        },
    )
    report(
        f"Readings from text to features, {days * 1440:,} minutes, medians of {len(ours)}",
        COLUMNS,
        rows,
    )
    report(
        f"Where the time of {days} days goes",
        ["", "wall", "a day"],
        part_rows(parts, days),
    )
    return 0


def _days(first: str, last: str) -> int:
    return (date.fromisoformat(last) - date.fromisoformat(first)).days + 1


def _bare(path: Path, first: str, last: str) -> Usage:
    with tempfile.TemporaryDirectory() as directory:
        command = ["-m", "benchmarks.bare_power", str(path), first, last, directory]
        return measured([sys.executable, *command], {})


def _dagster(path: Path | None, first: str, last: str) -> tuple[Usage, dict[str, float]]:
    source = {"POWER_SOURCE": "sample"}
    if path:
        source = {"POWER_SOURCE": "local", "POWER_DIRECTORY": str(path.parent)}
    return dagster("power", ASSETS, first, last, source)


if __name__ == "__main__":
    sys.exit(main())
