"""Raw CSV files of trades to bars, features and windows: rows a second and peak memory.

Day by day, by the pipeline's own functions, beside a plain pandas script
(`benchmarks/bare_ticks.py`). The next two days are read and cleaned while one is worked on, as each
asset does it by itself in the pipeline: in "bars" is the time that they are waited for.
The main figures are those of bars of one tick, so that every row is a step and has a window, as in
the plain way; those of minute bars are given too, where reading is most of the work on both sides.

The days are those of the bundled sample, or of `--data DIR` (a week as Parquet files of
`timestamp`, `price` and `size`), repeated week after week until there are enough. Files are written
beforehand; each measurement is a process of its own, whose imports are not timed. The first look at
the files, which tells which days they hold, is. The plain way keeps all windows in memory, 4 GiB
for a million: beyond a million rows its time is taken as proportional. How long that takes
varies widely in a virtual machine; the least and the most of the runs are given.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.common import parser, report, write_json
from ml_assets.ml.ahead import ahead
from ml_assets.ml.scaling import StandardScaler
from ml_assets.ml.windows import ending
from ml_assets.resources.datasets import SAMPLES
from ml_assets.resources.ticks import FileTicks
from ml_assets.tick import data, features

ROOT = Path(__file__).parents[1]
KINDS = {"tick": 1.0, "time": 60.0}
PLAIN_ROWS = 10**6
COLUMNS = ("timestamp", "price", "size")


def main() -> int:
    """Measure each number of rows in turn, and print the table."""
    options = parser(__doc__)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_argument("--data", type=Path, metavar="DIR", help="real days of trades as Parquet")
    options.add_argument("--full", action="store_true", help="100 million rows too, 4 GiB of files")
    options.add_argument("--runs", type=int, default=3, help="runs of up to a million rows")
    options.add_argument("--measure", nargs=3, metavar=("DIR", "KIND", "SIZE"), help="one run")
    arguments = options.parse_args()
    if arguments.measure:
        directory, kind, size = arguments.measure
        print(json.dumps(pipeline(Path(directory), kind, float(size))))
        return 0
    sizes = [10**5] if arguments.quick else [10**6, 10**7] + [10**8] * arguments.full
    figures: dict[str, Any] = {}
    for rows in sizes:
        with tempfile.TemporaryDirectory() as directory:
            write_days(Path(directory), arguments.data, rows)
            runs = arguments.runs if rows <= PLAIN_ROWS and not arguments.quick else 1
            found = {kind: measured(Path(directory), kind, rows, runs, figures) for kind in KINDS}
        figures[str(rows)] = found["tick"] | {"minute_bars": found["time"]}
    write_json(arguments.json, figures)
    table = [
        _row(rows, name, found)
        for rows, tick in figures.items()
        for name, found in (("every tick", tick), ("minute bars", tick["minute_bars"]))
    ]
    columns = ["rows", "steps", "seconds", "rows/s", "peak memory", "plain", "its peak", "speed-up"]
    report("Trades from CSV files to windows of 60 steps", columns, table)
    parts = [
        [f"{int(rows):,}", name, *(f"{value:.2f} s" for value in found["by_part"].values())]
        for rows, tick in figures.items()
        for name, found in (("every tick", tick), ("minute bars", tick["minute_bars"]))
    ]
    report("Where the time goes", ["rows", "steps", *figures[str(sizes[0])]["by_part"]], parts)
    return 0


def measured(
    directory: Path, kind: str, rows: int, runs: int, earlier: dict[str, Any]
) -> dict[str, Any]:
    """The medians of the runs, ours and the plain way in turn."""
    arguments = [str(directory), kind, str(KINDS[kind])]
    ours, plain = [], []
    for _ in range(runs):
        ours.append(_run(["benchmarks.tick_features", "--measure", *arguments]))
        if rows <= PLAIN_ROWS:
            plain.append(_run(["benchmarks.bare_ticks", *arguments]))
    seconds = statistics.median(run["seconds"] for run in ours)
    if plain:
        found = [run["seconds"] for run in plain]
        peak = {"plain_peak_mb": statistics.median(run["peak_mb"] for run in plain)}
    else:
        known = earlier[str(PLAIN_ROWS)]
        known = known if kind == "tick" else known["minute_bars"]
        found, peak = [known["plain_seconds"] * rows / PLAIN_ROWS], {}
    plain_seconds = statistics.median(found)
    return {
        "seconds": seconds,
        "seconds_range": _range(run["seconds"] for run in ours),
        "plain_seconds": plain_seconds,
        "plain_seconds_range": _range(found),
        "plain_extrapolated": not plain,
        "speedup": plain_seconds / seconds,
        "peak_mb": statistics.median(run["peak_mb"] for run in ours),
        **peak,
        "rows_per_second": rows / seconds,
        "windows": ours[0]["windows"],
        "by_part": _parts(ours),
        **({"plain_windows": plain[0]["windows"], "plain_by_part": _parts(plain)} if plain else {}),
    }


def _parts(runs: list[dict[str, Any]]) -> dict[str, float]:
    names = runs[0]["by_part"]
    return {name: statistics.median(run["by_part"][name] for run in runs) for name in names}


def _range(seconds: Iterable[float]) -> tuple[float, float]:
    found = sorted(seconds)
    return found[0], found[-1]


def _told(found: dict[str, Any], name: str, digits: int) -> str:
    """A median, and the least and the most of several runs."""
    least, most = found[f"{name}_range"]
    several = f" ({least:.{digits}f}–{most:.{digits}f})" if least < most else ""
    return f"{found[name]:,.{digits}f}{several}"


def _row(rows: str, steps: str, found: dict[str, Any]) -> list[str]:
    plain_peak = f"{found['plain_peak_mb']:,.0f} MiB" if "plain_peak_mb" in found else "–"
    return [
        *(f"{int(rows):,}", steps, _told(found, "seconds", 2), f"{found['rows_per_second']:,.0f}"),
        f"{found['peak_mb']:,.0f} MiB",
        f"{_told(found, 'plain_seconds', 1)} s{' (in proportion)' * found['plain_extrapolated']}",
        *(plain_peak, f"{found['speedup']:.1f}"),
    ]


def _run(command: list[str]) -> dict[str, Any]:
    """What a process printed, and its peak memory."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, stdout=output)
        _, status, resources = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{' '.join(command)} failed")
        output.seek(0)
        found = json.loads(output.read())
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return found | {"peak_mb": resources.ru_maxrss / unit}


def pipeline(directory: Path, kind: features.Kind, size: float) -> dict[str, Any]:
    """From the files of some days to windows, a day at a time."""
    for name in ("talib", "ml_assets.resources.ticks.index"):
        import_module(name)
    started = time.perf_counter()
    parts = ("bars", "features", "windows")
    spent = dict.fromkeys(("index", *parts), 0.0)
    earlier_bars: list[pa.Table] = []
    earlier_rows: list[pa.Table] = []
    scaler: StandardScaler | None = None
    count = 0
    source = FileTicks(directory=str(directory))
    days = source.days()
    spent["index"] = time.perf_counter() - started

    def ticks_of(window: tuple[datetime, datetime]) -> pa.Table:
        raw = data.arrived(source.read(*window), *window, "UTC", source.describe())
        return data.clean(raw, *window).ticks

    midnights = [datetime.combine(day, datetime.min.time(), UTC) for day in days]
    windows = [(start, start + timedelta(days=1)) for start in midnights]
    arriving = ahead(ticks_of, windows)
    for day, (start, end) in zip(days, windows, strict=True):
        clock = [time.perf_counter()]
        bars = pa.concat_tables([*earlier_bars, features.bars(next(arriving), kind, size)])
        clock.append(time.perf_counter())
        rows = features.compute(bars, start, end)
        clock.append(time.perf_counter())
        series = features.series(pa.concat_tables([*earlier_rows, rows]), source.describe())
        scaler = scaler or StandardScaler.fit(series.features)
        scaler.transform(series.features)
        count += len(ending(series, features.LENGTH, np.datetime64(day)))
        clock.append(time.perf_counter())
        earlier_bars = [bars.slice(max(len(bars) - features.WARM_UP_BARS, 0))]
        earlier_rows = [rows.slice(max(len(rows) - features.LENGTH + 1, 0))]
        for name, seconds in zip(parts, np.diff(clock).tolist(), strict=True):
            spent[name] += seconds
    return {"windows": count, "seconds": time.perf_counter() - started, "by_part": spent}


def write_days(directory: Path, source: Path | None, rows: int) -> None:
    """Write so many trades as one CSV file a day."""
    for day, trades in _repeated(source):
        part = trades.head(rows)
        moved = part.with_columns(pl.col("timestamp").dt.strftime("%Y-%m-%d %H:%M:%S%.3f"))
        moved.write_csv(directory / f"{day}.csv")
        rows -= len(part)
        if not rows:
            return


def _repeated(source: Path | None) -> Iterator[tuple[date, pl.DataFrame]]:
    """Days of trades without end, week after week."""
    week = 0
    while True:
        for trades in _days(source):
            moved = trades.with_columns(pl.col("timestamp") + timedelta(weeks=week))
            yield moved["timestamp"][0].date(), moved
        week += 1


def _days(source: Path | None) -> Iterator[pl.DataFrame]:
    if source:
        for path in sorted(source.glob("*.parquet")):
            yield pl.read_parquet(path, columns=list(COLUMNS))
        return
    sample = pq.ParquetFile(SAMPLES / data.SAMPLE_NAME)
    for number in range(sample.num_row_groups):
        yield pl.DataFrame(sample.read_row_group(number, list(COLUMNS)))


if __name__ == "__main__":
    sys.exit(main())
