"""What the benchmarks share: their options, the hardware they ran on, their table and JSON."""

import argparse
import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from dagster import DagsterInstance
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options of all benchmarks, `--json FILE` and `--quick`."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options.add_argument("--quick", action="store_true", help="a small run, within a minute")
    return options


@contextmanager
def dagster_instance(home: Path) -> Iterator[DagsterInstance]:
    """The instance of the project's `dagster.yaml` in an own home, created if there is none."""
    home.mkdir(exist_ok=True)
    shutil.copy(ROOT / "dagster.yaml", home)
    with (
        mock.patch.dict(os.environ, {"DAGSTER_HOME": str(home)}),
        DagsterInstance.get() as instance,
    ):
        yield instance


def report(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table, with the hardware and its load above it."""
    console = Console(width=110)
    console.print(f"{_processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    table = Table(title=title)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def write_json(path: Path | None, figures: dict[str, Any]) -> None:
    """Write the figures to `path`, if there is one."""
    if path:
        path.write_text(json.dumps(figures, indent=2) + "\n")


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()
