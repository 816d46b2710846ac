"""From CSV files of trades to windows as one plain pandas script: what the pipeline is measured by.

`python -m benchmarks.bare_ticks DIRECTORY KIND SIZE`: reads all files of DIRECTORY, leaves out what
the pipeline leaves out, makes bars, the same features with `rolling` and `ewm`, and appends windows
of 60 steps in a Python loop. All rows are in memory at once. It prints its figures as JSON.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from ml_assets.tick.data import FAR, NEAR, OUTLIER_DEVIATIONS, OUTLIER_JUMP
from ml_assets.tick.features import FEATURES, LENGTH


def main(directory: Path, kind: str, size: float) -> None:
    """Do everything once; print the seconds of each part and the number of windows."""
    clock = [time.perf_counter()]
    ticks = pd.concat(pd.read_csv(path) for path in sorted(directory.glob("*.csv")))
    ticks["timestamp"] = pd.to_datetime(ticks["timestamp"], utc=True)
    clock.append(time.perf_counter())
    ticks = cleaned(ticks)
    clock.append(time.perf_counter())
    bars = made_into_bars(ticks, kind, size)
    clock.append(time.perf_counter())
    values = features(bars)
    values = values[np.isfinite(values).all(axis=1)]
    values = ((values - values.mean(axis=0)) / values.std(axis=0)).astype(np.float32)
    clock.append(time.perf_counter())
    windows = []
    for end in range(LENGTH, len(values) + 1):
        windows.append(values[end - LENGTH : end])  # noqa: PERF401 - the plain way
    found = np.array(windows)
    clock.append(time.perf_counter())
    parts = ("read", "clean", "bars", "features", "windows")
    spent = dict(zip(parts, np.diff(clock).tolist(), strict=True))
    seconds = clock[-1] - clock[0]
    print(json.dumps({"windows": len(found), "seconds": seconds, "by_part": spent}))


def cleaned(ticks: pd.DataFrame) -> pd.DataFrame:
    """Positive prices and sizes in the order of time, without outliers."""
    ticks = ticks[(ticks["price"] > 0) & (ticks["size"] > 0)]
    ticks = ticks.sort_values("timestamp", kind="stable")
    logs = np.log(ticks["price"])
    near, far = (logs.rolling(count).median().shift() for count in (NEAR, FAR))
    deviation = (logs - far).abs().rolling(FAR).median().shift()
    limit = (OUTLIER_DEVIATIONS * deviation).clip(lower=OUTLIER_JUMP)
    return ticks[~(np.minimum((logs - near).abs(), (logs - far).abs()) > limit)]


def made_into_bars(ticks: pd.DataFrame, kind: str, size: float) -> pd.DataFrame:
    """Bars of so many seconds; every tick a bar of its own for bars of one tick."""
    if kind == "tick" and size == 1:
        named = ticks.rename(columns={"price": "close", "size": "volume"})
        return named.assign(
            open=named["close"], high=named["close"], low=named["close"], vwap=named["close"]
        ).reset_index(drop=True)
    ticks = ticks.assign(money=ticks["price"] * ticks["size"])
    groups = ticks.groupby(ticks["timestamp"].dt.floor(f"{size:g}s"))
    bars = groups.agg(
        open=("price", "first"),
        high=("price", "max"),
        low=("price", "min"),
        close=("price", "last"),
        ticks=("price", "count"),
        volume=("size", "sum"),
        money=("money", "sum"),
    )
    return bars.assign(vwap=bars["money"] / bars["volume"]).reset_index()


def features(bars: pd.DataFrame) -> np.ndarray:
    """The features of the pipeline, `(n, 17)` float64."""
    close, volume = bars["close"], np.log1p(bars["volume"])
    logs = np.log(close)
    middle, spread = close.rolling(20).mean(), close.rolling(20).std(ddof=0)
    change = close.diff()
    gain, loss = (
        part.ewm(alpha=1 / 14, adjust=False).mean()
        for part in (change.clip(lower=0), -change.clip(upper=0))
    )
    line = close.ewm(span=12, adjust=False).mean() - close.ewm(span=26, adjust=False).mean()
    signal = line.ewm(span=9, adjust=False).mean()
    time_of_day = bars["timestamp"] - bars["timestamp"].dt.normalize()
    angle = 2 * np.pi * (time_of_day / pd.Timedelta(days=1))
    found = {
        **{f"return_{lag}": logs.diff(lag) for lag in (1, 5, 15)},
        **{f"sma_{n}": close / close.rolling(n).mean() - 1 for n in (15, 60)},
        **{f"ema_{n}": close / close.ewm(span=n, adjust=False).mean() - 1 for n in (12, 26)},
        "bollinger_position_20": ((close - middle + 2 * spread) / (4 * spread))
        .where(spread > 1e-9, 0.5)
        .where(middle.notna()),
        "bollinger_width_20": 4 * spread / middle,
        "rsi_14": (100 * gain / (gain + loss)).fillna(0.0),
        "macd_line": line / close,
        "macd_signal": signal / close,
        "macd_histogram": (line - signal) / close,
        "realised_volatility_30": np.sqrt((logs.diff() ** 2).rolling(30).sum()),
        "volume_zscore_60": (volume - volume.rolling(60).mean())
        / volume.rolling(60).std(ddof=0).clip(lower=1e-6),
        "time_of_day_sin": np.sin(angle),
        "time_of_day_cos": np.cos(angle),
    }
    return pd.DataFrame(found)[list(FEATURES)].to_numpy()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
