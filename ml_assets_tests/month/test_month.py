"""The short form of the month, the longer one is by command (docs/reliability.md); a backfill."""

import json
import subprocess
import sys
from pathlib import Path

from ml_assets_tests.month.small import ROOT

NIGHTS = 8


def test_a_backfill_of_whole_groups_makes_its_days_in_order() -> None:
    """In a process of its own, like the week; the program itself looks at runs and alerts."""
    result = subprocess.run(
        [sys.executable, "-m", "ml_assets_tests.month.backfill"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-5000:]


def test_an_unattended_week_ends_well(tmp_path: Path) -> None:
    """In a process of its own, for the groups read their environment when they are imported.

    The program itself looks at partitions, rows, champions and alerts; here is looked whether it
    had something to look at.
    """
    file = tmp_path / "ledger.json"
    options = ["--days", str(NIGHTS), "--seed", "1", "--json", str(file)]
    result = subprocess.run(
        [sys.executable, "-m", "ml_assets_tests.month", *options],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-3000:]
    ledger = json.loads(file.read_text())
    assert ledger["problems"] == []
    nights = ledger["nights"]
    assert len(nights) == NIGHTS
    assert [len(night["due"]) for night in nights] == [4, 2, 2, 2, 2, 2, 8, 4]
    struck = [night for night in nights if night["fault"]]
    assert len({night["fault"].split(": ")[1] for night in struck}) >= 6
