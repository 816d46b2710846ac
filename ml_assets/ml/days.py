"""Days of a time zone: when they begin, what its clock shows, and which days are missing.

Nothing else in the project asks when a day begins or what a clock shows. Days are Dagster's
partitions: each begins at the first moment at which the clock shows its date, whether or not it
shows midnight then. The standard library's time zones answer, as they do for Dagster; other
libraries bring copies of the tz database of other years.
"""

from collections.abc import Callable, Collection, Iterator
from datetime import MAXYEAR, MINYEAR, UTC, date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np

from ml_assets.ml.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_SHOWN = 5
_DAY = timedelta(days=1)
_DAY64 = np.timedelta64(1, "D")
_SECONDS = "datetime64[s]"


def midnight(day: date, timezone: str) -> datetime:
    """The UTC time at which a day begins in a time zone.

    A day whose clock goes forward at midnight begins with the change. A day that a zone left out
    begins, and ends, when the next one begins.

    >>> midnight(date(2024, 7, 1), "Europe/Paris").isoformat()
    '2024-06-30T22:00:00+00:00'
    >>> midnight(date(2024, 9, 8), "America/Santiago").isoformat()
    '2024-09-08T04:00:00+00:00'
    """
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(timezone)).astimezone(UTC)


def day_of(moment: datetime, timezone: str) -> date:
    """The day in which a moment lies.

    It is the date that the clock shows, unless the clock was put back over midnight: the day that
    had begun goes on then.

    >>> day_of(datetime(2024, 6, 30, 22, tzinfo=UTC), "Europe/Paris")
    datetime.date(2024, 7, 1)
    """
    day = moment.astimezone(UTC).astimezone(ZoneInfo(timezone)).date()
    return day + _DAY if midnight(day + _DAY, timezone) <= moment.astimezone(UTC) else day


def later(moment: datetime, days: int, timezone: str) -> datetime:
    """The UTC time at which the day begins that comes so many days after a moment's day.

    >>> later(midnight(date(2024, 3, 31), "Europe/Paris"), 1, "Europe/Paris").isoformat()
    '2024-03-31T22:00:00+00:00'
    """
    day, step = day_of(moment, timezone), _DAY if days > 0 else -_DAY
    for _ in range(abs(days)):
        day += step
        while _never_was(day, timezone):
            day += step
    return midnight(day, timezone)


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
    """The days from that of `start` to before that of `end`; none that the zone left out.

    >>> len(calendar_days(midnight(date(2024, 3, 30), "Europe/Paris"),
    ...                   midnight(date(2024, 4, 2), "Europe/Paris"), "Europe/Paris"))
    3
    """
    first, stop = day_of(start, timezone), day_of(end, timezone)
    days = (first + timedelta(days=number) for number in range((stop - first).days))
    return [day for day in days if not _never_was(day, timezone)]


def local_days(times: "pa.ChunkedArray | np.ndarray", timezone: str) -> np.ndarray:
    """The days `(n,)` datetime64[D] in which times in UTC lie; NaT of NaT."""
    return _days_and_begins(np.asarray(times), timezone)[0]


def day_begins(times: "pa.ChunkedArray | np.ndarray", timezone: str) -> np.ndarray:
    """The UTC times `(n,)` datetime64[us] at which the days of times in UTC begin."""
    return _days_and_begins(np.asarray(times), timezone)[1]


def local_times(times: "pa.ChunkedArray | np.ndarray", timezone: str) -> np.ndarray:
    """What the clock shows `(n,)` at times in UTC, in their unit."""
    moments = np.asarray(times)
    return moments + _offsets(moments, timezone)


def utc_times(wall: np.ndarray, timezone: str) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last UTC time `(n,)` at which the clock shows a time; NaT if it never does.

    Args:
        wall: `(n,)` datetime64 of any unit, NaT where unknown.
        timezone: IANA name of the clock's time zone.

    >>> first, last = utc_times(np.array(["2024-10-27T02:30"], "datetime64[m]"), "Europe/Paris")
    >>> str(first[0]), str(last[0])
    ('2024-10-27T00:30:00', '2024-10-27T01:30:00')
    """
    found = []
    # A clock is no farther from UTC than a day, and is not changed twice within two.
    for near in (-_DAY64, _DAY64):
        moments = wall - _offsets(wall.astype(_SECONDS) + near, timezone)
        shown = moments + _offsets(moments, timezone)
        found.append(np.where(shown == wall, moments, np.datetime64("NaT")))
    before, after = found
    return np.where(np.isnat(before), after, before), np.where(np.isnat(after), before, after)


def pieces(start: datetime, end: datetime, days: int) -> Iterator[tuple[datetime, datetime]]:
    """A window of days in pieces of so many days.

    Start and end are midnights on the wall clock of one time zone, as Dagster gives them, and so
    are those of the pieces: their dates are right, and so is what they are in UTC, even where the
    clock does not show midnight. Only in UTC may one be compared or handed to a library.

    >>> [last.day for _, last in pieces(datetime(2024, 3, 1, tzinfo=UTC),
    ...                                 datetime(2024, 3, 8, tzinfo=UTC), days=3)]
    [4, 7, 8]
    """
    while start < end:
        stop = min(start + timedelta(days=days), end)
        if start.astimezone(UTC) < stop.astimezone(UTC):  # not of days that the zone left out
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


def _never_was(day: date, timezone: str) -> bool:
    """Whether a zone left the day out, as Samoa did when it changed sides of the date line."""
    return midnight(day, timezone) == midnight(day + _DAY, timezone)


def _days_and_begins(times: np.ndarray, timezone: str) -> tuple[np.ndarray, np.ndarray]:
    known = times[~np.isnat(times)]
    if not len(known):
        empty = np.full(len(times), np.datetime64("NaT"))
        return empty.astype("datetime64[D]"), empty.astype("datetime64[us]")
    first, last = (day_of(_datetime(time), timezone) for time in (known.min(), known.max()))
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    begins = np.array([_datetime64(midnight(day, timezone)) for day in days], "datetime64[us]")
    number = np.searchsorted(begins, times, "right") - 1
    dates, unknown = np.array(days, "datetime64[D]"), np.isnat(times)
    nothing = np.datetime64("NaT")
    return np.where(unknown, nothing, dates[number]), np.where(unknown, nothing, begins[number])


def _offsets(moments: np.ndarray, timezone: str) -> np.ndarray:
    """How far the clock is ahead of UTC at moments in UTC, timedelta64[s]; at NaT anything."""
    seconds = moments.astype(_SECONDS)
    known = seconds[~np.isnat(seconds)]
    if not len(known):
        return np.zeros(len(seconds), "timedelta64[s]")
    years = [time.astype("datetime64[Y]").astype(int) + 1970 for time in (known.min(), known.max())]
    first, last = np.clip(years, MINYEAR, MAXYEAR - 1).tolist()  # no calendar goes farther
    changes = [_changes(year, timezone) for year in range(first, last + 1)]
    edges = np.concatenate([edges for edges, _ in changes])
    offsets = np.concatenate([offsets for _, offsets in changes])
    return offsets[np.searchsorted(edges, seconds, "right") - 1]


@cache
def _changes(year: int, timezone: str) -> tuple[np.ndarray, np.ndarray]:
    """When a clock was changed in a UTC year and how far it was ahead then.

    First of all comes the beginning of the year. `(n,)` datetime64[s] and timedelta64[s].
    """
    zone = ZoneInfo(timezone)

    def ahead(moment: datetime) -> timedelta:
        return moment.astimezone(zone).utcoffset() or timedelta()

    moment, end = (datetime(first_of, 1, 1, tzinfo=UTC) for first_of in (year, year + 1))
    found = [(moment, ahead(moment))]
    while moment < end:
        before, moment = moment, moment + _DAY
        if ahead(moment) != found[-1][1]:
            found.append(_change(before, moment, ahead))
    edges, offsets = zip(*found, strict=True)
    return np.array([_datetime64(edge) for edge in edges], _SECONDS), np.array(
        offsets, "timedelta64[s]"
    )


def _change(
    before: datetime, after: datetime, ahead: Callable[[datetime], timedelta]
) -> tuple[datetime, timedelta]:
    """The second of the change between two moments, and how far the clock is ahead from it on."""
    old = ahead(before)
    while after - before > timedelta(seconds=1):
        middle = (before + (after - before) / 2).replace(microsecond=0)
        before, after = (middle, after) if ahead(middle) == old else (before, middle)
    return after, ahead(after)


def _datetime(time: np.datetime64) -> datetime:
    moment: datetime = time.astype("datetime64[us]").item()
    return moment.replace(tzinfo=UTC)


def _datetime64(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None))
