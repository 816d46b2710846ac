"""Sliding windows over rows in the order of time, and splits that no row crosses.

A window is known by its start, the number of its first row. Its *span* is the number of rows
that it knows: its steps, and as many rows after them as its target lies ahead.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml_assets.ml.errors import DataError
from ml_assets.ml.scaling import StandardScaler
from ml_assets.ml.series import BarSeries

HORIZON = 1
"""How many bars after a window's last one its target lies."""


@dataclass(frozen=True)
class Split:
    """Starts of windows, each part before the next, and no row known to windows of two parts.

    Attributes:
        train: `(a,)` int64, ascending.
        validation: `(b,)` int64, ascending.
        test: `(c,)` int64, ascending.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Windows(BarSeries):
    """The windows of a series, in three parts, and what scales their rows.

    Rows are held once and as they are: the network that reads them scales them by itself, so that
    a champion with another scaler reads the same rows.

    Attributes:
        steps: Bars of a window.
        means: k floats, of the rows that the training windows know.
        deviations: k floats above zero, of the same rows.
        train: `(a,)` int64, ascending starts of windows.
        validation: `(b,)` int64, all later.
        test: `(c,)` int64, all later.
    """

    steps: int
    means: list[float]
    deviations: list[float]
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    @property
    def scaler(self) -> StandardScaler:
        """What brings the rows of the training windows to mean 0 and deviation 1."""
        return StandardScaler(self.means, self.deviations)

    @property
    def matrix(self) -> np.ndarray:
        """`(n, k)` float32: the scaled rows; what is unknown is 0, the mean."""
        return self.scaler.transform(self.features)

    @property
    def reads(self) -> str:
        """What a network must read to forecast from these windows, for people."""
        return f"{self.steps} bars of {self.bar_type}: {', '.join(self.names)}"

    def days_of(self, starts: np.ndarray) -> np.ndarray:
        """The days `(m,)` datetime64[D] of the targets of some windows."""
        return self.days[starts + self.steps - 1 + HORIZON]

    @property
    def specification(self) -> dict[str, Any]:
        """What a window is, as JSON."""
        return {
            "features": self.names,
            "bar_type": self.bar_type,
            "steps": self.steps,
            "horizon": HORIZON,
            "means": self.means,
            "deviations": self.deviations,
            "windows": {name: len(getattr(self, name)) for name in _PARTS},
        }


_PARTS = ("train", "validation", "test")


def windowed(
    series: BarSeries, *, steps: int, validation_fraction: float, test_fraction: float
) -> Windows:
    """All whole windows of a series, those of the latest days to test on.

    A window belongs to the day of its target. Parts are whole days, one at least.

    Args:
        series: The bars.
        steps: Bars of a window.
        validation_fraction: Share of the days.
        test_fraction: Share of the days.

    Raises:
        DataError: There are too few windows.
    """
    found = whole(series, steps)
    _, counts = np.unique(series.days[found + steps - 1 + HORIZON], return_counts=True)
    test, validation = (
        max(1, round(share * len(counts))) for share in (test_fraction, validation_fraction)
    )
    parts = split(
        found,
        span=steps + HORIZON,
        validation=int(counts[-test - validation : -test].sum()),
        test=int(counts[-test:].sum()),
    )
    return in_parts(series, steps, parts)


def whole(series: BarSeries, steps: int) -> np.ndarray:
    """Starts `(m,)` of the windows of which all is known, their targets too.

    A window lies in one session with its target; return and volatility are known of its last bar,
    from which naive forecasts are made, and of its target.
    """
    found = starts(series.sessions, steps + HORIZON)
    unknown = _unknown(series.features)
    told = np.isfinite(series.log_return) & np.isfinite(series.volatility)
    known = unknown[found + steps] == unknown[found]
    return found[known & told[found + steps - 1] & told[found + steps - 1 + HORIZON]]


def ending(series: BarSeries, steps: int, day: np.datetime64) -> np.ndarray:
    """Starts `(m,)` of the windows that end on a day and of whose rows all is known."""
    found = starts(series.sessions, steps)
    unknown = _unknown(series.features)
    known = unknown[found + steps] == unknown[found]
    return found[known & (series.days[found + steps - 1] == day)]


def _unknown(rows: np.ndarray) -> np.ndarray:
    """How many of the rows `(n, k)` before each, and before the end, are not finite throughout."""
    found = np.zeros(len(rows) + 1, np.int64)
    # Few values are not finite: to find them is cheaper than to ask of each row for all.
    found[np.flatnonzero(~np.isfinite(rows)) // rows.shape[1] + 1] = 1
    return np.cumsum(found)


def in_parts(series: BarSeries, steps: int, parts: Split) -> Windows:
    """These windows of a series; what scales them is fitted on rows of the training windows."""
    seen = np.zeros(len(series.features) + 1, np.int64)
    np.add.at(seen, parts.train, 1)
    np.add.at(seen, parts.train + steps, -1)
    scaler = StandardScaler.fit(series.features[np.cumsum(seen)[:-1] > 0])
    digest = hashlib.sha256(f"{series.data_digest} {steps}".encode())
    for name, part in vars(parts).items():
        digest.update(f"{name} {len(part)} ".encode() + part.tobytes())
    return Windows(
        **vars(series) | {"data_digest": digest.hexdigest()},
        steps=steps,
        means=scaler.mean,
        deviations=scaler.scale,
        **vars(parts),
    )


def views(rows: np.ndarray, steps: int) -> np.ndarray:
    """All windows `(n - steps + 1, steps, k)` of rows `(n, k)`, as a read-only view.

    >>> rows = np.arange(8).reshape(4, 2)
    >>> views(rows, 3)[1].tolist()
    [[2, 3], [4, 5], [6, 7]]
    >>> np.shares_memory(views(rows, 3), rows)
    True
    """
    return np.lib.stride_tricks.sliding_window_view(rows, steps, axis=0).swapaxes(1, 2)


def starts(sessions: np.ndarray, span: int) -> np.ndarray:
    """Starts of the windows whose whole span lies within one session.

    Args:
        sessions: `(n,)` int, the session of each row, never decreasing.
        span: Rows that a window knows.

    >>> starts(np.array([0, 0, 0, 1, 1, 1, 1]), 3)
    array([0, 3, 4])
    """
    whole = sessions[span - 1 :] == sessions[: len(sessions) - span + 1]
    return np.flatnonzero(whole)


def ahead(values: np.ndarray, sessions: np.ndarray, horizon: int = 1) -> np.ndarray:
    """The value `(n,)` float64 that comes `horizon` rows later in the same session, else NaN.

    >>> ahead(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0, 0, 1, 1]))
    array([ 2., nan,  4., nan])
    """
    found = np.full(len(values), np.nan)
    same = sessions[horizon:] == sessions[:-horizon]
    found[:-horizon][same] = values[horizon:][same]
    return found


def split(windows: np.ndarray, *, span: int, validation: int, test: int) -> Split:
    """The latest windows to test on, those before to validate on, the rest to train on.

    At both borders the windows that know a row of the later part are left out of the earlier one.

    Args:
        windows: `(n,)` int, starts, ascending.
        span: Rows that a window knows.
        validation: Number of windows to validate on, before some are left out.
        test: Number of windows to test on.

    Raises:
        DataError: A part would be empty.

    >>> found = split(np.arange(20), span=3, validation=4, test=4)
    >>> found.train.tolist(), found.validation.tolist(), found.test.tolist()
    ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [12, 13], [16, 17, 18, 19])
    """
    first_tested = max(len(windows) - test, 0)
    first_validated = max(first_tested - validation, 0)
    found = Split(
        train=_purged(windows[:first_validated], windows[first_validated:], span),
        validation=_purged(windows[first_validated:first_tested], windows[first_tested:], span),
        test=windows[first_tested:],
    )
    sizes = {name: len(part) for name, part in vars(found).items()}
    if 0 in sizes.values():
        raise DataError(
            f"windows of {span} rows to train, to validate and to test on, with {span - 1} left "
            "out between these parts",
            f"{sizes} of {len(windows)} windows",
            "supply more days, or configure shorter windows or other fractions",
        )
    return found


def walk_forward(
    windows: np.ndarray, *, span: int, folds: int, size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Windows to train on and to score, for each origin; the scored blocks end with the last.

    Args:
        windows: `(n,)` int, starts, ascending.
        span: Rows that a window knows.
        folds: Number of blocks.
        size: Windows in a block.

    Raises:
        DataError: Nothing is left to train on.

    >>> for train, scored in walk_forward(np.arange(10), span=2, folds=2, size=3):
    ...     print(train, scored)
    [0 1 2] [4 5 6]
    [0 1 2 3 4 5] [7 8 9]
    """
    first = len(windows) - folds * size
    if first < span:
        raise DataError(
            f"at least {folds * size + span} windows for {folds} blocks of {size}",
            f"{len(windows)}",
            "supply more days, or ask for fewer or smaller blocks",
        )
    for begin in range(first, len(windows), size):
        scored = windows[begin : begin + size]
        yield _purged(windows[:begin], scored, span), scored


def _purged(earlier: np.ndarray, later: np.ndarray, span: int) -> np.ndarray:
    """The earlier windows that end before the first of the later ones begins."""
    return earlier[earlier + span <= later[0]] if len(later) else earlier
