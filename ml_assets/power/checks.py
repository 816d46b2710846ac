"""What must hold of the readings, of what is made of them, and of the forecasts."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
import numpy as np

from ml_assets.checks import (
    Finding,
    baseline_check,
    floor_check,
    no_drift,
    no_regression_check,
    property_check,
    table_check,
)
from ml_assets.ml.days import calendar_days, later, local_days
from ml_assets.ml.evaluation import Quality
from ml_assets.power.config import DAYS, GROUP, TIMEZONE, TuningConfig
from ml_assets.power.data import COLUMNS
from ml_assets.power.features import TARGET, TIME
from ml_assets.power.model import Forecast

if TYPE_CHECKING:
    import pyarrow as pa

QUALITY = Quality(metric="mae", limit=0.8, baseline="best_naive", lower_is_better=True)
"""In kW. Short of it nothing is registered; the mean of the readings is about 1.1 kW."""

MISSING_SHARE = 0.25
"""Share of a day's minutes that may be missing."""
STALE_AFTER = timedelta(hours=6)
"""How old the latest reading may be when its day ends."""
DRIFT_DAYS, REFERENCE_DAYS, DRIFT_LIMIT = 28, 364, 3.0
"""How many latest days are compared with how many before them, and the PSI that is allowed.

A household has seasons: by the usual limit of 0.25 it would drift all year.
"""
HOURS_OF_DAY = range(21, 28)
"""How many hours a day may have: clocks are changed by an hour, in Antarctica by two and three."""
CHANCE = 0.01
"""How improbable a miss of the interval may be if hours were independent.

They are not, so it fails more often than that by mistake: it is advice.
"""


def lines_are_unique(rows: "pa.Table", _start: datetime, _end: datetime) -> Finding:
    """No line of the source was taken up twice."""
    twice = len(rows) - len(rows.group_by(["partition_time_utc", "line"]).aggregate([]))
    return Finding(twice == 0, {"lines_twice": twice, "lines": len(rows)})


def columns_are_typed(rows: "pa.Table", _start: datetime, _end: datetime) -> Finding:
    """Times are UTC, measured values are floats, gaps are marked."""
    expected = {
        TIME: "timestamp[us, tz=UTC]",
        **dict.fromkeys(COLUMNS, "double"),
        "is_gap": "bool",
    }
    found = {field.name: str(field.type) for field in rows.schema}
    return Finding(found == expected, {"found": found, "expected": expected})


def values_are_possible(rows: "pa.Table", _start: datetime, _end: datetime) -> Finding:
    """Every measured value is within what a household can draw."""
    import pyarrow.compute as pc

    outside, found = 0, {}
    for name, (low, high) in COLUMNS.items():
        least, most = pc.min_max(rows[name]).as_py().values()
        found[name] = f"{least} to {most}, allowed {low:g} to {high:g}"
        outside += least is not None and not (low <= least and most <= high)
    return Finding(outside == 0, found)


def every_minute_is_there_once(rows: "pa.Table", start: datetime, end: datetime) -> Finding:
    """The days have one row for each of their minutes, in order."""
    times = rows[TIME].to_numpy().astype("datetime64[m]")
    expected = int((end.astimezone(UTC) - start.astimezone(UTC)).total_seconds()) // 60
    steps = np.diff(times).astype(int)
    return Finding(
        len(times) == expected and bool((steps == 1).all()),
        {"rows": len(times), "expected": expected},
    )


def few_minutes_are_missing(rows: "pa.Table", _start: datetime, _end: datetime) -> Finding:
    """The meter was silent for at most a quarter of each day."""
    if not len(rows):
        return Finding(False, {"rows": 0, "allowed": MISSING_SHARE})
    gaps = rows["is_gap"].to_numpy()
    _, day = np.unique(local_days(rows[TIME], TIMEZONE), return_inverse=True)
    shares = np.bincount(day, gaps) / np.bincount(day)
    return Finding(
        bool((shares <= MISSING_SHARE).all()),
        {
            "largest_share_of_a_day": float(shares.max()),
            "share": float(gaps.mean()),
            "allowed": MISSING_SHARE,
        },
    )


def readings_are_fresh(rows: "pa.Table", _start: datetime, end: datetime) -> Finding:
    """The meter still measured in the last hours of the latest day."""
    measured = rows[TIME].to_numpy()[~rows["is_gap"].to_numpy()]
    latest = (
        measured[-1].astype("datetime64[us]").item().replace(tzinfo=UTC) if len(measured) else None
    )
    return Finding(
        latest is not None and end - latest <= STALE_AFTER,
        {"latest_reading": str(latest), "end_of_day": str(end), "allowed": str(STALE_AFTER)},
    )


def no_missing_days(rows: "pa.Table", _start: datetime, end: datetime) -> Finding:
    """Since the first day of the training window that is there, no day is missing."""
    found = set(local_days(rows[TIME], TIMEZONE).tolist())
    first = rows[TIME][0].as_py() if len(rows) else end
    missing = [day for day in calendar_days(first, end, TIMEZONE) if day not in found]
    return Finding(
        bool(found) and not missing,
        {
            "missing_days": len(missing),
            "first_missing": str(missing[0]) if missing else "none",
            "days": len(found),
        },
    )


def inputs_have_not_drifted(rows: "pa.Table", _start: datetime, end: datetime) -> Finding:
    """The latest four weeks are distributed like the year before (population stability index)."""
    return no_drift(rows, later(end, -DRIFT_DAYS, TIMEZONE), DRIFT_LIMIT)


def forecast_is_complete(forecast: Forecast) -> Finding:
    """Every hour of the next day has a finite forecast within its interval."""
    lower, point, upper = forecast.predictions.T
    sound = (lower <= point) & (point <= upper)  # false for NaN
    return Finding(
        len(sound) in HOURS_OF_DAY and bool(sound.all()),
        {"sound_hours": int(sound.sum()), "hours": len(sound)},
    )


def interval_covers_as_claimed(forecast: Forecast) -> Finding:
    """Yesterday's forecast held this day's hours within its interval as often as it claims."""
    from scipy.stats import binomtest

    hours, inside = int(forecast.metrics["hours_compared"]), int(forecast.metrics["hours_inside"])
    found: dict[str, float] = {"hours_inside": inside, "hours_compared": hours}
    if not hours:
        return Finding(True, {**found, "note": "there was no forecast of this day"})
    claimed = forecast.metrics["claimed_coverage"]
    found |= {"coverage": forecast.metrics["coverage"], "claimed": claimed}
    chance = binomtest(inside, hours, claimed, alternative="less").pvalue
    return Finding(bool(chance >= CHANCE), found | {"chance": float(chance), "allowed": CHANCE})


RAW, READINGS, FEATURES = (GROUP, "raw_readings"), (GROUP, "readings"), (GROUP, "features")
EVALUATION, WARN = (GROUP, "evaluation"), dg.AssetCheckSeverity.WARN
MEASURED = [TIME, *COLUMNS, "is_gap"]
DRIFTING = [
    TIME,
    TARGET,
    *("recent_voltage_v_lag_1h", "recent_reactive_power_kvar_lag_1h"),
    *("recent_sub_metering_1_wh_lag_1h", "recent_sub_metering_2_wh_lag_1h"),
]

CHECKS = [
    table_check(RAW, DAYS, lines_are_unique, columns=["partition_time_utc", "line"], blocking=True),
    table_check(READINGS, DAYS, columns_are_typed, columns=MEASURED, blocking=True),
    table_check(READINGS, DAYS, values_are_possible, columns=MEASURED, blocking=True),
    table_check(READINGS, DAYS, every_minute_is_there_once, columns=[TIME], blocking=True),
    table_check(READINGS, DAYS, few_minutes_are_missing, columns=[TIME, "is_gap"]),
    table_check(READINGS, DAYS, readings_are_fresh, columns=[TIME, "is_gap"], latest_day=True),
    table_check(
        FEATURES,
        DAYS,
        no_missing_days,
        columns=[TIME],
        lookback_days=TuningConfig().window_days,
    ),
    table_check(
        FEATURES,
        DAYS,
        inputs_have_not_drifted,
        columns=DRIFTING,
        lookback_days=REFERENCE_DAYS + DRIFT_DAYS,
        severity=WARN,
    ),
    floor_check(EVALUATION, QUALITY, DAYS),
    baseline_check(EVALUATION, QUALITY, DAYS),
    no_regression_check((GROUP, "registered_model"), DAYS),
    property_check((GROUP, "forecast"), Forecast, forecast_is_complete, partitions=DAYS),
    property_check(
        (GROUP, "forecast"),
        Forecast,
        interval_covers_as_claimed,
        partitions=DAYS,
        severity=WARN,
    ),
]
