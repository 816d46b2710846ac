"""A backfill of `power`: days of readings from raw text to features, in one Dagster run.

From the command line, checks included, beside a bare script that does the same with pandas
(`benchmarks/bare_power.py`). Without `--data` these are the 182 days of the bundled sample, with it
the 1,440 whole days of UCI's text. The first quarter of the days is run alone too (not with
`--quick`): memory is bounded if the peak is the same.
"""

import sys
import tempfile
from datetime import date
from pathlib import Path

from benchmarks.backfill import Usage, compare, dagster, measured
from benchmarks.common import parser
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
    days = (date.fromisoformat(last) - date.fromisoformat(first)).days + 1
    return compare(
        arguments,
        f"Readings from text to features, {days * 1440:,} minutes",
        days,
        ("quarter", days // 4),
        lambda: _bare(path or SAMPLES / data.SAMPLE_NAME, first, last),
        lambda count: _dagster(path, first, count),
    )


def _bare(path: Path, first: str, last: str) -> Usage:
    with tempfile.TemporaryDirectory() as directory:
        command = ["-m", "benchmarks.bare_power", str(path), first, last, directory]
        return measured([sys.executable, *command], {})


def _dagster(path: Path | None, first: str, days: int) -> tuple[Usage, dict[str, float]]:
    """The run of the first days."""
    source = {"POWER_SOURCE": "sample"}
    if path:
        source = {"POWER_SOURCE": "local", "POWER_DIRECTORY": str(path.parent)}
    return dagster("power", ASSETS, first, days, source)


if __name__ == "__main__":
    sys.exit(main())
