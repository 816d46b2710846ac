"""Days of a time zone: when they begin, and which ones are missing."""

from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from ml_assets.ml.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_SHOWN = 5


def midnight(day: date, timezone: str) -> datetime:
    """The UTC time at which a day begins in a time zone.

    >>> midnight(date(2024, 7, 1), "Europe/Paris").isoformat()
    '2024-06-30T22:00:00+00:00'
    """
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(timezone)).astimezone(UTC)


def nanoseconds(moment: datetime) -> int:
    """A time with a time zone in nanoseconds since 1970.

    >>> nanoseconds(datetime(1970, 1, 2, tzinfo=UTC))
    86400000000000
    """
    if moment.utcoffset() is None:
        raise DataError(
            "a time with a time zone", moment.isoformat(), "pass a `datetime` with `tzinfo`"
        )
    past = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (past.days * 86_400 + past.seconds) * 10**9 + past.microseconds * 1000


def calendar_days(start: datetime, end: datetime, timezone: str) -> list[date]:
    """The days that begin from `start` to before `end`.

    >>> len(calendar_days(midnight(date(2024, 3, 30), "Europe/Paris"),
    ...                   midnight(date(2024, 4, 2), "Europe/Paris"), "Europe/Paris"))
    3
    """
    zone = ZoneInfo(timezone)
    first, stop = (time.astimezone(zone).date() for time in (start, end))
    return [first + timedelta(days=number) for number in range((stop - first).days)]


def local_days(times: "pa.ChunkedArray", timezone: str) -> "np.ndarray":
    """The days `(n,)` datetime64[D] in a time zone of times in UTC."""
    import polars as pl

    return pl.Series(times).dt.convert_time_zone(timezone).dt.date().to_numpy()


def pieces(start: datetime, end: datetime, days: int) -> Iterator[tuple[datetime, datetime]]:
    """A window from midnight to midnight in pieces of so many days.

    >>> [last.day for _, last in pieces(datetime(2024, 3, 1), datetime(2024, 3, 8), days=3)]
    [4, 7, 8]
    """
    while start < end:
        stop = min(start + timedelta(days=days), end)  # on the wall clock: midnight to midnight
        yield start, stop
        start = stop


def require_days(wanted: list[date], found: Collection[date], source: str, remedy: str) -> None:
    """Raise `DataError` unless every wanted day was found in `source`."""
    missing = [day for day in wanted if day not in found]
    if missing:
        shown = ", ".join(map(str, missing[:_SHOWN])) + (", …" if len(missing) > _SHOWN else "")
        raise DataError(
            f"lines of all {len(wanted)} days in {source}",
            f"none of {len(missing)} days: {shown}",
            remedy,
        )
