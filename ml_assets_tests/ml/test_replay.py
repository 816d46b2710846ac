from datetime import date, timedelta

import pytest

from ml_assets.ml.replay import historic_day

FIRST = date(2008, 1, 7)
DAY = timedelta(days=1)


@pytest.mark.parametrize("weeks", [1, 26])
def test_recorded_days_stand_for_themselves(weeks: int) -> None:
    for number in range(7 * weeks):
        day = FIRST + number * DAY
        assert historic_day(day, FIRST, weeks) == day


def test_the_record_repeats_in_both_directions_in_its_order() -> None:
    for repeat in (-3, -1, 1, 38):
        start = FIRST + repeat * timedelta(weeks=26)
        found = [historic_day(start + number * DAY, FIRST, 26) for number in range(7 * 26)]
        assert found == [FIRST + number * DAY for number in range(7 * 26)]


@pytest.mark.parametrize("first", [FIRST, FIRST + 3 * DAY])
def test_weekdays_are_kept(first: date) -> None:
    for number in range(-4000, 8000, 11):
        day = FIRST + number * DAY
        assert historic_day(day, first, 26).weekday() == day.weekday()


def test_leap_days_are_days_like_others() -> None:
    assert historic_day(date(2008, 2, 29), FIRST, 26) == date(2008, 2, 29)
    days = [date(2024, 2, 28), date(2024, 2, 29), date(2024, 3, 1)]
    found = [historic_day(day, FIRST, 26) for day in days]
    assert found == [date(2008, 3, 19), date(2008, 3, 20), date(2008, 3, 21)]
