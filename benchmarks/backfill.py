"""A backfill from the command line: what a range of days in one Dagster run takes, and where.

Checks are included. Dagster's storage exists beforehand, as it does on every run but the first.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.common import dagster_instance, report, write_json

ROOT = Path(__file__).parents[1]
OWN = ("DAGSTER_", "ML_ASSETS_", "POWER_", "TICK_", "LAKEHOUSE_")


class Usage(NamedTuple):
    """What a process used: wall and CPU time in seconds, memory in MiB."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


def compare(
    arguments: argparse.Namespace,
    title: str,
    days: int,
    part: tuple[str, int],
    bare: Callable[[], Usage],
    ours: Callable[[int], tuple[Usage, dict[str, float]]],
) -> int:
    """Measure in turn, print the medians, and write them.

    Args:
        arguments: Those of the command line: `quick`, `runs` and `json`.
        title: What is done, for the table.
        days: How many there are.
        part: What some of the days are called in the figures, and how many they are: they are run
            alone first, unless `quick`.
        bare: Runs the bare script over all days.
        ours: Runs so many days by Dagster, as `dagster` does.
    """
    name, count = part
    part_usage = None if arguments.quick else ours(count)[0]
    pairs = [(bare(), *ours(days)) for _ in range(1 if arguments.quick else arguments.runs)]
    bare_median, median = (
        Usage(*(statistics.median(values) for values in zip(*found, strict=True)))
        for found in ([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    )
    ratio = statistics.median(usage.seconds / plain.seconds for plain, usage, _ in pairs)
    parts = {step: statistics.median(found[step] for _, _, found in pairs) for step in pairs[0][2]}
    rows = [
        _row("bare script", days, bare_median, "1.00"),
        _row("Dagster", days, median, f"{ratio:.2f}"),
    ]
    figures = {}
    if part_usage:
        rows.append(_row("Dagster", count, part_usage, ""))
        figures = {f"{name}_partitions": count, f"{name}_peak_mb": part_usage.peak_mb}
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
    columns = ["", "days", "wall", "a day", "of the bare script's", "CPU", "peak memory"]
    report(f"{title}, medians of {len(pairs)}", columns, rows)
    report(
        f"Where the time of {days} days goes",
        ["", "wall", "a day"],
        [[step, f"{found:.1f} s", f"{found / days:.4f} s"] for step, found in parts.items()],
    )
    return 0


def dagster(
    group: str, assets: tuple[str, ...], first: str, days: int, environment: dict[str, str]
) -> tuple[Usage, dict[str, float]]:
    """The run of so many days from the command line, and the seconds of its parts."""
    last = date.fromisoformat(first) + timedelta(days=days - 1)
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


def _row(name: str, days: int, usage: Usage, ratio: str) -> list[str]:
    return [
        *(name, f"{days:,}", f"{usage.seconds:.1f} s", f"{usage.seconds / days:.3f} s", ratio),
        *(f"{usage.cpu_seconds:.1f} s", f"{usage.peak_mb:,.0f} MiB"),
    ]


def _parts(group: str, assets: tuple[str, ...], events: Any) -> dict[str, float]:
    """Seconds between the events of a run, added up by what went on there.

    A table's events come while it is made, each when its day is stored.
    """
    found: dict[str, float] = {}
    for earlier, later in itertools.pairwise(events):
        step = later.step_key or ""
        asset = next((name for name in assets if step.startswith(f"{group}__{name}")), "")
        kind = later.dagster_event.event_type_value
        if kind.endswith("_PLANNED"):
            part = "events: partitions planned"
        elif step == f"{group}__{asset}":
            part = asset
        else:
            part = f"checks of {asset}" if asset else "else"
        found[part] = found.get(part, 0.0) + later.timestamp - earlier.timestamp
    return found
