import random
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

import dagster as dg
import numpy as np
import pytest

import ml_assets
from ml_assets.ml.days import (
    calendar_days,
    day_begins,
    day_of,
    later,
    local_days,
    local_times,
    midnight,
    pieces,
    require_days,
    utc_times,
)
from ml_assets.ml.errors import DataError

DAY, HOUR, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)
FIRST, LAST = datetime(2010, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)
"""Twenty years, in which there is every kind of change: Samoa left out a day in 2011."""

Change = tuple[datetime, timedelta, timedelta]
"""The first second of another offset, the offset before, and the offset from then on."""


def offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


def changes(zone: ZoneInfo) -> list[Change]:
    """The changes of a clock, looked for every day at noon."""
    found, before, old = [], FIRST, offset(FIRST, zone)
    while before < LAST:
        after = before + (DAY if before > FIRST else 12 * HOUR)
        if (new := offset(after, zone)) != old:
            low, high = before, after
            while high - low > SECOND:
                middle = low + (high - low) // (2 * SECOND) * SECOND
                low, high = (middle, high) if offset(middle, zone) == old else (low, middle)
            found.append((high, old, new))
            old = new
        before = after
    return found


@cache
def zones() -> dict[str, list[Change]]:
    """The zones of the tz database that differ in these years, and the changes of their clocks."""
    found: dict[tuple[timedelta, tuple[Change, ...]], str] = {}
    for name in sorted(available_timezones() - {"localtime", "Factory"}):
        zone = ZoneInfo(name)
        found.setdefault((offset(FIRST, zone), tuple(changes(zone))), name)
    return {name: list(of_zone) for (_, of_zone), name in found.items()}


def days_about(name: str) -> list[date]:
    """The days about the changes of a zone, and some others."""
    zone = ZoneInfo(name)
    dates = {moment.astimezone(zone).date() for moment, _, _ in zones()[name]}
    near = {day + number * DAY for day in dates for number in (-2, -1, 0, 1, 2)}
    others = random.Random(name).sample(range((LAST - FIRST).days), 10)
    return sorted(near | {FIRST.date() + number * DAY for number in others})


def dagsters(day: date, name: str) -> tuple[datetime, datetime]:
    partitions = dg.DailyPartitionsDefinition(start_date="2009-12-01", timezone=name)
    return tuple(partitions.time_window_for_partition_key(str(day)))


def test_all_kinds_of_changes_are_among_the_zones() -> None:
    found = zones()
    assert len(found) > 100
    moves = {new - old for of_zone in found.values() for _, old, new in of_zone}
    assert {HOUR, -HOUR, HOUR / 2, -HOUR / 2, 2 * HOUR, 3 * HOUR, 24 * HOUR} <= moves
    without_midnight, twice, over_midnight = set(), set(), set()
    for name, of_zone in found.items():
        for moment, old, new in of_zone:
            before, after = (moment.replace(tzinfo=None) + ahead for ahead in (old, new))
            today = datetime.combine(max(before, after).date(), datetime.min.time())
            if before <= today < after:
                without_midnight.add(name)
            if after <= today < before:
                twice.add(name)
            if after < today < before:
                over_midnight.add(name)
    assert {"America/Santiago", "Africa/Cairo", "Asia/Beirut", "America/Havana"} <= without_midnight
    assert "America/Havana" in twice
    assert "Antarctica/Casey" in over_midnight


def test_days_are_dagster_s_partitions_in_all_zones_and_twenty_years() -> None:
    """About each change of each clock, and on other days."""
    left_out = set()
    for name in zones():
        for day in days_about(name):
            start, end = dagsters(day, name)
            begins, ends = midnight(day, name), midnight(day + DAY, name)
            # In UTC: Python holds a time that no clock shows unequal to all others.
            assert begins == start.astimezone(UTC), (name, day)
            if begins == ends:  # Dagster gives it the window of the next one
                left_out.add((name, day))
                assert dagsters(day + DAY, name) == (start, end)
                continue
            assert ends == end.astimezone(UTC), (name, day)
            # What `pieces` relies on: midnight by the wall clock, the first of two.
            assert (start.replace(tzinfo=None), start.fold) == (
                datetime.combine(day, datetime.min.time()),
                0,
            )
            assert [day_of(time, name) for time in (start, begins, ends - SECOND)] == [day] * 3
            assert day_of(begins - SECOND, name) < day
            assert calendar_days(start, end, name) == [day]
            assert later(end, -1, name) == later(begins + HOUR, 0, name) == begins
            assert later(begins, 1, name) == ends
            assert begins.astimezone(ZoneInfo(name)).date() == day
    assert {day for _, day in left_out} == {date(2011, 12, 30)}


def test_pieces_of_a_window_are_dagster_s_days_in_all_zones() -> None:
    for name, of_zone in zones().items():
        for moment, _, _ in of_zone:
            first = moment.astimezone(ZoneInfo(name)).date() - 3 * DAY
            start, end = dagsters(first, name)[0], dagsters(first + 6 * DAY, name)[1]
            expected = calendar_days(start, end, name)
            found = list(pieces(start, end, 1))
            assert [day_of(begin, name) for begin, _ in found] == expected
            assert [begin.astimezone(UTC) for begin, _ in found] == [
                midnight(day, name) for day in expected
            ]
            for days in (1, 2, 3):
                edges = [
                    time.astimezone(UTC) for piece in pieces(start, end, days) for time in piece
                ]
                assert edges[1:-1:2] == edges[2::2]
                assert (edges[0], edges[-1]) == (start.astimezone(UTC), end.astimezone(UTC))
                # The dates that sources are asked for.
                dates = [
                    begin.date() + number * DAY
                    for begin, until in pieces(start, end, days)
                    for number in range((until.date() - begin.date()).days)
                ]
                assert [day for day in dates if day in expected] == expected


def moments_about(name: str) -> Iterator[np.ndarray]:
    """Seconds of some year, and half hours and odd seconds about changes of a zone."""
    of_zone, chance = zones()[name], random.Random(name)
    begin = FIRST + DAY * chance.randrange((LAST - FIRST).days - 366)
    found = [[begin + SECOND * number for number in chance.sample(range(365 * 86_400), 50)]]
    for moment, _, _ in of_zone[:2] + of_zone[-2:]:
        odd = [moment - SECOND, moment - SECOND / 1000, moment + SECOND]
        found.append([*odd, *(moment + HOUR / 2 * number for number in range(-60, 60))])
    for moments in found:
        yield np.array([time.replace(tzinfo=None) for time in sorted(moments)], "datetime64[us]")


def test_many_times_agree_with_each_of_them_in_all_zones() -> None:
    for name in zones():
        zone = ZoneInfo(name)
        for moments in moments_about(name):
            each = [time.replace(tzinfo=UTC) for time in moments.tolist()]
            walls = [time.astimezone(zone).replace(tzinfo=None) for time in each]
            shown = local_times(moments, name)
            assert shown.tolist() == walls, name
            days = [day_of(time, name) for time in each]
            assert days == sorted(days)
            assert local_days(moments, name).tolist() == days, name
            begins = [midnight(day, name).replace(tzinfo=None) for day in days]
            assert day_begins(moments, name).tolist() == begins
            # Back again: the moment is the first or the last at which the clock shows that.
            first, last = utc_times(shown, name)
            assert ((first == moments) | (last == moments)).all(), name
            assert (local_times(first, name) == shown).all()
            assert (local_times(last, name) == shown).all()
            for wall, twice in zip(walls[::7], (first != last)[::7], strict=True):
                folds = {wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
                assert len(folds) == 1 + twice, (name, wall)


def test_a_time_that_no_clock_shows_is_none_in_all_zones() -> None:
    for name, of_zone in zones().items():
        gaps = [
            (moment.replace(tzinfo=None) + old, new - old)
            for moment, old, new in of_zone
            if new > old
        ]
        walls = [start + share * length for start, length in gaps for share in (0, 0.5, 0.999)]
        if walls:
            for found in utc_times(np.array(walls, "datetime64[us]"), name):
                assert np.isnat(found).all(), name


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_what_is_unknown_stays_unknown(unit: str) -> None:
    times = np.array(["2024-07-01T12:00", "NaT"], f"datetime64[{unit}]")
    assert str(local_times(times, "Europe/Paris")[0])[:16] == "2024-07-01T14:00"
    assert str(utc_times(times, "Europe/Paris")[0][0])[:16] == "2024-07-01T10:00"
    assert str(local_days(times, "Europe/Paris")[0]) == "2024-07-01"
    for values in (times[:0], times[1:]):
        for found in (
            local_times(values, "Europe/Paris"),
            local_days(values, "Europe/Paris"),
            *utc_times(values, "Europe/Paris"),
        ):
            assert len(found) == len(values)
            assert np.isnat(found).all()


def test_the_ends_of_the_calendar_are_no_error() -> None:
    for time in ("0001-01-02", "9999-12-31"):
        found = local_times(np.array([time], "datetime64[s]"), "Europe/Paris")
        assert abs(found - np.datetime64(time)) < np.timedelta64(2, "h")


def test_a_day_that_was_left_out_is_counted_nowhere() -> None:
    zone, before = "Pacific/Apia", date(2011, 12, 29)
    start, end = midnight(before, zone), midnight(before + 3 * DAY, zone)
    assert end - start == 2 * DAY
    assert calendar_days(start, end, zone) == [before, before + 2 * DAY]
    assert later(start, 1, zone) == midnight(before + 2 * DAY, zone)
    assert later(end, -2, zone) == start


def test_midnights_may_be_given_in_any_zone() -> None:
    paris = ZoneInfo("Europe/Paris")
    start, end = (datetime(2024, 3, day, tzinfo=paris) for day in (31, 1 + 30))
    assert calendar_days(start, end, "Europe/Paris") == []
    assert calendar_days(start, end + DAY, "Europe/Paris") == [date(2024, 3, 31)]


def test_days_that_were_found_are_no_error() -> None:
    require_days([], set(), "the source", "none")
    require_days([date(2024, 1, 1)], {date(2024, 1, 1), date(2024, 1, 2)}, "the source", "none")


@pytest.mark.parametrize(
    ("missing", "shown"),
    [
        (1, "1 days: 2024-01-01;"),
        (5, "5 days: 2024-01-01, 2024-01-02, 2024-01-03, 2024-01-04, 2024-01-05;"),
        (9, "9 days: 2024-01-01, 2024-01-02, 2024-01-03, 2024-01-04, 2024-01-05, …;"),
    ],
)
def test_the_first_missing_days_are_named(missing: int, shown: str) -> None:
    wanted = [date(2024, 1, 1) + number * DAY for number in range(10)]
    message = f"all 10 days in the source; found none of {shown} remedy: look for them"
    with pytest.raises(DataError, match=message):
        require_days(wanted, set(wanted[missing:]), "the source", "look for them")


CLOCKS = re.compile(
    r"convert_time_zone|replace_time_zone\((?!\"UTC\"|None)|tz_convert|tz_localize\((?!None)|"
    r"local_timestamp|assume_timezone|truncate\(\"1d|ZoneInfo\("
)
MAY_ASK = {
    "ml/days.py",
    # Whether there is such a zone, the present day, and a time of which the moment is known.
    *("settings.py", "resources/ticks/files.py", "demo.py", "resources/readings/daily.py"),
}


def test_nothing_else_asks_what_a_clock_shows() -> None:
    """Polars, pandas and Arrow bring their own copies of the tz database, of other years."""
    package = Path(ml_assets.__file__).parent
    asking = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if CLOCKS.search(path.read_text())
    }
    assert asking <= MAY_ASK
