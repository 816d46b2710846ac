from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ml_assets.ml.errors import DataError
from ml_assets.power import features
from ml_assets.power.features import TARGET, TIME
from ml_assets_tests.power.days import AUTUMN, DAY, PARIS, SPRING, begins, measured
from ml_assets_tests.power.oracle import Oracle

HOUR = timedelta(hours=1)
DAYS = {
    "UTC": (SPRING, AUTUMN, date(2008, 3, 1)),
    PARIS: (SPRING, SPRING + DAY, SPRING + 28 * DAY, AUTUMN, AUTUMN + DAY, AUTUMN + 28 * DAY),
}
"""Days about the changes of the clock, and those that look back to them from farthest away."""


def lived(day: date, timezone: str, days: int = 1) -> pa.Table:
    """Readings for everything that rows of the days look back to, and of two days more."""
    return measured(begins(day - 35 * DAY, timezone), begins(day + (days + 2) * DAY, timezone))


def compute(readings: pa.Table, day: date, timezone: str, days: int = 1) -> pa.Table:
    window = (begins(day, timezone), begins(day + days * DAY, timezone))
    return features.compute(readings, *window, timezone, "FR")


def until(readings: pa.Table, time: datetime) -> pa.Table:
    return readings.filter(pa.array(before(readings, time)))


def before(readings: pa.Table, time: datetime) -> np.ndarray:
    return readings[TIME].to_numpy() < np.datetime64(time.replace(tzinfo=None), "us")


def garbled(readings: pa.Table, time: datetime) -> pa.Table:
    """The readings, with others in their place from `time` on."""
    known = before(readings, time)
    garbage = np.random.default_rng(1).normal(1e3, 1e3, len(readings))
    changed = {
        name: np.where(known, readings[name].to_numpy(), garbage)
        for name in readings.column_names
        if name != TIME
    }
    return pa.table({TIME: readings[TIME], **changed})


def columns(rows: pa.Table, prefix: str) -> list[str]:
    found = [name for name in rows.column_names if name.startswith(prefix)]
    assert found
    return found


def assert_same(found: pa.Table, expected: pa.Table, names: list[str]) -> None:
    """Bit by bit, and the name of the column if not."""
    for name in names:
        ours, theirs = found[name].to_numpy(), expected[name].to_numpy()
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours.view(np.uint8), theirs.view(np.uint8), name)


@pytest.mark.parametrize(
    ("timezone", "day"), [(timezone, day) for timezone in DAYS for day in DAYS[timezone]]
)
def test_no_feature_sees_more_than_its_prefix_says(timezone: str, day: date) -> None:
    readings = lived(day, timezone)
    rows = compute(readings, day, timezone)
    hours = [begins(day, timezone) + number * HOUR for number in range(len(rows))]
    more = {TIME, TARGET, *columns(rows, "calendar_")}
    until_the_hour = [name for name in rows.column_names if name not in more]
    for number in sorted({0, 1, 2, 3, 11, 22, len(hours) - 2, len(hours) - 1}):
        for changed in (until(readings, hours[number]), garbled(readings, hours[number])):
            found = compute(changed, day, timezone)
            assert found[TARGET][number].as_py() != rows[TARGET][number].as_py()
            assert_same(found, rows, columns(rows, "calendar_"))
            # Neither this hour's row nor one before it knows what comes from the hour on.
            assert_same(found.slice(0, number + 1), rows.slice(0, number + 1), until_the_hour)
            if number == 0:
                assert_same(found, rows, columns(rows, "midnight_"))


def test_every_column_has_a_prefix_and_every_horizon_its_naive_forecasts(rows: pa.Table) -> None:
    found = [name for name in rows.column_names if name not in {TIME, TARGET}]
    prefixes = {prefix for horizon in features.PREFIXES.values() for prefix in horizon}
    assert {f"{name.partition('_')[0]}_" for name in found} == prefixes
    assert all(rows[name].type == pa.float32() for name in found)
    for horizon, naive in features.NAIVE.items():
        assert set(naive.values()) < set(features.names(rows.column_names, horizon))


@pytest.mark.parametrize("first", [SPRING - DAY, AUTUMN - DAY])
def test_a_day_alone_has_the_rows_it_has_in_a_range(first: date, timezone: str) -> None:
    readings = lived(first, timezone, 31)
    whole = compute(readings, first, timezone, 31)
    times = whole[TIME].to_numpy()
    for number in (0, 1, 2, 3, 15, 28, 29, 30):
        day = first + number * DAY
        alone = compute(readings, day, timezone)
        start = int(np.searchsorted(times, alone[TIME].to_numpy()[0]))
        assert_same(alone, whole.slice(start, len(alone)), whole.column_names)


def test_rows_do_not_depend_on_readings_from_before_what_they_look_back_to() -> None:
    readings = lived(SPRING, PARIS)
    first = features.lookback(begins(SPRING), PARIS)
    late = readings.filter(pa.array(~before(readings, first)))
    rows = compute(readings, SPRING, PARIS)
    assert_same(compute(late, SPRING, PARIS), rows, rows.column_names)


@pytest.mark.parametrize(("day", "hours"), [(SPRING, 23), (AUTUMN, 25), (SPRING - DAY, 24)])
def test_a_day_has_a_row_for_each_of_its_hours(day: date, hours: int) -> None:
    rows = compute(lived(day, PARIS), day, PARIS)
    assert rows[TIME].to_pylist() == [begins(day) + number * HOUR for number in range(hours)]
    assert (
        rows["calendar_hour"].to_pylist()
        == {
            23: [0, 1, *range(3, 24)],
            24: [*range(24)],
            25: [0, 1, 2, 2, *range(3, 24)],
        }[hours]
    )


def test_a_day_that_has_not_begun_can_be_forecast(timezone: str) -> None:
    readings = lived(AUTUMN, timezone)
    known = compute(readings, AUTUMN, timezone)
    rows = compute(until(readings, begins(AUTUMN, timezone)), AUTUMN, timezone)
    assert np.isnan(rows[TARGET].to_numpy()).all()
    seen = features.names(rows.column_names, "day_ahead")
    assert_same(rows, known, seen)
    assert all(np.isfinite(rows[name].to_numpy()).all() for name in seen)


def test_the_target_is_the_mean_of_the_minutes_that_were_measured() -> None:
    readings = lived(SPRING, "UTC")
    start = begins(SPRING, "UTC")
    hour = readings.filter(
        pa.array(~before(readings, start + 5 * HOUR) & before(readings, start + 6 * HOUR))
    )
    expected = np.nanmean(hour[TARGET].to_numpy())
    rows = compute(readings, SPRING, "UTC")
    assert rows[TARGET].type == pa.float64()
    assert rows[TARGET][5].as_py() == pytest.approx(expected)


def test_an_hour_without_readings_has_no_target_but_features() -> None:
    readings = lived(SPRING, "UTC")
    lost = begins(SPRING, "UTC") + 5 * HOUR
    kept = before(readings, lost) | ~before(readings, lost + HOUR)
    rows = compute(readings.filter(pa.array(kept)), SPRING, "UTC")
    assert np.flatnonzero(np.isnan(rows[TARGET].to_numpy())).tolist() == [5]
    assert np.isnan(rows["recent_lag_1h"][6].as_py())
    window = features.window(rows, "next_hour", "UTC")
    assert len(window.times) == 23
    assert np.datetime64(lost.replace(tzinfo=None)) not in window.times
    assert np.isfinite(window.target).all()


# Against an oracle that looks up every value for itself, hour by hour.


def holed(readings: pa.Table, random: np.random.Generator) -> pa.Table:
    """The readings without some hours and some days."""
    times = readings[TIME].to_numpy()
    kept = np.ones(len(times), bool)
    for length in (30, 60, 150, 60 * 15, 60 * 24 * 6):
        for start in random.integers(0, len(times), 3):
            kept[start : start + length] = False
    return readings.filter(pa.array(kept))


@pytest.mark.parametrize(
    "first", [SPRING - DAY, AUTUMN - DAY, date(2008, 4, 30), date(2008, 12, 24)]
)
def test_every_feature_is_what_its_name_says(first: date, timezone: str) -> None:
    random = np.random.default_rng(first.toordinal())
    readings = holed(lived(first, timezone, 3), random)
    rows = compute(readings, first, timezone, 3)
    oracle = Oracle(readings, timezone)
    long = [number for number, hour in enumerate(hours_of_days(rows, timezone)) if hour >= 24]
    for number in {0, len(rows) - 1, *long, *random.integers(0, len(rows), 8).tolist()}:
        time = pd.Timestamp(rows[TIME][number].as_py())
        for name in rows.column_names[2:]:
            expected = oracle.value(name, time)
            np.testing.assert_allclose(
                rows[name][number].as_py(), expected, rtol=1e-5, atol=1e-6, err_msg=f"{name} {time}"
            )


def hours_of_days(rows: pa.Table, timezone: str) -> list[int]:
    """How many hours each row's day is old."""
    zone = ZoneInfo(timezone)
    times = rows[TIME].to_pylist()
    return [int((t - begins(t.astimezone(zone).date(), timezone)) / HOUR) for t in times]


def test_every_feature_is_known_sooner_or_later(rows: pa.Table) -> None:
    """A column that is always unknown, or always the same, tells a model nothing."""
    for name in rows.column_names[2:]:
        values = rows[name].to_numpy()[24 * features.LOOKBACK_DAYS :]
        assert np.isfinite(values).mean() > 0.99, name
        assert len(np.unique(values)) > 1, name


# A window of rows, as a horizon sees it.


@pytest.fixture
def month(rows: pa.Table) -> pa.Table:
    return rows.slice(24 * 40, 24 * 30)


def replaced(rows: pa.Table, name: str, number: int) -> pa.Table:
    """The rows, one value of which is the next float up."""
    values = rows[name].to_numpy().copy()
    values[number] = np.nextafter(values[number], values.dtype.type(np.inf))
    return rows.set_column(rows.column_names.index(name), name, pa.array(values))


@pytest.mark.parametrize("horizon", features.PREFIXES)
def test_the_digest_tells_every_value_that_the_horizon_sees(month: pa.Table, horizon: str) -> None:
    digest = features.window(month, horizon, "UTC").digest
    assert digest == features.window(pa.concat_tables([month]), horizon, "UTC").digest
    seen = {TARGET, *features.names(month.column_names, horizon)}
    for name in month.column_names[1:]:
        changed = features.window(replaced(month, name, 5), horizon, "UTC").digest
        assert (changed != digest) is (name in seen), name
    others = [(month.slice(1), "UTC"), (month, PARIS)]
    assert digest not in {features.window(rows, horizon, zone).digest for rows, zone in others}


def test_horizons_see_different_columns(month: pa.Table) -> None:
    ahead, next_hour = (features.window(month, horizon, "UTC") for horizon in features.PREFIXES)
    assert ahead.digest != next_hour.digest
    assert {name.partition("_")[0] for name in ahead.names} == {"calendar", "midnight"}
    assert {name.partition("_")[0] for name in next_hour.names} == {"calendar", "recent", "minutes"}


@pytest.mark.parametrize("horizon", features.PREFIXES)
def test_a_window_holds_the_columns_of_its_horizon(month: pa.Table, horizon: str) -> None:
    window = features.window(month, horizon, "UTC")
    assert window.features.shape == (len(month), len(window.names))
    assert window.features.dtype == np.float32
    for name, values in zip(window.names, window.features.T, strict=True):
        np.testing.assert_array_equal(values, month[name].to_numpy())
    assert set(window.naive) == {"persistence", "seasonal_naive_24h", "seasonal_naive_168h"}
    for name, column in features.NAIVE[horizon].items():
        np.testing.assert_array_equal(window.naive[name], month[column].to_numpy())
    assert window.times.dtype == np.dtype("datetime64[us]")
    assert (np.diff(window.times) > np.timedelta64(0)).all()


def test_the_days_of_a_window_are_those_of_its_time_zone() -> None:
    rows = compute(lived(SPRING, PARIS, 3), SPRING, PARIS, 3)
    window = features.window(rows, "day_ahead", PARIS)
    found, counts = np.unique(window.days, return_counts=True)
    assert found.astype(date).tolist() == [SPRING + number * DAY for number in range(3)]
    assert counts.tolist() == [23, 24, 24]
    assert window.latest(1).tolist() == [False] * 47 + [True] * 24
    assert window.latest(3).all()
    assert not window.latest(0).any()


def test_rows_without_any_target_are_refused() -> None:
    readings = until(lived(SPRING, "UTC"), begins(SPRING, "UTC"))
    with pytest.raises(DataError, match=r"a target .*power\.features; found 24 rows without one"):
        features.window(compute(readings, SPRING, "UTC"), "day_ahead", "UTC")


def test_lookback_is_a_midnight_of_the_time_zone() -> None:
    found = features.lookback(begins(SPRING + DAY), PARIS)
    assert found == begins(SPRING + DAY - features.LOOKBACK_DAYS * DAY)
