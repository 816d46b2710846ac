"""A small table of hourly rows, and processes that write it."""

import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from ml_assets.resources.lakehouse import Lakehouse, WriteResult

TABLE = "power.readings"
TIME = "event_time_utc"
ROOT = Path(__file__).parents[3]
START = datetime(2007, 1, 30, tzinfo=UTC)
DAY = timedelta(days=1)
ROWS = 24


def day(number: int) -> datetime:
    """Midnight of a day; days 0 and 1 lie in January, day 2 is the first of February."""
    return START + number * DAY


def hourly(first: int, last: int, value: float = 1.0) -> pa.Table:
    """Hourly rows of the days from `first` to before `last`."""
    times = [day(first) + timedelta(hours=hour) for hour in range(24 * (last - first))]
    return pa.table(
        {
            TIME: pa.array(times, pa.timestamp("us", "UTC")),
            "active_power_kw": pa.array(np.full(len(times), value)),
            "source": pa.array(["sample"] * len(times), pa.string()),
        }
    )


def write(
    lake: Lakehouse, first: int, last: int, value: float = 1.0, **options: str
) -> WriteResult:
    rows = hourly(first, last, value)
    return lake.replace(TABLE, rows, TIME, day(first), day(last), **options)


def values(lake: Lakehouse, first: int, last: int) -> list[float]:
    """The value of each day, every one of which must have its 24 equal rows."""
    found = lake.read(TABLE, day(first), day(last))["active_power_kw"].to_pylist()
    days = [found[start : start + ROWS] for start in range(0, len(found), ROWS)]
    assert all(rows == [rows[0]] * ROWS for rows in days)
    return [rows[0] for rows in days]


def data_files(lake: Lakehouse) -> list[Path]:
    return sorted(Path(lake.warehouse).rglob("*.parquet"))


def process(lake: Lakehouse, statement: str, before: str = "") -> subprocess.Popen[str]:
    """A process that runs a statement on the lakehouse."""
    program = (
        "from ml_assets_tests.resources.lakehouse.tables import *\n"
        f"lake = Lakehouse(catalog_uri={lake.catalog_uri!r}, warehouse={lake.warehouse!r})\n"
        f"{textwrap.dedent(before)}\n{statement}"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def paused(lake: Lakehouse, statement: str, target: str) -> subprocess.Popen[str]:
    """A process that runs a statement, got to the function `target`, and stays there."""
    stay = f"""
        import time
        from unittest import mock

        def stay(*args, **kwargs):
            print("paused", flush=True)
            time.sleep(600)

        mock.patch({target!r}, stay).start()
        """
    found = process(lake, statement, stay)
    assert found.stdout
    assert found.stdout.readline() == "paused\n", found.communicate()[1]
    return found


def kill(writer: subprocess.Popen[str]) -> str:
    """What the process had printed, and not yet been read, when it was killed."""
    writer.kill()
    return writer.communicate()[0]
