"""From minute readings to hourly rows: the target, and what was known before it.

A column's prefix says what it may see: `calendar_` the clock alone, `recent_` the hours before the
hour begins, `minutes_` the minutes of the hour before, `midnight_` the hours before the hour's day
begins. A horizon is a choice of prefixes. Missing minutes are skipped; what cannot be computed is
NaN, which LightGBM understands.

Hours are counted from the midnight of the day, those before it too. Where a clock is changed by
half an hour, the last row of the day is the half hour that is left.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from ml_assets.ml.days import calendar_days, day_begins, later, local_days, local_times, midnight
from ml_assets.ml.errors import DataError
from ml_assets.power.data import COLUMNS

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

TARGET = "active_power_kw"
TIME = "event_time_utc"
LOOKBACK_DAYS = 29
"""How many days before a row its features look back at most: 28, one of which may have 23 hours."""
_USUAL_DAYS = 28
_HOUR = timedelta(hours=1)

PREFIXES = {
    "day_ahead": ("calendar_", "midnight_"),
    "next_hour": ("calendar_", "recent_", "minutes_"),
}
"""What each horizon may see."""

NAIVE = {
    "day_ahead": {
        "persistence": "midnight_last_1h",
        "seasonal_naive_24h": "midnight_lag_24h",
        "seasonal_naive_168h": "midnight_lag_168h",
    },
    "next_hour": {
        "persistence": "recent_lag_1h",
        "seasonal_naive_24h": "recent_lag_24h",
        "seasonal_naive_168h": "recent_lag_168h",
    },
}
"""The naive forecasts of each horizon, which are features of it."""

_MIDNIGHT_LAGS = (24, 48, 72, 96, 120, 144, 168, 336, 504, 672)
_RECENT_LAGS = (*range(1, 26), 47, 48, 49, 72, 167, 168, 169, 336)
_CIRCUIT_LAGS = (1, 2, 3, 4, 6, 12, 23, 24, 25, 168)
_REST = "rest_wh"
_CIRCUITS = ("sub_metering_1_wh", "sub_metering_2_wh", "sub_metering_3_wh", _REST)
"""What the meter tells apart: kitchen, laundry, water heater with air conditioner, the rest."""


@dataclass(frozen=True)
class Window:
    """The rows of some days as a horizon sees them, those without a target left out.

    Attributes:
        times: `(n,)` datetime64[us], UTC: the beginnings of the hours, ascending.
        days: `(n,)` datetime64[D]: the days on which they begin, in the group's time zone.
        target: `(n,)` float64, kW.
        features: `(n, k)` float32, NaN where unknown.
        names: The k names of the features.
        naive: The naive forecasts `(n,)` by name.
        digest: SHA-256 of all that.
    """

    times: np.ndarray
    days: np.ndarray
    target: np.ndarray
    features: np.ndarray
    names: list[str]
    naive: dict[str, np.ndarray]
    digest: str

    def latest(self, days: int) -> np.ndarray:
        """`(n,)` bool: the rows of the latest `days` days."""
        return self.days > self.days[-1] - np.timedelta64(days, "D")


def window(rows: "pa.Table", horizon: str, timezone: str) -> Window:
    """The rows that `compute` made, as a horizon sees them.

    Raises:
        DataError: There is no row with a target.
    """
    import pyarrow as pa

    target = rows[TARGET].to_numpy()
    known = np.isfinite(target)
    if not known.any():
        raise DataError(
            "rows with a target in the table power.features",
            f"{len(rows)} rows without one",
            "materialize raw_readings, readings and features of these days first",
        )
    rows = rows.filter(pa.array(known))
    times = rows[TIME].to_numpy().astype("datetime64[us]")
    chosen = names(rows.column_names, horizon)
    features = np.column_stack([rows[name].to_numpy() for name in chosen])
    digest = hashlib.sha256(json.dumps([horizon, timezone, chosen]).encode())
    for array in (times, target[known], features):
        digest.update(np.ascontiguousarray(array).tobytes())
    return Window(
        times=times,
        days=local_days(times, timezone),
        target=target[known],
        features=features,
        names=chosen,
        naive={name: rows[column].to_numpy() for name, column in NAIVE[horizon].items()},
        digest=digest.hexdigest(),
    )


def lookback(start: datetime, timezone: str) -> datetime:
    """The midnight from which on readings are needed for rows from `start` on."""
    return later(start, -LOOKBACK_DAYS, timezone)


def names(columns: list[str], horizon: str) -> list[str]:
    """The features, among `columns`, that a horizon may see.

    >>> names(["active_power_kw", "calendar_hour", "recent_lag_1h"], "day_ahead")
    ['calendar_hour']
    """
    return [name for name in columns if name.startswith(PREFIXES[horizon])]


def compute(
    readings: "pa.Table", start: datetime, end: datetime, timezone: str, country: str
) -> "pa.Table":
    """The hourly rows of some days. The readings may end before: then the target is NaN.

    Args:
        readings: Minute rows `event_time_utc` and the measured columns, from `lookback(start)` on.
        start: Midnight at which the first day begins.
        end: Midnight at which the last day ends.
        timezone: IANA name of the time zone whose days, hours and weekdays count.
        country: ISO code of the country whose public holidays count.

    Returns:
        One row an hour: `event_time_utc` (its beginning), the target `active_power_kw` (mean of
        its minutes, kW) and the features, float32.
    """
    import pyarrow as pa

    return pa.concat_tables(
        [
            _rows(readings, first, last, timezone, country)
            for first, last in _of_whole_hours(start, end, timezone)
        ]
    )


def _of_whole_hours(
    start: datetime, end: datetime, timezone: str
) -> Iterator[tuple[datetime, datetime]]:
    """A window in pieces whose days begin whole hours from one another: as a rule it is one."""
    first, last = start.astimezone(UTC), end.astimezone(UTC)
    for day in calendar_days(start, end, timezone):
        begin = midnight(day, timezone)
        if (begin - first) % _HOUR:
            yield first, begin
            first = begin
    yield first, last


def _rows(
    readings: "pa.Table", start: datetime, end: datetime, timezone: str, country: str
) -> "pa.Table":
    """What `compute` gives of days that begin whole hours from one another."""
    import pandas as pd
    import pyarrow as pa

    first = start - (start - lookback(start, timezone)) // _HOUR * _HOUR
    minutes = {
        name: _minutes(readings, name, first, end) for name in COLUMNS if name != "current_a"
    }
    minutes[_REST] = minutes[TARGET] * 1000 / 60 - sum(minutes[name] for name in _CIRCUITS[:3])
    hours = pd.date_range(first, end, freq="1h", inclusive="left")
    moments = hours.tz_localize(None).as_unit("us").to_numpy()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice|Degrees of freedom|All-NaN")
        means = {name: np.nanmean(values, axis=1) for name, values in minutes.items()}
        columns = {
            **_calendar(pd.DatetimeIndex(local_times(moments, timezone)), country),
            **_recent(means),
            **_last_minutes(minutes),
            **_midnight(means, (moments - day_begins(moments, timezone)) // np.timedelta64(1, "h")),
        }
    rows = {name: np.asarray(values, np.float32) for name, values in columns.items()}
    wanted = hours >= start
    return pa.table(
        {
            TIME: pa.array(hours[wanted].as_unit("us")),
            TARGET: means[TARGET][wanted],
            **{name: values[wanted] for name, values in rows.items()},
        }
    )


def _minutes(readings: "pa.Table", name: str, first: datetime, end: datetime) -> np.ndarray:
    """A measured column as `(hours, 60)` float64, NaN where nothing was measured."""
    times = readings[TIME].to_numpy().astype("datetime64[m]")
    row = (times - np.datetime64(first.replace(tzinfo=None), "m")).astype(int)
    count = int((end - first).total_seconds()) // 60
    grid = np.full(-(-count // 60) * 60, np.nan)
    inside = (row >= 0) & (row < count)
    grid[row[inside]] = readings[name].to_numpy()[inside]
    return grid.reshape(-1, 60)


def _calendar(local: "pd.DatetimeIndex", country: str) -> dict[str, np.ndarray]:
    """What the clock alone tells."""
    import holidays

    days = local.date
    try:
        known = holidays.country_holidays(country, years=range(days[0].year, days[-1].year + 2))
    except NotImplementedError as error:
        raise DataError("a country with known holidays", country, "set POWER_HOLIDAYS") from error
    angle = 2 * np.pi * (local.dayofyear - 1) / 365.25
    return {
        "calendar_hour": local.hour,
        "calendar_weekday": local.dayofweek,
        "calendar_is_weekend": local.dayofweek >= 5,
        "calendar_is_holiday": np.array([day in known for day in days]),
        "calendar_is_eve_of_holiday": np.array([day + timedelta(days=1) in known for day in days]),
        "calendar_season": local.month % 12 // 3,
        "calendar_year_sin": np.sin(angle),
        "calendar_year_cos": np.cos(angle),
    }


def _recent(means: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What is known of the hours before the hour begins."""
    power = means[TARGET]
    found = {f"recent_lag_{lag}h": _shifted(power, lag) for lag in _RECENT_LAGS}
    for hours in (3, 6, 12, 24, 168):
        for statistic in (np.nanmean, np.nanstd, np.nanmin, np.nanmax):
            found[f"recent_{_name(statistic)}_{hours}h"] = _before(power, hours, statistic)
    found["recent_deviation_24h"] = found["recent_lag_1h"] - found["recent_mean_24h"]
    same_hour = _days_before(power, 0)
    hour_before = _days_before(power, 1)
    for days in (7, 28):
        usual = np.nanmean(same_hour[:days], axis=0)
        found[f"recent_same_hour_mean_{days}d"] = usual
        found[f"recent_usual_step_{days}d"] = usual - np.nanmean(hour_before[:days], axis=0)
    found["recent_same_weekday_hour_mean_4w"] = np.nanmean(same_hour[6::7], axis=0)
    for name in _CIRCUITS:
        for lag in _CIRCUIT_LAGS:
            found[f"recent_{name}_lag_{lag}h"] = _shifted(means[name], lag)
        for hours in (3, 6, 12, 24, 168):
            found[f"recent_{name}_mean_{hours}h"] = _before(means[name], hours, np.nanmean)
        for days in (7, 28):
            usual = np.nanmean(_days_before(means[name], 0)[:days], axis=0)
            found[f"recent_{name}_same_hour_mean_{days}d"] = usual
    for name in ("reactive_power_kvar", "voltage_v"):
        for lag in (1, 2, 3):
            found[f"recent_{name}_lag_{lag}h"] = _shifted(means[name], lag)
    return found


def _last_minutes(minutes: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What is known of the minutes of the hour before the hour begins."""
    found = {}
    for name, values in minutes.items():
        last = np.vstack([np.full((1, 60), np.nan), values[:-1]])
        for count in (1, 2, 5, 10, 15, 30):
            found[f"minutes_{name}_mean_{count}min"] = np.nanmean(last[:, -count:], axis=1)
        for count in (15, 60):
            for statistic in (np.nanstd, np.nanmin, np.nanmax):
                of_tail = statistic(last[:, -count:], axis=1)
                found[f"minutes_{name}_{_name(statistic)}_{count}min"] = of_tail
            travel = np.nanmean(np.abs(np.diff(last[:, -count:], axis=1)), axis=1)
            found[f"minutes_{name}_travel_{count}min"] = travel
    return found


def _midnight(means: dict[str, np.ndarray], since: np.ndarray) -> dict[str, np.ndarray]:
    """What is known when the hour's day begins, `since` so many hours `(n,)` int64."""
    rows = np.arange(len(since))
    day_begins = rows - since

    def at(values: np.ndarray, row: np.ndarray) -> np.ndarray:
        return np.where(row >= 0, values[np.maximum(row, 0)], np.nan)

    def before(values: np.ndarray, hours: int, statistic: Callable[..., np.ndarray]) -> np.ndarray:
        return at(_before(values, hours, statistic), day_begins)

    power = means[TARGET]
    # The 25th hour of a day finds its hour of yesterday 48 hours ago: 24 would be today.
    yesterday = rows - np.where(since >= 24, 48, 24)
    same_hour = np.stack([at(power, yesterday - 24 * days) for days in range(_USUAL_DAYS)])
    found = {f"midnight_lag_{lag}h": same_hour[lag // 24 - 1] for lag in _MIDNIGHT_LAGS}
    for days in (7, 28):
        found[f"midnight_same_hour_mean_{days}d"] = np.nanmean(same_hour[:days], axis=0)
        found[f"midnight_same_hour_std_{days}d"] = np.nanstd(same_hour[:days], axis=0)
    found["midnight_same_weekday_hour_mean_4w"] = np.nanmean(same_hour[6::7], axis=0)
    for hours in (1, 3, 6, 12, 24, 168, 672):
        found[f"midnight_last_{hours}h"] = before(power, hours, np.nanmean)
    for statistic in (np.nanstd, np.nanmin, np.nanmax):
        found[f"midnight_{_name(statistic)}_24h"] = before(power, 24, statistic)
    found["midnight_deviation_24h"] = found["midnight_last_24h"] - found["midnight_last_672h"]
    for name, values in means.items():
        if name != TARGET:
            for hours in (1, 6, 24, 168):
                found[f"midnight_{name}_last_{hours}h"] = before(values, hours, np.nanmean)
    for name in _CIRCUITS:
        usual = np.stack([at(means[name], yesterday - 24 * days) for days in range(7)])
        found[f"midnight_{name}_lag_24h"] = usual[0]
        found[f"midnight_{name}_same_hour_mean_7d"] = np.nanmean(usual, axis=0)
    return found


def _name(statistic: Callable[..., np.ndarray]) -> str:
    return statistic.__name__.removeprefix("nan")


def _days_before(values: np.ndarray, hours: int) -> np.ndarray:
    """The values so many hours before each row on each of the 28 days before, `(28, n)`."""
    return np.stack([_shifted(values, 24 * day + hours) for day in range(1, _USUAL_DAYS + 1)])


def _shifted(values: np.ndarray, rows: int) -> np.ndarray:
    """The value so many rows before each row, NaN where there is none."""
    return np.concatenate([np.full(rows, np.nan), values])[: len(values)]


def _before(values: np.ndarray, rows: int, statistic: Callable[..., np.ndarray]) -> np.ndarray:
    """A statistic of the `rows` rows before each row; NaN where not even half of them are known.

    Every window is computed by itself: a running sum would depend on where the series begins.
    """
    padded = np.concatenate([np.full(rows, np.nan), values])[: len(values) + rows - 1]
    windows = np.lib.stride_tricks.sliding_window_view(padded, rows)
    known = np.isfinite(windows).sum(axis=1)
    return np.where(2 * known >= rows, statistic(windows, axis=1), np.nan)
