"""A backfill of `power`: days of readings from raw text to features, in one Dagster run.

From the command line, checks included, beside a bare script that does the same with pandas
(`benchmarks/bare_power.py`). Without `--data` these are the 182 days of the bundled sample, with it
the 1,440 whole days of UCI's text. The first quarter of the days is run alone too (not with
`--quick`): memory is bounded if the peak is the same. Dagster's storage exists beforehand, as it
does on every run but the first.
"""

import itertools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from dagster import DagsterInstance

from benchmarks.common import parser, report, write_json
from ml_assets.power import data
from ml_assets.resources.datasets import SAMPLES

ROOT = Path(__file__).parents[1]
OWN = ("DAGSTER_", "ML_ASSETS_", "POWER_", "LAKEHOUSE_")
ASSETS = ("raw_readings", "readings", "features")


class Usage(NamedTuple):
    """What a process used: wall and CPU time in seconds, memory in MiB."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


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
    bare_median, median = _medians(bare), _medians(ours)
    ratio = statistics.median(a.seconds / b.seconds for a, b in zip(ours, bare, strict=True))
    parts = {name: statistics.median(found[name] for found in steps) for name in steps[0]}
    rows = [
        _row("bare script", days, bare_median, "1.00"),
        _row("Dagster", days, median, f"{ratio:.2f}"),
    ]
    figures = {}
    if quarter_usage:
        rows.append(_row("Dagster", days // 4, quarter_usage, ""))
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
        ["", "days", "wall", "a day", "of the bare script's", "CPU", "peak memory"],
        rows,
    )
    report(
        f"Where the time of {days} days goes",
        ["", "wall", "a day"],
        [[name, f"{found:.1f} s", f"{found / days:.4f} s"] for name, found in parts.items()],
    )
    return 0


def _days(first: str, last: str) -> int:
    return (date.fromisoformat(last) - date.fromisoformat(first)).days + 1


def _row(name: str, days: int, usage: Usage, ratio: str) -> list[str]:
    return [
        *(name, f"{days:,}", f"{usage.seconds:.1f} s", f"{usage.seconds / days:.3f} s", ratio),
        *(f"{usage.cpu_seconds:.1f} s", f"{usage.peak_mb:,.0f} MiB"),
    ]


def _medians(found: list[Usage]) -> Usage:
    return Usage(*(statistics.median(values) for values in zip(*found, strict=True)))


def _bare(path: Path, first: str, last: str) -> Usage:
    with tempfile.TemporaryDirectory() as directory:
        command = ["-m", "benchmarks.bare_power", str(path), first, last, directory]
        return _measured([sys.executable, *command], {})


def _dagster(path: Path | None, first: str, last: str) -> tuple[Usage, dict[str, float]]:
    """The run of a range of days, and the seconds of its parts."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory) / "dagster"
        home.mkdir()
        shutil.copy(ROOT / "dagster.yaml", home)
        with DagsterInstance.from_config(str(home)):
            pass  # creates the storage
        source = (
            {"POWER_SOURCE": "local", "POWER_DIRECTORY": str(path.parent)}
            if path
            else {"POWER_SOURCE": "sample"}
        )
        usage = _measured(
            [
                *(sys.executable, "-m", "dagster", "asset", "materialize"),
                *("-m", "ml_assets.definitions"),
                *("--select", ",".join(f"key:power/{name}" for name in ASSETS)),
                *("--partition-range", f"{first}...{last}"),
            ],
            {"DAGSTER_HOME": str(home), "ML_ASSETS_DATA_DIR": directory, **source},
        )
        with DagsterInstance.from_config(str(home)) as instance:
            [run] = instance.get_runs()
            parts = _parts(instance.all_logs(run.run_id))
    return usage, {"start and end of the process": usage.seconds - sum(parts.values()), **parts}


def _parts(events: Any) -> dict[str, float]:
    """Seconds between the events of a run, added up by what went on there."""
    found: dict[str, float] = {}
    for earlier, later in itertools.pairwise(events):
        step = later.step_key or ""
        asset = next((name for name in ASSETS if step.startswith(f"power__{name}")), "")
        kind = later.dagster_event.event_type_value
        if kind.endswith("_PLANNED"):
            part = "events: partitions planned"
        elif kind == "ASSET_MATERIALIZATION":
            part = "events: partitions materialized"
        elif step == f"power__{asset}":
            part = asset
        else:
            part = f"checks of {asset}" if asset else "else"
        found[part] = found.get(part, 0.0) + later.timestamp - earlier.timestamp
    return found


def _measured(command: list[str], environment: dict[str, str]) -> Usage:
    """What a command used; what it prints is shown only if it fails."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
    with tempfile.TemporaryFile("w+") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, env=kept | environment, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, resources = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{output.read()}")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return Usage(seconds, resources.ru_utime + resources.ru_stime, resources.ru_maxrss / unit)


if __name__ == "__main__":
    sys.exit(main())
