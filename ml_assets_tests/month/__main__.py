"""Simulate a month: `python -m ml_assets_tests.month --days 30 --seed 0`."""

import argparse
import json
import logging
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ml_assets_tests.month import small
from ml_assets_tests.month.clock import Clock
from ml_assets_tests.month.ledger import COLUMNS, Night


def main() -> int:
    """Simulate, print the ledger, and say whether all ended well."""
    options = argparse.ArgumentParser(
        prog="python -m ml_assets_tests.month",
        description="An unattended month, with the clock compressed.",
    )
    options.add_argument("--days", type=int, default=30, help="how many nights (30)")
    options.add_argument("--seed", type=int, default=0, help="decides the faults (0)")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the ledger there too")
    options.add_argument("--home", type=Path, metavar="DIRECTORY", help="keep everything there")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        home = (arguments.home or Path(directory)).absolute()
        nights, problems = simulated(home, arguments.days, arguments.seed)
    if arguments.json:
        ledger = {"nights": [asdict(night) for night in nights], "problems": problems}
        arguments.json.write_text(json.dumps(ledger, default=str, indent=1) + "\n")
    table = Table(title=f"{arguments.days} nights, seed {arguments.seed}")
    for column in COLUMNS:
        table.add_column(column)
    for night in nights:
        table.add_row(*night.row())
    console = Console(width=170)
    console.print(table)
    for problem in problems:
        console.print(f"[red]{problem}")
    console.print(f"{len(problems)} problems")
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
        return nights, [*(p for night in nights for p in night.problems()), *problems(month)]


def _show(night: Night, seconds: float) -> None:
    print(f"{seconds:4.0f} s", *night.row(), sep=" | ", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
