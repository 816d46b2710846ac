"""A backfill from the command line: what a range of days in one Dagster run takes, and where.

Checks are included. Dagster's storage exists beforehand, as it does on every run but the first.
"""

import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.common import dagster_instance

ROOT = Path(__file__).parents[1]
OWN = ("DAGSTER_", "ML_ASSETS_", "POWER_", "TICK_", "LAKEHOUSE_")


class Usage(NamedTuple):
    """What a process used: wall and CPU time in seconds, memory in MiB."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


def medians(found: list[Usage]) -> Usage:
    """The median of each."""
    return Usage(*(statistics.median(values) for values in zip(*found, strict=True)))


def row(name: str, days: int, usage: Usage, ratio: str) -> list[str]:
    """A line of a table: name, days, wall, a day, ratio, CPU and peak memory."""
    return [
        *(name, f"{days:,}", f"{usage.seconds:.1f} s", f"{usage.seconds / days:.3f} s", ratio),
        *(f"{usage.cpu_seconds:.1f} s", f"{usage.peak_mb:,.0f} MiB"),
    ]


COLUMNS = ["", "days", "wall", "a day", "of the bare script's", "CPU", "peak memory"]
"""What `row` gives."""


def part_rows(parts: dict[str, float], days: int) -> list[list[str]]:
    """The lines of a table of where the time goes."""
    return [[name, f"{found:.1f} s", f"{found / days:.4f} s"] for name, found in parts.items()]


def dagster(
    group: str, assets: tuple[str, ...], first: str, last: str, environment: dict[str, str]
) -> tuple[Usage, dict[str, float]]:
    """The run of a range of days from the command line, and the seconds of its parts."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory) / "dagster"
        with dagster_instance(home):
            pass  # creates the storage
        usage = measured(
            [
                *(sys.executable, "-m", "dagster", "asset", "materialize"),
                *("-m", "ml_assets.definitions"),
                *("--select", ",".join(f"key:{group}/{name}" for name in assets)),
                *("--partition-range", f"{first}...{last}"),
            ],
            {"DAGSTER_HOME": str(home), "ML_ASSETS_DATA_DIR": directory, **environment},
        )
        with dagster_instance(home) as instance:
            [run] = instance.get_runs()
            parts = _parts(group, assets, instance.all_logs(run.run_id))
    return usage, {"start and end of the process": usage.seconds - sum(parts.values()), **parts}


def measured(command: list[str], environment: dict[str, str]) -> Usage:
    """What a command used; what it prints is shown only if it fails."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
    with tempfile.TemporaryFile("w+") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=kept | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, resources = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{output.read()}")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return Usage(seconds, resources.ru_utime + resources.ru_stime, resources.ru_maxrss / unit)


def _parts(group: str, assets: tuple[str, ...], events: Any) -> dict[str, float]:
    """Seconds between the events of a run, added up by what went on there."""
    found: dict[str, float] = {}
    for earlier, later in itertools.pairwise(events):
        step = later.step_key or ""
        asset = next((name for name in assets if step.startswith(f"{group}__{name}")), "")
        kind = later.dagster_event.event_type_value
        if kind.endswith("_PLANNED"):
            part = "events: partitions planned"
        elif kind == "ASSET_MATERIALIZATION":
            part = "events: partitions materialized"
        elif step == f"{group}__{asset}":
            part = asset
        else:
            part = f"checks of {asset}" if asset else "else"
        found[part] = found.get(part, 0.0) + later.timestamp - earlier.timestamp
    return found
