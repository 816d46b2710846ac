"""Days on which a clock is changed, from raw ticks to features and what the checks find."""

import os
import subprocess
import sys
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest

from ml_assets.ml.days import calendar_days, midnight, nanoseconds, pieces
from ml_assets.tick import checks, data, features

ROOT = Path(__file__).parents[2]
DAY = timedelta(days=1)
SECOND = 10**9
STEP, HOUR = 20 * SECOND, 3600 * SECOND

CHANGES = [
    ("America/Santiago", date(2024, 9, 8), 23),
    ("America/Santiago", date(2024, 4, 6), 25),
    ("Africa/Cairo", date(2024, 4, 26), 23),
    ("Asia/Beirut", date(2024, 10, 26), 25),
    ("America/Havana", date(2024, 3, 10), 23),
    ("America/Havana", date(2024, 11, 3), 25),
    ("Australia/Lord_Howe", date(2024, 4, 7), 24.5),
    ("Australia/Lord_Howe", date(2024, 10, 6), 23.5),
    ("Pacific/Apia", date(2011, 12, 30), 0),
    ("America/St_Johns", date(2010, 11, 7), 25),
]


def window(timezone: str, first: date, last: date) -> tuple[datetime, datetime]:
    """As Dagster gives it: on the wall clock."""
    partitions = dg.DailyPartitionsDefinition(start_date="2008-01-01", timezone=timezone)
    start, end = (partitions.time_window_for_partition_key(str(day)) for day in (first, last))
    return start.start, end.end


def ticks(start: datetime, end: datetime) -> pa.Table:
    """Three trades a minute."""
    times = np.arange(nanoseconds(start), nanoseconds(end), STEP)
    steps = np.random.default_rng(0).normal(0, 1e-4, len(times))
    return pa.table(
        {
            "event_time_ns": times,
            "price": 100 * np.exp(np.cumsum(steps)),
            "size": np.ones(len(times)),
            "bid": pa.nulls(len(times), pa.float64()),
            "ask": pa.nulls(len(times), pa.float64()),
            "side": pa.nulls(len(times), pa.int8()),
            "suspicious": np.zeros(len(times), bool),
            "row": np.arange(len(times)),
            "text": pa.nulls(len(times), pa.string()),
        }
    )


def of(rows: pa.Table, column: str, start: datetime, end: datetime) -> pa.Table:
    times = rows[column].to_numpy().astype("datetime64[ns]").astype(int)
    return rows.filter(pa.array((times >= nanoseconds(start)) & (times < nanoseconds(end))))


@pytest.mark.parametrize(("timezone", "day", "hours"), CHANGES)
def test_each_day_has_its_ticks_its_bars_and_its_features(
    timezone: str, day: date, hours: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "TIMEZONE", timezone)
    start, end = window(timezone, day - 7 * DAY, day + 2 * DAY)
    raw = data.arrived(ticks(start, end), start, end, timezone, "test")
    cleaned = data.clean(raw, start, end)
    days = calendar_days(start, end, timezone)
    assert (day in days) is (hours > 0)
    begins = [*(nanoseconds(midnight(one, timezone)) for one in days), nanoseconds(end)]
    found, counts = np.unique(raw["partition_time_utc"].to_numpy(), return_counts=True)
    assert found.astype("datetime64[ns]").astype(int).tolist() == begins[:-1]
    assert counts.tolist() == [(after - before) // STEP for before, after in pairwise(begins)]
    # Hours are counted from the beginning of the day, and the last is what is left of it.
    hourly = features.bars(cleaned.ticks, "time", 3600, timezone)
    times = hourly["event_time_utc"].to_numpy().astype("datetime64[ns]").astype(int)
    assert times.tolist() == [
        hour for before, after in pairwise(begins) for hour in range(before, after, HOUR)
    ]
    bars = features.bars(cleaned.ticks, "time", 60, timezone)
    rows = features.compute(bars, start, end, timezone)
    series = features.series(rows, "test", timezone)
    assert np.unique(series.days).tolist() == days
    assert np.count_nonzero(series.days == np.datetime64(day)) == hours * 60
    angle = 2 * np.pi * (series.times.astype(int) // 60_000_000 - 1 - begins[-2] // (60 * SECOND))
    of_last_day = series.days == np.datetime64(days[-1])
    sine = rows["time_of_day_sin"].to_numpy()
    np.testing.assert_allclose(sine[of_last_day], np.sin(angle[of_last_day] / 1440), atol=1e-6)
    # A day alone is what it is in the range.
    alone = []
    for first, last in pieces(start, end, 1):
        of_day = data.clean(of(raw, "partition_time_utc", first, last), first, last)
        assert features.bars(of_day.ticks, "time", 60, timezone).equals(
            of(bars, "event_time_utc", first, last)
        )
        known = of(bars, "event_time_utc", features.lookback(first, timezone), last)
        alone.append(features.compute(known, first, last, timezone))
        if len(alone) > 5:
            for check in (checks.day_ends_as_usual, checks.trade_is_as_usual):
                assert check(of(bars, "event_time_utc", start, last), first, last).passed
    assert [len(one) for one in alone] == [
        (after - before) // (60 * SECOND) for before, after in pairwise(begins)
    ]
    whole = pa.concat_tables(alone)
    for name in rows.column_names:
        np.testing.assert_array_equal(whole[name].to_numpy(), rows[name].to_numpy(), name)


TABLES = """
import sys
from pathlib import Path
import dagster as dg
from ml_assets_tests.tick.group import NAMES, TABLES, build, equal

home, first, day, last = Path(sys.argv[1]), *sys.argv[2:]
with dg.DagsterInstance.ephemeral() as instance:
    group = build(home, home, instance)
    result = group.run(TABLES, (first, last))
    assert result.success
    checks = result.get_asset_check_evaluations()
    failed = {check.check_name for check in checks if not check.passed}
    assert failed <= {"no_long_silence", "features_have_not_drifted"}, failed  # advice
    before = {name: group.read(name, first, last) for name in NAMES}
    assert group.run(TABLES, day).success
    for name, rows in before.items():
        assert len(rows)
        assert equal(group.read(name, first, last), rows), name
"""


def test_the_tables_of_a_day_without_midnight(tmp_path: Path) -> None:
    """In a range and alone, with what the checks find: Cairo's clocks go forward on a Friday."""
    result = subprocess.run(
        [sys.executable, "-c", TABLES, str(tmp_path), "2025-04-23", "2025-04-25", "2025-04-27"],
        env={**os.environ, "TICK_TIMEZONE": "Africa/Cairo"},
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stderr[-3000:]
