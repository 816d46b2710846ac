from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from ml_assets.ml.errors import DataError
from ml_assets.resources.ticks import ReplayedTicks
from ml_assets_tests.resources.ticks.feeds import (
    DAY,
    HOUR,
    MONDAY,
    TRADES,
    files,
    ns,
    rows,
    values,
    write,
)

WEEK = timedelta(weeks=1)


@pytest.fixture
def replayed(tmp_path: Path) -> ReplayedTicks:
    """One week with a tick every six hours from Monday to Friday, and one without a time."""
    times = [MONDAY + number * 6 * HOUR for number in range(20)]
    lines = [f"{time.isoformat()},{number},1" for number, time in enumerate(times)]
    write(tmp_path, "t.csv", TRADES, *lines[:6], "noon,1,1", *lines[6:])
    return ReplayedTicks(source=files(tmp_path), first_day="2013-10-07", weeks=1)


def test_the_record_s_own_days_are_as_they_arrived(replayed: ReplayedTicks) -> None:
    window = (MONDAY, MONDAY + WEEK)
    assert replayed.read(*window).equals(replayed.source.read(*window))
    assert replayed.unique_days == 7
    assert replayed.source.unique_days is None


def test_times_are_moved_by_whole_weeks(replayed: ReplayedTicks) -> None:
    tuesday = MONDAY + 53 * WEEK + DAY
    assert rows(replayed.read(tuesday, tuesday + DAY)) == [
        {"event_time_ns": ns(tuesday), "price": 4.0, "size": 1.0, "row": 5},
        {"event_time_ns": ns(tuesday + 6 * HOUR), "price": 5.0, "size": 1.0, "row": 6},
        {"price": 1.0, "size": 1.0, "row": 7, "text": "noon,1,1"},
        {"event_time_ns": ns(tuesday + 12 * HOUR), "price": 6.0, "size": 1.0, "row": 8},
        {"event_time_ns": ns(tuesday + 18 * HOUR), "price": 7.0, "size": 1.0, "row": 9},
    ]
    saturday = tuesday + 4 * DAY
    assert rows(replayed.read(saturday, saturday + 2 * DAY)) == []


def test_a_window_goes_over_the_end_of_the_record(replayed: ReplayedTicks) -> None:
    start, end = MONDAY - 2 * WEEK + 3 * HOUR, MONDAY + 2 * WEEK + 15 * HOUR
    weeks = [MONDAY + number * WEEK for number in range(-2, 3)]
    times = [ns(week + number * 6 * HOUR) for week in weeks for number in range(20)]
    found = [time for time in values(replayed.read(start, end), "event_time_ns") if time]
    assert found == [time for time in times if ns(start) <= time < ns(end)]


def test_the_digest_tells_the_week_and_the_source(replayed: ReplayedTicks, tmp_path: Path) -> None:
    windows = [(week, week + DAY) for week in (MONDAY, MONDAY + WEEK)]
    before = [replayed.digest(*window) for window in windows]
    assert before == [replayed.digest(*window) for window in windows]
    write(tmp_path, "late.csv", TRADES, f"{MONDAY.isoformat()},1,1")
    assert len({*before, *(replayed.digest(*window) for window in windows)}) == 4


def test_the_description_names_the_source(replayed: ReplayedTicks, tmp_path: Path) -> None:
    assert replayed.describe() == f"replay of 1 weeks from 2013-10-07: files: {tmp_path}"
    assert replayed.days() == {}


def test_errors_are_those_of_the_source(tmp_path: Path) -> None:
    source = ReplayedTicks(source=files(tmp_path), first_day="2013-10-07", weeks=1)
    with pytest.raises(DataError, match="remedy: put them there"):
        source.read(MONDAY, MONDAY + DAY)


@pytest.mark.parametrize("changes", [{"weeks": 0}, {"first_day": "7/10/2013"}])
def test_an_impossible_record_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=str(next(iter(changes)))):
        ReplayedTicks(
            **{"source": files(tmp_path), "first_day": "2013-10-07", "weeks": 1} | changes
        )
