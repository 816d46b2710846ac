"""Days on which a clock is changed, from the meter's lines to the rows of the hours."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ml_assets.ml.days import calendar_days, later, pieces
from ml_assets.power import checks, data, features
from ml_assets.power.features import TARGET, TIME
from ml_assets_tests.power.days import DAY, MINUTE, arrived, begins, measured
from ml_assets_tests.power.oracle import Oracle

HOUR = timedelta(hours=1)

CHANGES = [
    # Midnight is skipped, or comes twice.
    ("America/Santiago", date(2024, 9, 8), 23),
    ("America/Santiago", date(2024, 4, 6), 25),
    ("Africa/Cairo", date(2024, 4, 26), 23),
    ("Africa/Cairo", date(2024, 10, 31), 25),
    ("Asia/Beirut", date(2024, 3, 31), 23),
    ("Asia/Beirut", date(2024, 10, 26), 25),
    ("America/Havana", date(2024, 3, 10), 23),
    ("America/Havana", date(2024, 11, 3), 25),
    # Half an hour, and two hours.
    ("Australia/Lord_Howe", date(2024, 4, 7), 24.5),
    ("Australia/Lord_Howe", date(2024, 10, 6), 23.5),
    ("Antarctica/Troll", date(2024, 3, 31), 22),
    ("Antarctica/Troll", date(2024, 10, 27), 26),
    # A day that was left out; and a clock that was put back over midnight.
    ("Pacific/Apia", date(2011, 12, 30), 0),
    ("America/St_Johns", date(2010, 11, 7), 25),
]
each_change = pytest.mark.parametrize(("timezone", "day", "hours"), CHANGES)


def window(timezone: str, first: date, days: int) -> tuple[datetime, datetime]:
    """As Dagster gives it: on the wall clock."""
    partitions = dg.DailyPartitionsDefinition(start_date="2008-01-01", timezone=timezone)
    last = first + (days - 1) * DAY
    of_first, of_last = (
        partitions.time_window_for_partition_key(str(day)) for day in (first, last)
    )
    return of_first.start, of_last.end


def lines(timezone: str, first: date, last: date) -> tuple[pa.Table, dict[datetime, float]]:
    """What a meter writes whose clock is always right, and the power of each minute in UTC."""
    zone, start = ZoneInfo(timezone), begins(first, timezone)
    rows, power = [], {}
    for number in range(int((begins(last, timezone) - start) / MINUTE)):
        moment = start + number * MINUTE
        wall = moment.astimezone(zone)
        power[moment] = round(number % 997 / 50, 3)
        text = (
            f"{wall.day}/{wall.month}/{wall.year};{wall:%H:%M:%S};"
            f"{power[moment]};0.1;240;1;0;0;{number % 50}"
        )
        rows.append({"day": wall.date(), "line": number + 1, "text": text})
    schema = pa.schema({"day": pa.date32(), "line": pa.int64(), "text": pa.string()})
    return pa.Table.from_pylist(rows, schema=schema), power


@each_change
def test_each_minute_of_a_right_clock_is_read_on_its_day(
    timezone: str, day: date, hours: float
) -> None:
    found, power = lines(timezone, day - DAY, day + 2 * DAY)
    start, end = window(timezone, day - DAY, 3)
    raw = arrived(found, start, end, timezone)
    whole = data.clean(raw, start, end, timezone, 0.05)
    times = whole.readings[TIME].to_pylist()
    assert times == list(power)
    read = dict(zip(times, whole.readings[TARGET].to_pylist(), strict=True))
    # After midnight the clock showed the evening before again: of that day it was no time.
    lost = {moment for moment in read if read[moment] is None}
    assert len(lost) == (59 if timezone == "America/St_Johns" else 0)
    assert read == {moment: None if moment in lost else power[moment] for moment in power}
    reasons = Counter(whole.quarantine["reason"].to_pylist())
    assert reasons["nonexistent_time"] == len(lost)
    assert set(reasons) <= {"nonexistent_time", "daylight_saving_repeat"}
    # A day alone is cleaned as in the range, and is as long as it is.
    parts = []
    for first, last in pieces(start, end, 1):
        of_day = raw.filter(
            pa.array([first <= time < last for time in raw["partition_time_utc"].to_pylist()])
        )
        alone = data.clean(of_day, first, last, timezone, 0.05).readings
        data.require_minutes(whole.readings, first, last)
        assert checks.every_minute_is_there_once(alone, first, last).passed
        parts.append(alone)
    assert pa.concat_tables(parts).equals(whole.readings)
    assert [len(part) for part in parts] == [60 * long for long in (24, hours, 24) if long]


def lived(timezone: str, day: date, days: int = 3) -> pa.Table:
    """Readings for all that rows of the day before and of some days on look back to."""
    return measured(begins(day - 36 * DAY, timezone), begins(day + days * DAY, timezone))


@each_change
def test_the_rows_about_a_change_are_what_their_names_say(
    timezone: str, day: date, hours: float
) -> None:
    readings = lived(timezone, day)
    start, end = window(timezone, day - DAY, 3)
    rows = features.compute(readings, start, end, timezone, "FR")
    oracle, minutes = Oracle(readings, timezone), readings.to_pandas().set_index(TIME)[TARGET]
    days = calendar_days(start, end, timezone)
    expected = [
        (moment, min(moment + HOUR, begins(one + DAY, timezone)))
        for one in days
        for moment in pd.date_range(
            begins(one, timezone), begins(one + DAY, timezone), freq="1h", inclusive="left"
        )
    ]
    assert rows[TIME].to_pylist() == [moment for moment, _ in expected]
    for number, (moment, until) in enumerate(expected):
        target = minutes[(minutes.index >= moment) & (minutes.index < until)].mean()
        assert rows[TARGET][number].as_py() == pytest.approx(target)
    of_day = [n for n, (moment, _) in enumerate(expected) if begins(day, timezone) <= moment]
    assert len([n for n in of_day if expected[n][0] < begins(day + DAY, timezone)]) == -(
        -hours // 1
    )
    for number in {0, of_day[0], of_day[3], of_day[int(hours) - 1], of_day[int(hours)], -1}:
        time = pd.Timestamp(expected[number][0])
        if timezone == "America/St_Johns" and 0 <= number < of_day[3]:
            continue  # the oracle goes by dates
        for name in rows.column_names[2:]:
            np.testing.assert_allclose(
                rows[name][number].as_py(),
                oracle.value(name, time),
                rtol=1e-5,
                atol=1e-6,
                err_msg=f"{name} {time}",
            )
    window_of = features.window(rows, "day_ahead", timezone)
    assert np.unique(window_of.days).tolist() == days


@each_change
def test_a_day_alone_has_the_rows_it_has_in_a_range_about_a_change(
    timezone: str, day: date, hours: float
) -> None:
    readings = lived(timezone, day, 31)
    start, end = window(timezone, day - DAY, 31)
    whole = features.compute(readings, start, end, timezone, "FR")
    bounds = [0]
    for number, (first, last) in enumerate(pieces(start, end, 1)):
        inside = [first.astimezone(UTC) <= time < last for time in whole[TIME].to_pylist()]
        bounds.append(bounds[-1] + sum(inside))
        if number in {0, 1, 2, 3, 15, 28, 29, 30}:
            since = np.datetime64(features.lookback(first, timezone).replace(tzinfo=None))
            known = readings.filter(pa.array(readings[TIME].to_numpy() >= since))
            alone = features.compute(known, first, last, timezone, "FR")
            assert same(alone, whole.slice(bounds[-2], bounds[-1] - bounds[-2]))
    assert bounds[-1] == len(whole)


def same(found: pa.Table, expected: pa.Table) -> bool:
    """Bit by bit: NaN is NaN."""
    return all(
        found[name].to_numpy().tobytes() == expected[name].to_numpy().tobytes()
        for name in expected.column_names
    )


@each_change
def test_a_day_is_forecast_before_it_has_begun_about_a_change(
    timezone: str, day: date, hours: float
) -> None:
    """As `power/forecast` does, the day before, on the day, and on the day after."""
    readings = lived(timezone, day)
    for number in (-1, 0, 1):
        start, end = window(timezone, day + number * DAY, 1)
        begin = np.datetime64(end.astimezone(UTC).replace(tzinfo=None), "us")
        known = readings.filter(pa.array(readings[TIME].to_numpy() < begin))
        data.require_minutes(known, start, end)
        until = later(end, 1, timezone)
        rows = features.compute(known, end, until, timezone, "FR")
        ahead = features.compute(readings, end, until, timezone, "FR")
        names = [TIME, *features.names(rows.column_names, "day_ahead")]
        assert same(rows.select(names), ahead.select(names))
        assert len(rows) in checks.HOURS_OF_DAY
