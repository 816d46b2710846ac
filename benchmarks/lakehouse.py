"""The lakehouse: seconds to write, replace and read days of 1,440 rows, by day and by month.

Every row holds a time and seven numbers, as the household readings do. `write`: a range into an
empty table, in one commit; `replace`: the same range again; `one day`: one day of the range
again; `read`: the range. The catalog is SQLite, the files are local. `one by one`: ten days more,
each in a commit of its own, seconds for each.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.common import parser, report, write_json
from ml_assets.resources.lakehouse import Lakehouse, Period

TABLE, TIME = "power.readings", "event_time_utc"
START, DAY, ROWS = datetime(2006, 12, 17, tzinfo=UTC), timedelta(days=1), 1440
MEASURES = ["write", "replace", "one day", "read", "one by one"]


def main() -> int:
    """Measure every size with both kinds of partitions, and print the seconds."""
    options = parser(__doc__)
    options.add_argument("--days", type=int, nargs="+", default=[10, 100, 1440])
    arguments = options.parse_args()
    figures: dict[str, Any] = {}
    # The first write of a process loads PyIceberg, which is not what is measured.
    _measure(1, "month")
    for days in [10] if arguments.quick else arguments.days:
        for period in ("month", "day"):
            figures[f"{days} days, by {period}"] = _measure(days, period)
    write_json(arguments.json, figures)
    report(
        "The lakehouse: seconds",
        ["range", *MEASURES],
        [[name, *(f"{seconds[key]:.2f}" for key in MEASURES)] for name, seconds in figures.items()],
    )
    return 0


def _measure(days: int, period: Period) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as directory:
        lake = Lakehouse(
            catalog_uri=f"sqlite:///{directory}/catalog.db", warehouse=str(Path(directory) / "lake")
        )
        rows, end = _rows(days), START + days * DAY

        def replace(first: int, last: int) -> None:
            piece = rows.slice(first * ROWS, (last - first) * ROWS)
            window = START + first * DAY, START + last * DAY
            lake.replace(TABLE, piece, TIME, *window, partition_by=period)

        def one_by_one() -> None:
            for number in range(10):
                start = end + number * DAY
                lake.replace(TABLE, _rows(1, start), TIME, start, start + DAY)

        return {
            "write": _seconds(lambda: replace(0, days)),
            "replace": _seconds(lambda: replace(0, days)),
            "one day": _seconds(lambda: replace(days // 2, days // 2 + 1)),
            "read": _seconds(lambda: lake.read(TABLE, START, end)),
            "one by one": _seconds(one_by_one) / 10,
        }


def _rows(days: int, start: datetime = START) -> pa.Table:
    generator = np.random.default_rng(0)
    first = np.datetime64(start.replace(tzinfo=None), "us")
    times = first + np.arange(days * ROWS) * np.timedelta64(1, "m")
    numbers = {
        f"column_{n}": generator.normal(size=len(times)).astype(np.float32) for n in range(7)
    }
    return pa.table({TIME: pa.array(times, pa.timestamp("us", "UTC")), **numbers})


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
