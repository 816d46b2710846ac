from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from ml_assets.ml.days import calendar_days, midnight, require_days
from ml_assets.ml.errors import DataError

DAY = timedelta(days=1)
ZONES = ["UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata", "Pacific/Auckland"]


@pytest.mark.parametrize("timezone", ZONES)
def test_at_midnight_the_clock_shows_midnight_of_the_day(timezone: str) -> None:
    for number in range(366):
        day = date(2024, 1, 1) + number * DAY
        found = midnight(day, timezone)
        assert found.tzinfo is UTC
        shown = found.astimezone(ZoneInfo(timezone))
        assert (shown.date(), shown.hour, shown.minute) == (day, 0, 0)


@pytest.mark.parametrize("timezone", ZONES)
def test_the_days_between_two_midnights_are_counted_by_the_calendar(timezone: str) -> None:
    first, last = date(2024, 1, 1), date(2025, 1, 1)
    found = calendar_days(midnight(first, timezone), midnight(last, timezone), timezone)
    assert found == [first + number * DAY for number in range(366)]
    start = midnight(first, timezone)
    assert calendar_days(start, start, timezone) == []


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
