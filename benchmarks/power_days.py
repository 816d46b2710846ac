"""Household power by the day and by the week: features, models and one-step forecasts.

`daily` and `weekly` return the mean power of all periods (kW, NaN where nothing was read) and the
forecast of those that begin from a time on, as `benchmarks.power_published` scores them. Row t
of the features (a midnight) sees the minutes before t, and the calendar; the target begins at t.
"""

from collections.abc import Callable
from functools import cache

import holidays
import numpy as np
import pandas as pd
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ml_assets.ml import boosting

BOOSTER = {
    "objective": "l2",
    "num_leaves": 8,
    "learning_rate": 0.03,
    "min_data_in_leaf": 20,
    "feature_fraction": 0.3,
    "bagging_fraction": 0.7,
    "lambda_l2": 5.0,
}
WEEKLY = ["lag_1", "mean_3", "mean_7", "mean_28", "year_ago", "usual_change", "holidays_in_span"]
WEEKLY += ["cos_1", "sin_1", "cos_2", "sin_2"]

Frames = tuple[pd.Series, pd.Series]


def daily(minutes: pd.DataFrame, begin: pd.Timestamp) -> Frames:
    """Target and forecast of the days from `begin` on, kW.

    The mean of a ridge regression and of three boosters of the square root.

    Args:
        minutes: Readings by time, a row a minute: `power`, and the four circuits.
        begin: The models are trained on the days before.
    """
    x = _features(minutes, 1)
    target = _means(minutes, 1)[0].reindex(x.index)
    train = target.notna() & target.shift(1).notna() & x["mean_28"].notna() & (x.index < begin)

    def forecast(known: pd.DataFrame, y: np.ndarray, asked: pd.DataFrame) -> np.ndarray:
        roots = []
        for seed in (1, 2, 3):
            booster = boosting.train(
                known.to_numpy(), np.sqrt(y), list(known), BOOSTER | {"seed": seed}, 200
            )
            roots.append(booster.predict(asked.to_numpy()))
        return (np.mean(roots, axis=0) ** 2 + _ridge(known, y, asked, 500.0)) / 2

    return _forecast(forecast, x, target, train, begin)


def weekly(minutes: pd.DataFrame, begin: pd.Timestamp) -> Frames:
    """Target and forecast of the weeks that begin from `begin` on, kW.

    A ridge regression, which also learns from the weeks between the weeks; of each at least half
    of the minutes must be known.

    Args:
        minutes: As for `daily`; weeks begin on the weekday of the first row.
        begin: The model is trained on weeks that end by then.
    """
    x = _features(minutes, 7)
    target, share = (found.reindex(x.index) for found in _means(minutes, 7))
    over = x.index + pd.Timedelta(days=7) <= begin
    train = (share >= 0.5) & x["mean_28"].notna() & over

    def forecast(known: pd.DataFrame, y: np.ndarray, asked: pd.DataFrame) -> np.ndarray:
        return _ridge(known[WEEKLY], y, asked[WEEKLY], 100.0)

    every, made = _forecast(forecast, x, target, train, begin)
    return every[::7], made[made.index.isin(every.index[::7])]


def _forecast(
    model: Callable[[pd.DataFrame, np.ndarray, pd.DataFrame], np.ndarray],
    x: pd.DataFrame,
    target: pd.Series,
    train: pd.Series,
    begin: pd.Timestamp,
) -> Frames:
    asked = x[x.index >= begin]
    made = model(x[train], target[train].to_numpy(), asked)
    return target, pd.Series(made, asked.index)


def _ridge(x: pd.DataFrame, y: np.ndarray, asked: pd.DataFrame, alpha: float) -> np.ndarray:
    model = make_pipeline(SimpleImputer(), StandardScaler(), Ridge(alpha=alpha))
    return np.asarray(model.fit(x, y).predict(asked))


def _means(minutes: pd.DataFrame, span: int) -> Frames:
    """Mean power of the `span` days that begin with each day, and the share of minutes known."""
    days = minutes["power"].resample("D")
    total = days.sum().rolling(span).sum().shift(1 - span)
    count = days.count().rolling(span).sum().shift(1 - span)
    return total / count.where(count > 0), count / (1440 * span)


def _features(minutes: pd.DataFrame, span: int) -> pd.DataFrame:
    days = minutes.resample("D").mean()
    index = pd.date_range(days.index[0], periods=len(days) + 1, freq="D")
    # Row t is day t - 1, or the last one known.
    past = days.reindex(index).shift(1).ffill(limit=7)
    y = past["power"]
    found = {f"lag_{k}": y.shift(k - 1) for k in [*range(1, 9), 14, 21, 28]}
    for width in (2, 3, 7, 14, 28, 56):
        found[f"mean_{width}"] = y.rolling(width, min_periods=max(1, width // 2)).mean()
    found["spread_7"] = y.rolling(7, min_periods=4).std()
    found["low_28"] = y.rolling(28, min_periods=4).min()
    for name in past.columns.drop("power"):
        found |= {f"{name}_lag_{k}": past[name].shift(k - 1) for k in (1, 2, 7)}
        for width in (7, 28):
            found[f"{name}_mean_{width}"] = past[name].rolling(width, width // 2).mean()
    hours = minutes["power"].resample("h").mean()
    for first, last in ((0, 6), (6, 12), (12, 18), (18, 24), (21, 24), (23, 24)):
        part = hours[(hours.index.hour >= first) & (hours.index.hour < last)]
        found[f"{first}_to_{last}_h"] = part.resample("D").mean().reindex(index).shift(1)
    for weeks in (4, 8):
        same = pd.concat([y.shift(7 * k - 1) for k in range(1, weeks + 1)], axis=1)
        found[f"same_weekday_{weeks}_w"] = same.mean(axis=1)
    # 52 weeks ago: the same span, and how three weeks around it stood to the three before.
    found["year_ago"] = y.shift(-span).rolling(span, (span + 1) // 2).mean().shift(364)
    month = y.rolling(21, min_periods=10).mean()
    found["usual_change"] = month.shift(364 - 11 - span // 2) - month.shift(364)
    found["to_level"] = y - y.rolling(28, min_periods=14).mean()
    return pd.DataFrame(found | _calendar(index, span), index=index)


def _calendar(index: pd.DatetimeIndex, span: int) -> dict[str, np.ndarray]:
    def holiday(shift: int) -> np.ndarray:
        days = index + pd.Timedelta(days=shift)
        return np.asarray(days.isin(_holidays(index[0].year - 1, index[-1].year + 1)))

    def free(shift: int) -> np.ndarray:
        return holiday(shift) | ((index + pd.Timedelta(days=shift)).dayofweek >= 5)

    angle = 2 * np.pi * index.dayofyear / 365.25
    found = {
        "weekday": index.dayofweek,
        "day_of_year": index.dayofyear,
        "holiday": holiday(0),
        "holidays_in_span": sum(holiday(shift).astype(int) for shift in range(span)),
        "free": free(0),
        "free_before": free(-1),
        "free_after": free(1),
        **{f"is_weekday_{k}": index.dayofweek == k for k in range(7)},
        **{f"cos_{k}": np.cos(k * angle) for k in (1, 2)},
        **{f"sin_{k}": np.sin(k * angle) for k in (1, 2)},
    }
    return {name: np.asarray(values, float) for name, values in found.items()}


@cache
def _holidays(first_year: int, last_year: int) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(list(holidays.France(years=range(first_year, last_year + 1))))
