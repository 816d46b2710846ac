"""Draws the bundled sample: `python -m ml_assets.samples.household_power FILE`.

The 26 whole weeks from Monday 2008-01-07 to Sunday 2008-07-06, byte for byte as in the full file.
"""

import re
import sys
import zipfile
from datetime import date
from pathlib import Path

FIRST_DAY = date(2008, 1, 7)
LAST_DAY = date(2008, 7, 6)
FILE_NAME = "household_power_consumption.txt"


def draw(full: Path, sample: Path) -> None:
    """Write the sample of `full` (UCI's `household_power_consumption.txt`) to `sample`."""
    with full.open("rb") as lines:
        text = next(lines) + b"".join(line for line in lines if FIRST_DAY <= _day(line) <= LAST_DAY)
    # A fixed date, so that the same text gives the same bytes.
    member = zipfile.ZipInfo(FILE_NAME, date_time=(1980, 1, 1, 0, 0, 0))
    with zipfile.ZipFile(sample, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr(member, text, zipfile.ZIP_LZMA)


def _day(line: bytes) -> date:
    day, month, year = map(int, re.split(b"[/;]", line, maxsplit=3)[:3])
    return date(year, month, day)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(__file__).with_name("household_power.zip"))
