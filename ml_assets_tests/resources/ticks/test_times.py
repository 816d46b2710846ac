from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from ml_assets.ml.days import nanoseconds
from ml_assets.ml.errors import DataError
from ml_assets.resources.ticks import times
from ml_assets_tests.resources.ticks.feeds import MONDAY, ns

NEW_YORK = "America/New_York"
MOMENT = 1_381_132_800_464_123_456


def utc(*texts: object, zone: str = "UTC", before: int | None = None) -> list[int | None]:
    return times.utc(pl.Series(texts, strict=False), zone, before).to_list()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1381132800", MOMENT - 464_123_456),
        ("1381132800464", MOMENT - 123_456),
        ("1381132800464123", MOMENT - 456),
        ("1381132800464123456", MOMENT),
        ("1381132800.464123456", MOMENT),
        ("1381132800464.123456", MOMENT),
        ("1381132800464123.4561", MOMENT),
        ("2013-10-07T08:00:00.464123456Z", MOMENT),
        ("2013-10-07 08:00:00.464123456", MOMENT),
        ("2013-10-07T10:00:00.464123456+02:00", MOMENT),
        ("2013-10-07 03:00:00.464123456-0500", MOMENT),
        ("2013-10-07 03:00:00.464123456-05", MOMENT),
        ("2013-10-07T13:30:00,464123456+05:30", MOMENT),
        (" 2013-10-07 08:00:00.464123456 UTC ", MOMENT),
        ("20131007 080000.464123456", MOMENT),
        ("2013/10/07 08:00:00.464123456789", MOMENT),
        ("2013-10-07 08:00", MOMENT - 464_123_456),
        ("2013-10-07", ns(MONDAY)),
        ("1969-12-31T23:59:59Z", -(10**9)),
    ],
)
def test_every_way_to_write_a_time_is_read(text: str, expected: int) -> None:
    assert utc(text) == [expected]
    assert utc("noon", None, text, text) == [None, None, expected, expected]


def test_ways_to_write_may_be_mixed() -> None:
    mixed = ["1381132800464", "2013-10-07T08:00:00.464Z", "2013-10-07 08:00:00.464", "", "0"]
    assert utc(*mixed) == [MOMENT - 123_456] * 3 + [None, 0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "noon",
        "08:00:00",
        "2013-02-30 08:00:00",
        "10/07/2013 08:00",
        "-5",
        "99999999999999999999",
    ],
)
def test_what_is_no_time_is_null(text: str) -> None:
    assert utc(text) == [None]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
def test_timestamps_are_read_in_every_unit(unit: str, zone: str | None) -> None:
    stamps = pl.Series([MOMENT // 10**6 * 10**6]).cast(pl.Datetime("ns"))
    stamps = stamps.cast(pl.Datetime(unit, zone))  # type: ignore[arg-type]
    assert times.utc(stamps, "UTC", None).to_list() == [MOMENT // 10**6 * 10**6]


def test_timestamps_too_far_away_for_nanoseconds_are_null() -> None:
    stamps = pl.Series(["9999-01-01", "2013-10-07", "0001-01-01"]).str.to_datetime(time_unit="us")
    assert times.utc(stamps, "UTC", None).to_list() == [None, ns(MONDAY), None]


def test_epochs_may_be_numbers() -> None:
    assert utc(1381132800, None, MOMENT, 2**62) == [MOMENT - 464_123_456, None, MOMENT, 2**62]
    assert utc(1381132800.5, float("nan"), 1e300) == [MOMENT - 464_123_456 + 5 * 10**8, None, None]
    assert utc(8e9, 9e12, -1.5) == [8 * 10**18, 9 * 10**18, None]


@pytest.mark.parametrize("kind", ["text", "timestamp"])
@pytest.mark.parametrize(
    "start", [datetime(2013, 3, 10, 5, tzinfo=UTC), datetime(2013, 11, 3, 4, tzinfo=UTC)]
)
def test_local_times_agree_with_python_across_a_change_of_clocks(
    kind: str, start: datetime
) -> None:
    moments = [start + timedelta(minutes=7 * number) for number in range(60)]
    walls = [moment.astimezone(ZoneInfo(NEW_YORK)).replace(tzinfo=None) for moment in moments]
    given = [str(wall) for wall in walls] if kind == "text" else walls
    assert utc(*given, zone=NEW_YORK) == [ns(moment) for moment in moments]


def test_a_repeated_hour_goes_on_in_the_next_block() -> None:
    second = datetime(2013, 11, 3, 6, 10, tzinfo=UTC)
    assert utc("2013-11-03 01:10", zone=NEW_YORK) == [ns(second) - 3600 * 10**9]
    assert utc("2013-11-03 01:12", zone=NEW_YORK, before=ns(second)) == [ns(second) + 120 * 10**9]


def test_a_small_step_back_does_not_begin_the_second_hour() -> None:
    found = utc("2013-11-03 01:10:30", "2013-11-03 01:10:00", zone=NEW_YORK)
    assert found == [ns(datetime(2013, 11, 3, 5, 10, second, tzinfo=UTC)) for second in (30, 0)]


def test_a_time_that_no_clock_shows_is_null() -> None:
    assert utc("2013-03-10 02:30:00", zone=NEW_YORK) == [None]


def test_a_stated_zone_goes_before_the_configured_one() -> None:
    assert utc("2013-10-07T08:00:00Z", "1381132800", zone=NEW_YORK) == [MOMENT - 464_123_456] * 2


def test_a_window_needs_a_time_zone() -> None:
    with pytest.raises(DataError, match="remedy: pass a `datetime` with `tzinfo`"):
        nanoseconds(MONDAY.replace(tzinfo=None))


@pytest.mark.parametrize("zone", ["UTC", NEW_YORK])
@pytest.mark.parametrize(
    "text",
    [
        *("9999-12-31", "0001-01-01", "0000-01-01", "1600-01-01", "-0001-01-01", "10000-01-01"),
        *("1677-09-20", "2262-04-12", "+10000-01-01"),
    ],
)
def test_a_day_outside_the_calendar_is_null_however_it_is_written(text: str, zone: str) -> None:
    ways = ("{}", "{} 00:00:00", "{}T00:00:00", "{}T00:00:00Z", "{}T00:00:00.5-0500", "{} 00:00")
    for way in ways:
        written = way.format(text)
        assert utc(written, zone=zone) == [None], written
        assert utc("2013-10-07 08:00:00", written, zone=zone)[1] is None, written


@pytest.mark.parametrize("text", ["2013-12-31T23:59:60", "2013-12-31 24:00:00", "2013-12-31 25:00"])
@pytest.mark.parametrize("zone", ["", "Z", "+05:00", "-0500"])
def test_no_second_60_and_no_hour_24_lead_into_the_next_day(text: str, zone: str) -> None:
    assert utc(text + zone) == utc(text + zone, "2013-12-31 23:59:59")[:1] == [None]


@pytest.mark.parametrize("text", ["2262-04-11T23:47:16", "1677-09-21T00:12:44"])
def test_the_ends_of_the_calendar_are_read(text: str) -> None:
    assert utc(text) == utc(f"{text}Z") == [int(np.datetime64(text, "ns").astype(np.int64))]
    there = "+01:00" if text.startswith("2") else "-01:00"
    away = "-01:00" if text.startswith("2") else "+01:00"
    assert utc(f"{text}{there}") != [None]
    assert utc(f"{text}{away}") == [None]


def test_dates_outside_the_calendar_are_null() -> None:
    days = [date(9999, 12, 31), date(1, 1, 1), date(1677, 9, 21), date(2262, 4, 12)]
    assert times.utc(pl.Series([*days, MONDAY.date()]), "UTC", None).to_list() == [
        *[None] * 4,
        ns(MONDAY),
    ]


def test_year_9999_is_no_epoch_of_a_finer_unit() -> None:
    last = 253_402_300_799
    for factor in (1, 10**3, 10**6):
        assert utc(last * factor) == utc(str(last * factor)) == [None]
    numbers = [float(last), float("nan"), float("inf"), -float("inf"), -1.0, 2.0**63, 1e300]
    assert utc(*numbers) == [None] * 7
