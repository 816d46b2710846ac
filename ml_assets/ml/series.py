"""Bars as arrays, and series of bars of which is known what they hold: nothing, or a signal.

Forecasting is tried on the latter before anybody believes it on real bars. Real bars are made
elsewhere.
"""

import dataclasses
import hashlib
from dataclasses import dataclass

import numpy as np

_SESSION = 390
_DEVIATION = 1e-4
_TRADES = 30


@dataclass(frozen=True)
class BarSeries:
    """Bars in the order of time. All values of a row are known at the end of its bar.

    Attributes:
        features: `(n, k)` float32, NaN where unknown.
        names: The k names of the features.
        price: `(n,)` float64, the close.
        log_return: `(n,)` float64, from the close before; NaN at the beginning of a session.
        volatility: `(n,)` float64, the realised deviation of log returns inside the bar.
        sessions: `(n,)` int64, the session of the bar, never decreasing.
        times: `(n,)` datetime64[us], UTC: when the bar is known.
        days: `(n,)` datetime64[D], never decreasing: the day of the bar in the group's time zone.
        bar_type: What makes a bar full, and how many of it, such as "time 60".
        source: Where the bars come from.
        data_digest: SHA-256 of the rows that they were read from.
    """

    features: np.ndarray
    names: list[str]
    price: np.ndarray
    log_return: np.ndarray
    volatility: np.ndarray
    sessions: np.ndarray
    times: np.ndarray
    days: np.ndarray
    bar_type: str
    source: str
    data_digest: str


def random_walk(bars: int, *, seed: int) -> BarSeries:
    """Returns that depend on nothing before: no forecast beats zero, except by luck."""
    random = np.random.default_rng(seed)
    return _series(_DEVIATION * random.standard_normal(bars), random, f"random walk {seed}")


def autoregressive(bars: int, *, share: float, seed: int) -> BarSeries:
    """Returns of which `share` of the variance follows from the return before (negatively)."""
    from scipy.signal import lfilter

    random = np.random.default_rng(seed)
    noise = _DEVIATION * random.standard_normal(bars)
    returns = lfilter([1.0], [1.0, share**0.5], noise)
    return _series(returns, random, f"autoregressive {share} {seed}")


def with_shuffled_targets(series: BarSeries, *, seed: int) -> BarSeries:
    """The same features, with the returns and volatilities of other bars: all links are cut."""
    known = np.flatnonzero(np.isfinite(series.log_return) & np.isfinite(series.volatility))
    order = np.random.default_rng(seed).permutation(known)
    log_return, volatility = series.log_return.copy(), series.volatility.copy()
    log_return[known], volatility[known] = log_return[order], volatility[order]
    source = f"{series.source}, shuffled {seed}"
    return dataclasses.replace(
        series,
        log_return=log_return,
        volatility=volatility,
        price=series.price[0] * np.exp(np.nancumsum(log_return)),
        source=source,
        data_digest=hashlib.sha256(f"{series.data_digest} {source}".encode()).hexdigest(),
    )


def _series(returns: np.ndarray, random: np.random.Generator, source: str) -> BarSeries:
    """Bars with these returns in sessions of a day, and plain features of the past."""
    bars = len(returns)
    volatility = _DEVIATION * np.sqrt(random.chisquare(_TRADES, bars) / _TRADES)
    sessions = np.arange(bars) // _SESSION
    features = {"log_return": returns, "volatility": volatility}
    for length in (5, 20):
        features[f"mean_{length}"] = _mean(returns, length)
        features[f"deviation_{length}"] = np.sqrt(_mean(returns**2, length))
    first = np.diff(sessions, prepend=-1) > 0
    price = 100 * np.exp(np.cumsum(returns))
    return BarSeries(
        features=np.column_stack(list(features.values())).astype(np.float32),
        names=list(features),
        price=price,
        log_return=np.where(first, np.nan, returns),
        volatility=volatility,
        sessions=sessions,
        times=np.datetime64(0, "us") + np.arange(1, bars + 1) * np.timedelta64(60, "s"),
        days=np.datetime64(0, "D") + sessions,
        bar_type="time 60",
        source=source,
        data_digest=hashlib.sha256(returns.tobytes() + volatility.tobytes()).hexdigest(),
    )


def _mean(values: np.ndarray, length: int) -> np.ndarray:
    """Mean of the latest `length` values, NaN where there are fewer."""
    found = np.full(len(values), np.nan)
    found[length - 1 :] = np.lib.stride_tricks.sliding_window_view(values, length).mean(axis=1)
    return found
