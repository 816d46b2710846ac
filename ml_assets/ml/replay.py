"""Recorded weeks repeated for ever, so that a finished data set can feed a daily pipeline.

Which day of the record stands for a day is decided here; what a day holds is not known.
"""

from collections.abc import Mapping
from datetime import date, timedelta

import numpy as np


def historic_day(day: date, first: date, weeks: int) -> date:
    """The recorded day that stands for `day`.

    The record of `weeks` whole weeks from `first` repeats in both directions: its own days stand
    for themselves, weekdays are kept, and the answer is the same whenever it is asked.

    >>> historic_day(date(2026, 1, 31), date(2008, 1, 7), 26)
    datetime.date(2008, 2, 23)
    >>> historic_day(date(2008, 1, 6), date(2008, 1, 7), 26)
    datetime.date(2008, 7, 6)
    """
    return first + (day - first) % timedelta(weeks=weeks)


def knows(trained: Mapping[str, str], days: np.ndarray, unique_days: int | None) -> bool:
    """Whether some of the days are no news to a model, so that it cannot be judged by them.

    Args:
        trained: `trained_from` and `trained_until`, the first and the last day it learned from.
        days: `(n,)` datetime64[D].
        unique_days: Number of days after which the record repeats; None if it does not.

    Returns:
        It was trained on one of the days, on a later day, or on a day that is repeated by one.

    >>> trained = {"trained_from": "2026-01-01", "trained_until": "2026-01-20"}
    >>> later = np.array(["2026-01-30", "2026-01-31"], "datetime64[D]")
    >>> knows(trained, later, None), knows(trained, later, 28)
    (False, True)
    """
    first, last = (np.datetime64(trained[name]) for name in ("trained_from", "trained_until"))
    if (days <= last).any():
        return True
    if unique_days is None:
        return False
    length = int((last - first) / np.timedelta64(1, "D"))
    return bool(((days - first).astype(int) % unique_days <= length).any())
