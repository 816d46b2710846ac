"""What must hold of ticks, bars and forecasts; days without trade pass."""

from datetime import datetime, timedelta
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
from ml_assets.ml.days import day_begins, day_of, later, local_days
from ml_assets.ml.evaluation import Evaluation, Quality
from ml_assets.ml.windows import Windows
from ml_assets.tick.config import DAYS, GROUP, TIMEZONE
from ml_assets.tick.data import in_order
from ml_assets.tick.features import DEVIATIONS, LOOKBACK_DAYS, TIME
from ml_assets.tick.model import Forecast

if TYPE_CHECKING:
    import pyarrow as pa

QUALITY = Quality(
    metric="mse_bp2", limit=1e4, baseline="best_naive", lower_is_better=True, tolerance=0.05
)
"""In squared basis points: 1 % a bar is the worst that is registered. Of returns no skill is the
honest result, so a model may be as good as the best naive forecast, and by chance a little worse.
"""

LONGEST_SILENCE = timedelta(hours=4)
"""How long there may be no tick between two of a day, or before its usual end."""
LARGEST_SPREAD = 0.01
"""Median share of the price that may lie between bid and ask on a day."""
LARGEST_JUMP = 0.1
"""Largest distance in log price between a bar and the next, or of a bar's high from its low.

Overnight it is the same: the bundled week opens 2 % away at most, and a market that opens 10 % away
is worth a look.
"""
USUAL_DAYS, USUAL_FACTOR = 28, 10.0
"""By what factor a day's trade may differ from the median of so many days before it."""
STALE_AFTER = timedelta(days=LOOKBACK_DAYS)
"""How old the latest tick may be when a day ends: exchanges close over Easter."""
DRIFT_DAYS, REFERENCE_DAYS, DRIFT_LIMIT = 5, 55, 1.0
"""How many latest days are compared with how many before them, and the PSI that is allowed.

Markets have quiet and wild weeks: by the usual limit of 0.25 they would drift half of the time.
"""
BELIEVABLE_SKILL = {"log_return": 0.1, "volatility": 0.7}
"""A larger share of the best naive forecast's error is not avoided without a leak."""


def rows_are_unique(rows: "pa.Table", _start: datetime, _end: datetime) -> Finding:
    """No row of the source was taken up twice: each has its own number among those of its day."""
    twice = len(rows) - len(rows.group_by(["partition_time_utc", "arrival"]).aggregate([]))
    return Finding(twice == 0, {"rows_twice": twice, "rows": len(rows)})


def ticks_are_in_order(rows: "pa.Table", _start: datetime, _end: datetime) -> Finding:
    """Times ascend to the nanosecond, those of one nanosecond by the numbers of their rows."""
    found = in_order(rows["event_time_ns"].to_numpy(), rows["row"].to_numpy())
    return Finding(found, {"ticks": len(rows)})


def prices_and_sizes_are_positive(rows: "pa.Table", _start: datetime, _end: datetime) -> Finding:
    """Every tick has a finite price above zero; sizes are above zero, bids not above asks."""
    values = {name: rows[name].to_numpy().astype(float) for name in ("price", "size", "bid", "ask")}
    wrong = {
        "prices": ~(np.isfinite(values["price"]) & (values["price"] > 0)),
        "sizes": values["size"] <= 0,
        "crossed_quotes": values["bid"] > values["ask"],
    }
    found = {name: int(mask.sum()) for name, mask in wrong.items()}
    return Finding(not any(found.values()), found | {"ticks": len(rows)})


def no_long_silence(rows: "pa.Table", _start: datetime, _end: datetime) -> Finding:
    """Between the first tick of a day and its last there is none for at most four hours."""
    times = rows["event_time_ns"].to_numpy()
    gaps = np.diff(times) / 1e9 if len(times) > 1 else np.zeros(1)
    longest = timedelta(seconds=float(gaps.max()))
    after = np.datetime64(int(times[gaps.argmax()]), "ns") if len(times) else "no tick"
    return Finding(
        longest <= LONGEST_SILENCE,
        {"longest": str(longest), "after": str(after), "allowed": str(LONGEST_SILENCE)},
    )


def spread_is_small(rows: "pa.Table", _start: datetime, _end: datetime) -> Finding:
    """The median spread between bid and ask is at most one percent of the price."""
    spread = rows["spread"].to_numpy().astype(float) / rows["close"].to_numpy()
    known = spread[np.isfinite(spread)]
    if not len(known):
        return Finding(True, {"note": "no quotes"})
    found = float(np.median(known))
    return Finding(found <= LARGEST_SPREAD, {"median_spread": found, "allowed": LARGEST_SPREAD})


def bars_are_consistent(rows: "pa.Table", _start: datetime, _end: datetime) -> Finding:
    """Open and close lie between low and high, and every bar has a tick."""
    first, high, low, last, count = (
        rows[name].to_numpy() for name in ("open", "high", "low", "close", "ticks")
    )
    wrong = (low > np.minimum(first, last)) | (high < np.maximum(first, last)) | (count < 1)
    return Finding(not wrong.any(), {"inconsistent_bars": int(wrong.sum()), "bars": len(rows)})


def price_does_not_jump(rows: "pa.Table", _start: datetime, _end: datetime) -> Finding:
    """The price moves by at most ten percent inside a bar and from one bar to the next.

    The bar before the first one of a day is that of the days before.
    """
    returns, deviations = (rows[name].to_numpy() for name in ("return_1", "volatility"))
    known = np.abs(returns[np.isfinite(returns)])  # before the very first bar there is none
    largest = float(np.concatenate([[0.0], known, deviations * DEVIATIONS]).max())
    return Finding(largest <= LARGEST_JUMP, {"largest_move": largest, "allowed": LARGEST_JUMP})


def trade_is_as_usual(rows: "pa.Table", start: datetime, _end: datetime) -> Finding:
    """A day's volume, or number of quotes, is within a factor of ten of the median of four weeks.

    Of volume where it is known; a day without trade passes.
    """
    measure = "ticks" if rows["volume"].null_count else "volume"
    days, number = np.unique(local_days(rows[TIME], TIMEZONE), return_inverse=True)
    traded = np.bincount(number, rows[measure].to_numpy().astype(float))
    recent = _from(days, start)
    if not recent.any() or recent.all():
        return Finding(True, {"note": "no trade, or no days before to compare with"})
    usual = float(np.median(traded[~recent]))
    ratios = traded[recent] / usual
    worst = float(ratios[np.abs(np.log(ratios)).argmax()])
    return Finding(
        1 / USUAL_FACTOR <= worst <= USUAL_FACTOR,
        {f"{measure}_of_usual": worst, f"usual_{measure}": usual, "allowed_factor": USUAL_FACTOR},
    )


def day_ends_as_usual(rows: "pa.Table", start: datetime, _end: datetime) -> Finding:
    """The last bar of a day ends at most four hours before the usual end, the median of four weeks.

    A feed that dies and does not come back leaves no silence between two ticks. A day without trade
    passes.
    """
    days, number = np.unique(local_days(rows[TIME], TIMEZONE), return_inverse=True)
    since_midnight = rows["end_time_utc"].to_numpy() - day_begins(rows[TIME], TIMEZONE)
    seconds = np.zeros(len(days))
    np.maximum.at(seconds, number, since_midnight / np.timedelta64(1, "s"))
    recent = _from(days, start)
    if not recent.any() or recent.all():
        return Finding(True, {"note": "no trade, or no days before to compare with"})
    ended, usual = (timedelta(seconds=float(np.median(seconds[of]))) for of in (recent, ~recent))
    told = {"end": str(ended), "usual": str(usual), "allowed_before": str(LONGEST_SILENCE)}
    return Finding(usual - ended <= LONGEST_SILENCE, told)


def _from(days: np.ndarray, start: datetime) -> np.ndarray:
    """Which of the days begin at a midnight or later, `(n,)` bool."""
    return days >= np.datetime64(day_of(start, TIMEZONE))


def bars_are_fresh(rows: "pa.Table", _start: datetime, end: datetime) -> Finding:
    """There was trade in the days before the latest day ended."""
    latest = rows["end_time_utc"][-1].as_py() if len(rows) else None
    return Finding(
        latest is not None and end - latest <= STALE_AFTER,
        {"latest_bar": str(latest), "end_of_day": str(end), "allowed": str(STALE_AFTER)},
    )


def features_have_not_drifted(rows: "pa.Table", _start: datetime, end: datetime) -> Finding:
    """The latest five days are distributed like those before (population stability index).

    Where they have bars, every feature is known of some of them.
    """
    return no_drift(rows, later(end, -DRIFT_DAYS, TIMEZONE), DRIFT_LIMIT)


def parts_do_not_overlap(windows: Windows) -> Finding:
    """No bar is known to windows of two parts, and each part is before the next."""
    from ml_assets.ml.windows import HORIZON

    gaps = {
        f"bars_between_{earlier}_and_{later}": int(
            getattr(windows, later)[0] - getattr(windows, earlier)[-1] - windows.steps - HORIZON
        )
        for earlier, later in (("train", "validation"), ("validation", "test"))
    }
    return Finding(min(gaps.values()) >= 0, gaps)


def skill_is_believable(evaluation: Evaluation) -> Finding:
    """The skill is no larger than an honest forecast's can be: beyond it, something leaks."""
    if not evaluation.baselines["best_naive"]:
        return Finding(True, {"note": "the best naive forecast never errs"})
    target = "log_return" if "hit_rate" in evaluation.metrics else "volatility"
    found, allowed = evaluation.metrics["skill_best_naive"], BELIEVABLE_SKILL[target]
    return Finding(found <= allowed, {"skill_best_naive": found, "allowed": allowed})


def forecasts_are_finite(forecast: Forecast) -> Finding:
    """Every bar of the day has a finite forecast within its interval."""
    predictions = forecast.predictions
    sound = np.isfinite(predictions).all(axis=1) & (np.diff(predictions, axis=1) >= 0).all(axis=1)
    return Finding(bool(sound.all()), {"sound": int(sound.sum()), "bars": len(predictions)})


RAW, TICKS, BARS = (GROUP, "raw_ticks"), (GROUP, "ticks"), (GROUP, "bars")
FEATURES, EVALUATION = (GROUP, "features"), (GROUP, "evaluation")
WARN = dg.AssetCheckSeverity.WARN
DRIFTING = [
    TIME,
    *("return_1", "bollinger_width_20", "realised_volatility_30", "rsi_14", "volume_zscore_60"),
]

CHECKS = [
    table_check(
        RAW,
        DAYS,
        rows_are_unique,
        columns=["partition_time_utc", "arrival"],
        piece_days=1,
        blocking=True,
    ),
    table_check(
        TICKS,
        DAYS,
        ticks_are_in_order,
        columns=["event_time_ns", "row"],
        piece_days=1,
        blocking=True,
    ),
    table_check(
        TICKS,
        DAYS,
        prices_and_sizes_are_positive,
        columns=["price", "size", "bid", "ask"],
        piece_days=1,
        blocking=True,
    ),
    table_check(
        TICKS, DAYS, no_long_silence, columns=["event_time_ns"], piece_days=1, severity=WARN
    ),
    table_check(
        BARS,
        DAYS,
        bars_are_consistent,
        columns=["open", "high", "low", "close", "ticks"],
        piece_days=7,
        blocking=True,
    ),
    table_check(BARS, DAYS, spread_is_small, columns=["spread", "close"], piece_days=7),
    table_check(
        BARS,
        DAYS,
        trade_is_as_usual,
        columns=[TIME, "volume", "ticks"],
        lookback_days=USUAL_DAYS,
        latest_day=True,
        severity=WARN,
    ),
    table_check(
        BARS,
        DAYS,
        day_ends_as_usual,
        columns=[TIME, "end_time_utc"],
        lookback_days=USUAL_DAYS,
        latest_day=True,
        severity=WARN,
    ),
    table_check(
        BARS,
        DAYS,
        bars_are_fresh,
        columns=["end_time_utc"],
        lookback_days=LOOKBACK_DAYS,
        latest_day=True,
    ),
    table_check(
        FEATURES,
        DAYS,
        price_does_not_jump,
        columns=["return_1", "volatility"],
        piece_days=7,
        severity=WARN,
    ),
    table_check(
        FEATURES,
        DAYS,
        features_have_not_drifted,
        columns=DRIFTING,
        lookback_days=REFERENCE_DAYS + DRIFT_DAYS,
        latest_day=True,
        severity=WARN,
    ),
    property_check(
        (GROUP, "windows"), Windows, parts_do_not_overlap, partitions=DAYS, blocking=True
    ),
    floor_check(EVALUATION, QUALITY, DAYS),
    baseline_check(EVALUATION, QUALITY, DAYS),
    property_check(EVALUATION, Evaluation, skill_is_believable, partitions=DAYS, blocking=True),
    no_regression_check((GROUP, "registered_model"), DAYS),
    property_check((GROUP, "forecast"), Forecast, forecasts_are_finite, partitions=DAYS),
]
