"""Simulate a month: `python -m ml_assets_tests.month --days 30 --seed 0`."""

import argparse
import json
import logging
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from ml_assets_tests.month import small
from ml_assets_tests.month.clock import Clock
from ml_assets_tests.month.ledger import COLUMNS, Night, growth, weeks


def main() -> int:
    """Simulate, print the ledger, and say whether all ended well."""
    options = argparse.ArgumentParser(
        prog="python -m ml_assets_tests.month",
        description="An unattended month, with the clock compressed.",
    )
    options.add_argument("--days", type=int, default=30, help="how many nights (30)")
    options.add_argument("--seed", type=int, default=0, help="decides the faults (0)")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the ledger there too")
    options.add_argument(
        "--home", type=Path, metavar="DIRECTORY", help="keep everything there, and a log"
    )
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        home = (arguments.home or Path(directory)).absolute()
        home.mkdir(parents=True, exist_ok=True)
        with (home / "log.txt").open("w") as log, redirect_stdout(log), redirect_stderr(log):
            nights, problems = simulated(home, arguments.days, arguments.seed)
    if arguments.json:
        ledger = {"nights": [asdict(night) for night in nights], "problems": problems}
        arguments.json.write_text(json.dumps(ledger, default=str, indent=1) + "\n")
    show(nights, problems)
    return int(bool(problems))


def simulated(home: Path, days: int, seed: int) -> tuple[list[Night], list[str]]:
    """The nights of a month, and what was not as it should be in the end."""
    small.surround(home)
    small.shrink()
    # These read the environment when they are imported.
    from ml_assets_tests.month.house import opened
    from ml_assets_tests.month.outcome import problems
    from ml_assets_tests.month.simulation import Month

    logging.getLogger().setLevel(logging.ERROR)
    clock = Clock(small.midnight(small.BEGIN) - timedelta(hours=12))
    for group in small.WEEKLY:
        small.deliver_images(group, home, 0)
    with clock.running(), opened(home, clock) as house:
        month = Month(house, home, days, seed)
        month.prepare()
        nights = []
        for number in range(days):
            began = time.perf_counter()
            nights.append(month.night(number))
            _show(nights[-1], time.perf_counter() - began)
        found = [problem for night in nights for problem in night.problems()]
        return nights, [*found, *growth(nights), *problems(month)]


def show(nights: list[Night], problems: list[str]) -> None:
    """Print the ledger, what the disk holds after each week's upkeep, and what is wrong."""
    console = Console(width=150)
    console.print(_table(COLUMNS, [night.row() for night in nights]))
    sizes = [
        [f"{night.day:%a %m-%d}", *(f"{size:.1f}" for size in night.megabytes.values())]
        for night in weeks(nights)
    ]
    console.print(_table(["MB on", *nights[0].megabytes], sizes))
    for problem in problems:
        console.print(f"[red]{problem}")
    told = sum(len(night.told) for night in nights)
    faults = sum(bool(night.fault) for night in nights)
    console.print(f"{len(nights)} nights, {faults} faults, {told} alerts, {len(problems)} problems")


def _table(columns: list[str], rows: list[list[str]]) -> Table:
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    return table


def _show(night: Night, seconds: float) -> None:
    parts = ", ".join(f"{name} {size:.0f}" for name, size in night.megabytes.items())
    print(f"{seconds:4.0f} s", *night.row(), parts, sep=" | ", file=sys.__stderr__, flush=True)


if __name__ == "__main__":
    sys.exit(main())
