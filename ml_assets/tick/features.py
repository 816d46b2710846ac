"""From clean ticks to bars, from bars to indicators, from indicators to windows of them.

A bar never spans two days, and where nothing was traded there is none: nothing is filled forward.
A row of features knows its own bar and those before it, never a later one; the first return of a
day is that since the day before. Each day's indicators begin `WARM_UP_BARS` before it, whatever
range is computed: a day is the same alone and in a year. What cannot be computed is NaN.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Literal

import numpy as np

from ml_assets.ml.days import day_of, later, local_days, midnight, nanoseconds
from ml_assets.ml.errors import DataError
from ml_assets.ml.series import BarSeries
from ml_assets.ml.windows import HORIZON, starts, views
from ml_assets.tick.data import in_order

if TYPE_CHECKING:
    import pyarrow as pa

Kind = Literal["time", "tick", "volume", "dollar"]
TIME = "event_time_utc"

WARM_UP_BARS = 240
"""How many bars before its first one a day's indicators begin: after as many, what an average of 26
with infinite memory owes to the bar it began with is below 1e-8."""
LOOKBACK_DAYS = 5
"""How many days before the day these bars may be: exchanges close from Thursday to Tuesday at
Easter."""
LENGTH = 60
"""Bars in a window."""
LONGEST_BREAK = 3_600 * 10**6
"""How many microseconds without a tick may lie between two bars of which the return is told."""

FEATURES = (
    "return_1",
    "return_5",
    "return_15",
    "sma_15",
    "sma_60",
    "ema_12",
    "ema_26",
    "bollinger_position_20",
    "bollinger_width_20",
    "rsi_14",
    "macd_line",
    "macd_signal",
    "macd_histogram",
    "realised_volatility_30",
    "volume_zscore_60",
    "time_of_day_sin",
    "time_of_day_cos",
)
"""The features; `_indicators` tells what they are."""

INPUTS = (*FEATURES, "volatility")
"""What a network reads of a bar."""

DEVIATIONS = np.sqrt(4 * np.log(2))
"""How many deviations of the log price inside a bar its range is (Parkinson)."""

_DAY_NS = 86_400 * 10**9
_FLAT = 1e-6


def bars(ticks: "pa.Table", kind: Kind, size: float, timezone: str = "UTC") -> "pa.Table":
    """The bars of some days.

    A bar of `volume` or `dollar` ends with the tick that completes `size`; what is beyond counts
    for the next one. The last bar of a day is as long as the day lets it.

    Args:
        ticks: What `data.clean` gives, in any order.
        kind: What makes a bar full: seconds, ticks, units traded, or money traded.
        size: How many of them.
        timezone: IANA name of the time zone whose days count.

    Returns:
        `event_time_utc` (for time bars the beginning, counted from midnight in steps of `size`;
        else the first tick), `end_time_utc` (for time bars the beginning of the next, else the last
        tick; never before it, in microseconds), `bar` (its number among those of the day), `open`,
        `high`, `low`, `close`, `ticks`, `volume` and `vwap` (null for quotes), `buy_volume` and
        `sell_volume` (null where the side of no tick is known), `spread` (mean of ask - bid, null
        for trades), `bar_type` (kind and size, such as "time 60").

    Raises:
        DataError: Quotes have no volume; or `size` is not positive, or no whole number of ticks.
    """
    import polars as pl

    found = pl.DataFrame(ticks)
    _check(found["size"].null_count() > 0, kind, size)
    times, rows = found["event_time_ns"].to_numpy(), found["row"].to_numpy()
    order = None if in_order(times, rows) else np.lexsort((rows, times))
    columns = {
        name: found[name].to_numpy() if order is None else found[name].to_numpy()[order]
        for name in ("event_time_ns", "price", "size", "bid", "ask", "side")
        if name in {"event_time_ns", "price"} or found[name].null_count() < len(found)
    }
    times = columns["event_time_ns"]
    starts, begins, ends, numbers = [], [], [], []
    for edge, next_edge, day in _days(times, timezone):
        part = {name: values[day] for name, values in columns.items()}
        first, begin, end = _divided(part, kind, size, edge, next_edge)
        starts.append(first + day.start)
        begins.append(begin)
        ends.append(end)
        numbers.append(np.arange(len(first)))
    if not starts:
        return _empty_bars(f"{kind} {size:g}")
    return _table(
        {
            TIME: np.concatenate(begins).view("datetime64[us]"),
            "end_time_utc": np.concatenate(ends).view("datetime64[us]"),
            "bar": np.concatenate(numbers),
            **_aggregated(columns, np.concatenate(starts)),
        },
        f"{kind} {size:g}",
    )


def _check(quotes: bool, kind: Kind, size: float) -> None:
    if quotes and kind in {"volume", "dollar"}:
        raise DataError(
            f"sizes of trades for {kind} bars", "quotes without sizes", "choose time or tick bars"
        )
    if not size > 0 or (kind == "tick" and size != int(size)):
        raise DataError(
            "a positive size of bars, a whole number for tick bars",
            f"{size} for {kind} bars",
            "correct it",
        )


def _days(times: np.ndarray, timezone: str) -> list[tuple[int, int, slice]]:
    """Midnight, the next midnight, and the rows between, of days with rows; times in order."""
    if not len(times):
        return []
    first, last = (
        day_of(datetime.fromtimestamp(int(time) // 10**9, UTC), timezone)
        for time in (times[0], times[-1])
    )
    count = (last - first).days + 2
    edges = np.array([nanoseconds(midnight(first + timedelta(d), timezone)) for d in range(count)])
    rows = np.searchsorted(times, edges)
    return [
        (
            int(edges[number]),
            int(edges[number + 1]),
            slice(int(rows[number]), int(rows[number + 1])),
        )
        for number in range(count - 1)
        if rows[number] < rows[number + 1]
    ]


def _divided(
    day: dict[str, np.ndarray], kind: Kind, size: float, edge: int, next_edge: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the bars of a day begin, and their first and last times in microseconds."""
    times = day["event_time_ns"]
    if kind == "tick":
        starts = np.arange(0, len(times), int(size))
    else:
        if kind == "time":
            step = round(size * 1e9)
            full = (times - edge) // step
        else:
            traded = day["size"] if kind == "volume" else day["size"] * day["price"]
            full = np.floor(np.concatenate([[0.0], np.cumsum(traded)[:-1]]) / size)
        starts = np.concatenate([[0], np.flatnonzero(full[1:] != full[:-1]) + 1])
    if kind == "time":
        begins = edge + full[starts] * step
        ends = np.minimum(begins + step, next_edge)
    else:
        begins = times[starts]
        ends = times[np.concatenate([starts[1:], [len(times)]]) - 1]
    return starts, begins // 1000, -(-ends // 1000)


def _aggregated(ticks: dict[str, np.ndarray], starts: np.ndarray) -> dict[str, np.ndarray | None]:
    """What the ticks of each bar come to; None for what is not known of any."""
    price, size = ticks["price"], ticks.get("size")
    after = np.append(starts[1:], len(price))
    count = after - starts
    every = len(starts) == len(price)

    def total(of: np.ufunc, values: np.ndarray) -> np.ndarray:
        """One value a bar; of bars of one tick the tick's."""
        return values if every else of.reduceat(values, starts)

    found: dict[str, np.ndarray | None] = {
        "open": price if every else price[starts],
        "high": total(np.maximum, price),
        "low": total(np.minimum, price),
        "close": price if every else price[after - 1],
        "ticks": count,
        **dict.fromkeys(("volume", "vwap", "buy_volume", "sell_volume", "spread")),
    }
    if size is not None:
        volume = total(np.add, size)
        found |= {"volume": volume, "vwap": total(np.add, price * size) / volume}
        if "side" in ticks:
            side = np.nan_to_num(ticks["side"].astype(float))
            known = total(np.add, np.abs(side)) > 0
            for name, sign in (("buy_volume", 1), ("sell_volume", -1)):
                traded = total(np.add, np.where(side == sign, size, 0.0))
                found[name] = np.where(known, traded, np.nan)
    if "bid" in ticks:
        found["spread"] = total(np.add, ticks["ask"] - ticks["bid"]) / count
    return found


_BAR_COLUMNS = (
    *("event_time_utc", "end_time_utc", "bar", "open", "high", "low", "close", "ticks"),
    *("volume", "vwap", "buy_volume", "sell_volume", "spread"),
)


def _empty_bars(bar_type: str) -> "pa.Table":
    nothing: dict[str, np.ndarray | None] = dict.fromkeys(_BAR_COLUMNS, np.empty(0))
    times = dict.fromkeys(_BAR_COLUMNS[:2], np.empty(0, "datetime64[us]"))
    return _table(
        nothing | times | dict.fromkeys(("bar", "ticks"), np.empty(0, np.int64)), bar_type
    )


def _table(columns: dict[str, np.ndarray | None], bar_type: str) -> "pa.Table":
    """An Arrow table; NaN is null, times are UTC, and None is a column of nothing."""
    import pyarrow as pa

    times = columns[TIME]
    count = 0 if times is None else len(times)
    found = {name: _column(values, count) for name, values in columns.items()}
    return pa.table(found | {"bar_type": pa.repeat(bar_type, count)})


def _column(values: np.ndarray | None, count: int) -> "pa.Array":
    import pyarrow as pa

    if values is None:
        return pa.nulls(count, pa.float64())
    if values.dtype.kind == "M":
        return pa.array(values.view(np.int64)).cast(pa.timestamp("us", "UTC"))
    # To look for NaN first is cheaper than a mask of none.
    return pa.array(values, from_pandas=values.dtype.kind == "f" and np.isnan(values).any())


def lookback(start: datetime, timezone: str) -> datetime:
    """The midnight from which on bars are needed for the features of a day that begins then."""
    return later(start, -LOOKBACK_DAYS, timezone)


def compute(bars: "pa.Table", start: datetime, end: datetime, timezone: str = "UTC") -> "pa.Table":
    """The features of the bars of some days.

    Args:
        bars: What `bars` gives, in any order, from `lookback(start, timezone)` on.
        start: Midnight at which the first day begins.
        end: Midnight at which the last day ends.
        timezone: IANA name of the time zone whose days count.

    Returns:
        One row a bar: `event_time_utc`, `end_time_utc` (the row is known from then on), `bar`,
        `bar_type`, `close`, `volatility` (the deviation of the log price inside the bar, from its
        range: M. Parkinson, "The extreme value method", Journal of Business 53, 1980), and
        `FEATURES`, float32.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    found = _ordered(bars)
    times = _microseconds(found[TIME]) * 1000
    closes = found["close"].to_numpy()
    traded = pc.coalesce(found["volume"], found["ticks"].cast(pa.float64())).to_numpy()
    window = nanoseconds(start), nanoseconds(end)
    days = [day for day in _days(times, timezone) if window[0] <= day[0] < window[1]]
    rows = slice(days[0][2].start, days[-1][2].stop) if days else slice(0, 0)
    columns = {name: np.empty(rows.stop - rows.start, np.float32) for name in FEATURES}
    for edge, _, day in days:
        begin = datetime.fromtimestamp(edge // 10**9, UTC)
        oldest = np.searchsorted(times, nanoseconds(lookback(begin, timezone)))
        first = max(day.start - WARM_UP_BARS, int(oldest))
        into = slice(day.start - rows.start, day.stop - rows.start)
        for name, values in chain(
            _indicators(closes[first : day.stop], traded[first : day.stop]),
            _time_of_day(times[first : day.stop] - edge),
        ):
            columns[name][into] = values[day.start - first :]
    kept = found.slice(rows.start, rows.stop - rows.start)
    same = {name: kept[name] for name in (TIME, "end_time_utc", "bar", "bar_type", "close")}
    same["bar_type"] = same["bar_type"].cast(pa.string())
    return pa.table(same | {"volatility": _volatility(kept)} | columns)


def _volatility(bars: "pa.Table") -> np.ndarray:
    ranges = np.log(bars["high"].to_numpy()) - np.log(bars["low"].to_numpy())
    return (ranges / DEVIATIONS).astype(np.float32)


def _indicators(close: np.ndarray, traded: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The features of bars that follow one another, from nothing before them, one by one.

    Returns are of logarithms. Averages are relative to the price: `close / average - 1`. The
    position in the Bollinger bands is 0 at the lower and 1 at the upper one, 0.5 if they are one;
    their width is relative to the middle. The RSI is from 0 to 100, 50 where no move is remembered.
    The MACD (12, 26, 9) is relative to the price. The realised volatility is the root of the summed
    squares of the last 30 returns. The volume's z-score is of its logarithm, among the last 60
    bars; of quotes the number of ticks counts.

    Args:
        close: `(n,)` float64, positive.
        traded: `(n,)` float64.
    """
    import talib

    # Each feature is written down before the next is begun: memory costs more than arithmetic.
    logs = np.log(close)
    for lag in (1, 5, 15):
        yield f"return_{lag}", _difference(logs, lag)
    squares = _difference(logs, 1) ** 2
    volatility = np.full(len(close), np.nan)
    if len(close) > 1:  # the first return is unknown
        volatility[1:] = np.sqrt(np.maximum(talib.SUM(squares[1:], 30), 0))
    yield "realised_volatility_30", volatility
    for length in (15, 60):
        yield f"sma_{length}", close / talib.SMA(close, length) - 1
    for length in (12, 26):
        yield f"ema_{length}", close / talib.EMA(close, length) - 1
    macd = zip(("line", "signal", "histogram"), talib.MACD(close, 12, 26, 9), strict=True)
    for name, values in macd:
        yield f"macd_{name}", values / close
    # In hundredths of a per cent from the first price: TA-Lib takes what is below 1e-14 for 0.
    level = (close / close[0] - 1) * 1e4
    strength = talib.RSI(level, 14)
    nothing = strength == 0
    if nothing.any():
        still = talib.MAX(level, 15) == talib.MIN(level, 15)
        strength[still & nothing] = 50.0
    yield "rsi_14", strength
    upper, middle, lower = talib.BBANDS(level, 20, 2.0, 2.0, 0)
    yield "bollinger_position_20", _ratio(level - lower, upper - lower, 0.5)
    yield "bollinger_width_20", (upper - lower) / (1e4 + middle)
    volume = np.log1p(traded)
    deviation = volume - talib.SMA(volume, 60)
    yield "volume_zscore_60", _ratio(deviation, talib.STDDEV(volume, 60, 1.0), 0.0)


def _difference(values: np.ndarray, lag: int) -> np.ndarray:
    found = np.full(len(values), np.nan)
    found[lag:] = values[lag:] - values[:-lag]
    return found


def _ratio(over: np.ndarray, under: np.ndarray, otherwise: float) -> np.ndarray:
    """The ratio, or something else where there is nothing to divide by."""
    flat = under < _FLAT
    if flat.any():
        over[flat], under[flat] = otherwise, 1.0
    return over / under


def _time_of_day(since_midnight: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    # As float32, which the features are, sine and cosine are found twenty times faster.
    angle = (2 * np.pi * (since_midnight / _DAY_NS)).astype(np.float32)
    yield "time_of_day_sin", np.sin(angle)
    yield "time_of_day_cos", np.cos(angle)


def series(rows: "pa.Table", source: str, timezone: str = "UTC") -> BarSeries:
    """The bars of a window of days, with their features and what is forecast of them.

    A session ends where the market was closed for more than `LOOKBACK_DAYS`: after that, features
    begin anew. The return of a bar that follows a break of more than `LONGEST_BREAK` is unknown:
    what happens while nothing is traded is not forecast.

    Args:
        rows: What `compute` gives, in any order.
        source: Where they come from.
        timezone: IANA name of the time zone whose days count.

    Raises:
        DataError: There are no bars, or bars of different kinds.
    """
    from xxhash import xxh3_128

    found = _ordered(rows)
    kinds = sorted(found["bar_type"].unique().to_pylist())
    if len(kinds) != 1:
        raise DataError(
            f"bars of one kind in {source}",
            ", ".join(kinds) or "no bars",
            "materialize raw_ticks, ticks, bars and features of these days, all with the same "
            "configuration",
        )
    begins, ends = (_microseconds(found[name]) for name in (TIME, "end_time_utc"))
    breaks = begins[1:] - ends[:-1]
    close = found["close"].to_numpy()
    log_return = np.full(len(close), np.nan)
    log_return[1:] = np.where(breaks > LONGEST_BREAK, np.nan, np.diff(np.log(close)))
    sessions = np.zeros(len(close), np.int64)
    sessions[1:] = np.cumsum(np.diff(begins) > LOOKBACK_DAYS * _DAY_NS // 1000)
    matrix = _matrix(found)
    digest = xxh3_128(" ".join((kinds[0], *INPUTS)).encode())
    for values in (begins, ends, close, matrix):
        digest.update(values.data)
    return BarSeries(
        features=matrix,
        names=list(INPUTS),
        price=close,
        log_return=log_return,
        volatility=found["volatility"].to_numpy().astype(np.float64),
        sessions=sessions,
        times=ends.view("datetime64[us]"),
        days=local_days(found[TIME], timezone),
        bar_type=kinds[0],
        source=source,
        data_digest=digest.hexdigest(),
    )


def require_known(found: BarSeries, steps: int) -> None:
    """Raise `DataError` if there are bars enough for a window, but none of which all is known.

    So it is of bars that are too large: a day's features know few bars before it then.

    Args:
        found: What `series` gives.
        steps: Bars of a window.
    """
    known = np.isfinite(found.features)
    enough = len(starts(found.sessions, steps + HORIZON)) > 0
    if enough and not views(known.all(axis=1, keepdims=True), steps).all(axis=1).any():
        counts = known.sum(axis=0)
        least = int(counts.argmin())
        raise DataError(
            f"windows of {steps} bars of {found.bar_type} of which all features are known",
            f"{found.names[least]} at {counts[least]} of {len(found.features)} bars in "
            f"{found.source}",
            f"choose smaller bars (TICK_BAR_SIZE) and materialize bars and features of all days: "
            f"in the {LOOKBACK_DAYS} days before a day there must be 60 of them",
        )


def _matrix(rows: "pa.Table") -> np.ndarray:
    """What a network reads of each bar, `(n, k)` float32."""
    found = np.empty((len(rows), len(INPUTS)), np.float32)
    for number, name in enumerate(INPUTS):
        first = 0
        for chunk in rows[name].chunks:
            found[first : first + len(chunk), number] = chunk.to_numpy(zero_copy_only=False)
            first += len(chunk)
    return found


def _ordered(table: "pa.Table") -> "pa.Table":
    """Bars, or their features, in the order of time."""
    if in_order(_microseconds(table[TIME]), table["bar"].to_numpy()):
        return table
    return table.sort_by([(TIME, "ascending"), ("bar", "ascending")])


def _microseconds(times: "pa.ChunkedArray") -> np.ndarray:
    return times.to_numpy().view(np.int64)
