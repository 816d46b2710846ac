"""What the features of an hour should hold, each looked up for itself among the minutes."""

import re
from collections.abc import Callable

import holidays
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ml_assets.power import data
from ml_assets.power.features import TARGET, TIME
from ml_assets_tests.power.days import DAY, begins

STATISTICS: dict[str, Callable[[pd.Series], float]] = {
    "mean": lambda values: values.mean(),
    "last": lambda values: values.mean(),
    "std": lambda values: values.std(ddof=0),
    "min": lambda values: values.min(),
    "max": lambda values: values.max(),
}
STATISTIC = "|".join(STATISTICS)
COLUMN = re.compile(f"({'|'.join([*data.COLUMNS, 'rest_wh'])})_(.*)")


class Oracle:
    """What a row should hold, by the name of the column."""

    def __init__(self, readings: pa.Table, timezone: str) -> None:
        self.minutes = readings.to_pandas().set_index(TIME)
        circuits = self.minutes[[f"sub_metering_{number}_wh" for number in (1, 2, 3)]]
        watt_hours = self.minutes[TARGET] / 60 * 1000
        self.minutes["rest_wh"] = watt_hours - circuits.sum(axis=1, skipna=False)
        self.timezone = timezone
        self.grids: dict[pd.Timedelta, pd.DataFrame] = {}

    def value(self, name: str, time: pd.Timestamp) -> float:
        self.kind, _, what = name.partition("_")
        local = time.tz_convert(self.timezone)
        if self.kind == "calendar":
            return calendar(what, local)
        midnight = pd.Timestamp(begins(local.date(), self.timezone))
        self.hours = self.hours_of_the_grid(midnight - midnight.floor("1h"))
        # What is known: everything before this time.
        self.now = midnight if self.kind == "midnight" else time
        # A day earlier is not yet known in the 25th hour of a day; two days earlier is.
        self.same = time if time - hours(24) < self.now else time - hours(24)
        named = COLUMN.fullmatch(what)
        self.column, what = named.groups() if named else (TARGET, what)
        for pattern, answer in (
            (r"lag_(\d+)h", self.lag),
            (rf"({STATISTIC})_(\d+)(h|min)", self.statistic),
            (r"travel_(\d+)min", self.travel),
            (rf"same_(hour)_({STATISTIC})_(\d+)d", self.at_the_same_time),
            (r"same_(weekday)_hour_(mean)_(\d+)w", self.at_the_same_time),
            (r"usual_step_(\d+)d", self.usual_step),
            (r"deviation_24h", self.deviation),
        ):
            if match := re.fullmatch(pattern, what):
                return answer(*match.groups())
        pytest.fail(f"{name} has no oracle: give it one")

    def hours_of_the_grid(self, shift: pd.Timedelta) -> pd.DataFrame:
        """The means of the hours that begin so long after the full hours of UTC."""
        if shift not in self.grids:
            begins = (self.minutes.index - shift).floor("1h") + shift
            self.grids[shift] = self.minutes.groupby(begins).mean()
        return self.grids[shift]

    def hour(self, time: pd.Timestamp) -> float:
        assert time < self.now
        return self.hours[self.column].get(time, np.nan)

    def lag(self, count: str) -> float:
        return self.hour(self.same - hours(int(count)))

    def at_the_same_time(self, unit: str, name: str, count: str) -> float:
        step = hours({"hour": 24, "weekday": 168}[unit])
        values = [self.hour(self.same - (past + 1) * step) for past in range(int(count))]
        return STATISTICS[name](pd.Series(values).dropna())

    def usual_step(self, count: str) -> float:
        times = [self.same - (past + 1) * hours(24) for past in range(int(count))]
        here, before = ([self.hour(time - hours(back)) for time in times] for back in (0, 1))
        return pd.Series(here).mean() - pd.Series(before).mean()

    def known(self, frame: pd.DataFrame, span: pd.Timedelta) -> pd.Series:
        values = frame[self.column]
        return values[(values.index >= self.now - span) & (values.index < self.now)].dropna()

    def statistic(self, name: str, count: str, unit: str) -> float:
        known = self.known(
            self.hours if unit == "h" else self.minutes, pd.Timedelta(int(count), unit)
        )
        enough = unit == "min" or 2 * len(known) >= int(count)
        return STATISTICS[name](known) if enough else np.nan

    def travel(self, count: str) -> float:
        known = self.known(self.minutes, pd.Timedelta(int(count), "min")).to_dict()
        minute = pd.Timedelta(1, "min")
        steps = [abs(known[t] - known[t - minute]) for t in known if t - minute in known]
        return pd.Series(steps, dtype=float).mean()

    def deviation(self) -> float:
        if self.kind == "recent":
            return self.lag("1") - self.statistic("mean", "24", "h")
        return self.statistic("mean", "24", "h") - self.statistic("mean", "672", "h")


def hours(count: int) -> pd.Timedelta:
    return pd.Timedelta(hours=count)


def calendar(what: str, local: pd.Timestamp) -> float:
    known = holidays.country_holidays("FR")
    angle = 2 * np.pi * (local.timetuple().tm_yday - 1) / 365.25
    seasons = {12: 0, 1: 0, 2: 0, 3: 1, 4: 1, 5: 1, 6: 2, 7: 2, 8: 2, 9: 3, 10: 3, 11: 3}
    return {
        "hour": local.hour,
        "weekday": local.weekday(),
        "is_weekend": local.weekday() in {5, 6},
        "is_holiday": local.date() in known,
        "is_eve_of_holiday": local.date() + DAY in known,
        "season": seasons[local.month],
        "year_sin": np.sin(angle),
        "year_cos": np.cos(angle),
    }[what]
