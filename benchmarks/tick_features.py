"""Raw CSV files of trades to bars, features and windows: rows a second and peak memory.

Day by day, as the pipeline does it, beside a plain pandas script (`benchmarks/bare_ticks.py`). The
main figures are those of bars of one tick, so that every row is a step and has a window, as in the
plain way; those of minute bars are given too, where reading is most of the work on both sides.

`--data DIR` holds real days as Parquet (`timestamp`, `price`, `size`), repeated by whole weeks
until there are enough; without it a random walk stands in for them. Files are written beforehand,
and each measurement is a process of its own whose imports are not timed. The plain way keeps all
windows in memory, 4 GiB for a million: beyond a million rows its time is taken as proportional.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from benchmarks.common import parser, report, write_json
from ml_assets.ml.scaling import StandardScaler
from ml_assets.ml.windows import views
from ml_assets.tick import data, features

ROOT = Path(__file__).parents[1]
KINDS = {"tick": 1.0, "time": 60.0}
PLAIN_ROWS = 10**6
_WALK_ROWS = 50_000
_MONDAY = date(2013, 10, 7)


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
        plain_seconds = statistics.median(run["seconds"] for run in plain)
        peak = {"plain_peak_mb": statistics.median(run["peak_mb"] for run in plain)}
    else:
        known = earlier[str(PLAIN_ROWS)]
        known = known if kind == "tick" else known["minute_bars"]
        plain_seconds, peak = known["plain_seconds"] * rows / PLAIN_ROWS, {}
    return {
        "seconds": seconds,
        "plain_seconds": plain_seconds,
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


def _row(rows: str, steps: str, found: dict[str, Any]) -> list[str]:
    plain_peak = f"{found['plain_peak_mb']:,.0f} MiB" if "plain_peak_mb" in found else "–"
    return [
        *(f"{int(rows):,}", steps, f"{found['seconds']:.2f}", f"{found['rows_per_second']:,.0f}"),
        f"{found['peak_mb']:,.0f} MiB",
        f"{found['plain_seconds']:.1f} s{' (in proportion)' * found['plain_extrapolated']}",
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
    import_module("talib")
    started = time.perf_counter()
    spent = dict.fromkeys(("read", "clean", "bars", "features", "windows"), 0.0)
    earlier_bars: list[pa.Table] = []
    earlier_rows: list[pa.Table] = []
    scaler: StandardScaler | None = None
    count = 0
    for path in sorted(directory.glob("*.csv")):
        clock = [time.perf_counter()]
        start = datetime.fromisoformat(path.stem).replace(tzinfo=UTC)
        end = start + timedelta(days=1)
        raw = data.arrived(read(path), start, end, "UTC", str(path))
        clock.append(time.perf_counter())
        ticks = data.clean(raw, start, end).ticks
        clock.append(time.perf_counter())
        bars = pa.concat_tables([*earlier_bars, features.bars(ticks, kind, size)])
        clock.append(time.perf_counter())
        rows = features.compute(bars, start, end)
        clock.append(time.perf_counter())
        series = features.series(pa.concat_tables([*earlier_rows, rows]), str(path))
        scaler = scaler or StandardScaler.fit(series.features)
        matrix = scaler.transform(series.features)
        if len(matrix) >= features.LENGTH:
            known = np.isfinite(series.features).all(axis=1)
            count += int(views(known[:, np.newaxis], features.LENGTH).all(axis=(1, 2)).sum())
        clock.append(time.perf_counter())
        earlier_bars = [_last(bars, features.WARM_UP_BARS)]
        earlier_rows = [_last(rows, features.LENGTH - 1)]
        for name, seconds in zip(spent, np.diff(clock).tolist(), strict=True):
            spent[name] += seconds
    return {"windows": count, "seconds": time.perf_counter() - started, "by_part": spent}


def _last(table: pa.Table, count: int) -> pa.Table:
    """The last rows, as a copy: a slice would keep the day in memory."""
    rows = table.slice(max(len(table) - count, 0))
    return rows.take(pa.array(range(len(rows)), pa.int64()))


def read(path: Path) -> pa.Table:
    """The trades of a file, as a source gives them."""
    found = pl.read_csv(
        path, schema={"timestamp": pl.String, "price": pl.Float64, "size": pl.Float64}
    )
    times = found["timestamp"].str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="ns", strict=False)
    nothing = {"bid": pl.Float64, "ask": pl.Float64, "side": pl.Int8, "suspicious": pl.Boolean}
    return found.select(
        times.dt.epoch("ns").alias("event_time_ns"),
        *("price", "size"),
        *(pl.lit(None, kind).alias(name) for name, kind in nothing.items()),
        pl.int_range(1, pl.len() + 1).alias("row"),
        pl.lit(None, pl.String).alias("text"),
    ).to_arrow()


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
        for day, trades in _real(source) if source else _walk():
            shift = timedelta(weeks=week)
            yield day + shift, trades.with_columns(pl.col("timestamp") + shift)
        week += 1


def _real(source: Path) -> Iterator[tuple[date, pl.DataFrame]]:
    for path in sorted(source.glob("*.parquet")):
        yield (
            date.fromisoformat(path.stem),
            pl.read_parquet(path).select("timestamp", "price", "size"),
        )


def _walk() -> Iterator[tuple[date, pl.DataFrame]]:
    random = np.random.default_rng(1)
    for number in range(5):
        day = _MONDAY + timedelta(days=number)
        seconds = np.sort(random.uniform(13.5 * 3600, 20 * 3600, _WALK_ROWS))
        steps = random.choice([-1, 0, 1], _WALK_ROWS, p=[0.15, 0.7, 0.15])
        times = np.datetime64(day, "ns") + (seconds * 1000).astype("timedelta64[ms]")
        yield (
            day,
            pl.DataFrame(
                {
                    "timestamp": times,
                    "price": (16_800 + np.cumsum(steps)) / 100,
                    "size": random.geometric(0.4, _WALK_ROWS) * 100,
                }
            ),
        )


if __name__ == "__main__":
    sys.exit(main())
