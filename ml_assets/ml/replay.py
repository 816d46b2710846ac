"""Recorded weeks repeated for ever, so that a finished data set can feed a daily pipeline.

Which day of the record stands for a day is decided here; what a day holds is not known.
"""

from datetime import date, timedelta


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
