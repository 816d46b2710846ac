"""Each check's property, shown to hold and to be missed; on days without trade it holds."""

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ml_assets.checks import Finding
from ml_assets.ml.evaluation import Evaluation
from ml_assets.ml.series import random_walk
from ml_assets.ml.windows import windowed
from ml_assets.promotion import Registration
from ml_assets.tick import checks
from ml_assets.tick.checks import CHECKS, DRIFTING, QUALITY
from ml_assets.tick.features import compute
from ml_assets.tick.model import Forecast

START, END = (datetime(2025, 3, day, tzinfo=UTC) for day in (10, 11))
MINUTE = 60 * 10**9

Rows = dict[str, np.ndarray]


def times(days: int = 1) -> np.ndarray:
    """The minutes of the latest days until END."""
    last = np.datetime64("2025-03-11", "m")
    return np.arange(last - days * 1440, last).astype("datetime64[us]")


def raw() -> Rows:
    return {
        "partition_time_utc": times().astype("datetime64[D]").astype("datetime64[us]"),
        "arrival": np.arange(1440),
    }


def ticks() -> Rows:
    at = times().astype("datetime64[ns]").astype(np.int64)
    price = np.full(len(at), 100.0)
    nothing = np.full(len(at), np.nan)
    return {
        "event_time_ns": at,
        "row": np.arange(len(at)),
        "price": price,
        "size": price,
        "bid": nothing,
        "ask": nothing,
    }


def bars(days: int = 1) -> Rows:
    at = times(days)
    close = 100 + np.sin(np.arange(len(at)) / 100)
    return {
        "event_time_utc": at,
        "end_time_utc": at + np.timedelta64(60, "s"),
        "open": close,
        "high": close + 0.01,
        "low": close - 0.01,
        "close": close,
        "ticks": np.full(len(at), 5),
        "volume": np.full(len(at), 10.0),
        "spread": np.full(len(at), 0.02),
    }


def moves() -> Rows:
    quiet = np.full(1440, 1e-4)
    return {"return_1": changed({"": quiet}, "", 0, np.nan)[""], "volatility": quiet}


def features() -> Rows:
    at = times(60)
    return {"event_time_utc": at} | {
        name: np.random.default_rng(0).normal(size=len(at)) for name in DRIFTING[1:]
    }


def changed(rows: Rows, name: str, where: Any, value: Any) -> Rows:
    values = rows[name].copy()
    values[where] = value
    return rows | {name: values}


def without(rows: Rows, left_out: slice | np.ndarray) -> Rows:
    return {name: np.delete(values, left_out) for name, values in rows.items()}


def table(rows: Rows) -> pa.Table:
    """As the lakehouse gives it: times in UTC, null where unknown."""
    columns = {}
    for name, values in rows.items():
        kind = pa.timestamp("us", "UTC") if values.dtype.kind == "M" else None
        columns[name] = pa.array(values, kind, from_pandas=True)
    return pa.table(columns)


Case = tuple[Callable[..., Finding], Rows, Rows]
CASES: dict[str, Case] = {
    "a row twice": (checks.rows_are_unique, raw(), changed(raw(), "arrival", 7, 6)),
    "a step back": (
        checks.ticks_are_in_order,
        ticks(),
        changed(ticks(), "event_time_ns", 700, ticks()["event_time_ns"][600]),
    ),
    "rows of one time in another order": (
        checks.ticks_are_in_order,
        changed(ticks(), "event_time_ns", 701, ticks()["event_time_ns"][700]),
        changed(
            changed(ticks(), "event_time_ns", 701, ticks()["event_time_ns"][700]), "row", 701, 3
        ),
    ),
    "a price of nothing": (
        checks.prices_and_sizes_are_positive,
        ticks(),
        changed(ticks(), "price", 3, 0.0),
    ),
    "a price that is none": (
        checks.prices_and_sizes_are_positive,
        ticks(),
        changed(ticks(), "price", 3, np.nan),
    ),
    "a size below zero": (
        checks.prices_and_sizes_are_positive,
        ticks(),
        changed(ticks(), "size", 3, -1.0),
    ),
    "a crossed quote": (
        checks.prices_and_sizes_are_positive,
        ticks() | {"bid": ticks()["price"], "ask": ticks()["price"]},
        ticks() | {"bid": ticks()["price"] + 1, "ask": ticks()["price"]},
    ),
    "five silent hours": (
        checks.no_long_silence,
        without(ticks(), slice(300, 500)),
        without(ticks(), slice(300, 600)),
    ),
    "a wide spread": (
        checks.spread_is_small,
        bars(),
        bars() | {"spread": np.full(1440, 2.0)},
    ),
    "a close above the high": (
        checks.bars_are_consistent,
        bars(),
        changed(bars(), "close", 5, 200.0),
    ),
    "a bar without a tick": (checks.bars_are_consistent, bars(), changed(bars(), "ticks", 5, 0)),
    "a jump from bar to bar": (
        checks.price_does_not_jump,
        moves(),
        changed(moves(), "return_1", 700, -0.11),
    ),
    "a jump inside a bar": (
        checks.price_does_not_jump,
        moves(),
        changed(moves(), "volatility", 5, 0.11 / (4 * np.log(2)) ** 0.5),
    ),
    "twenty times the usual volume": (
        checks.trade_is_as_usual,
        bars(10),
        changed(bars(10), "volume", slice(-1440, None), 200.0),
    ),
    "hardly any quotes": (
        checks.trade_is_as_usual,
        bars(10) | {"volume": np.full(14_400, np.nan)},
        without(bars(10), slice(-1400, None)) | {"volume": np.full(13_000, np.nan)},
    ),
    "a feed that dies five hours before midnight": (
        checks.day_ends_as_usual,
        without(bars(10), slice(-3 * 60, None)),
        without(bars(10), slice(-5 * 60, None)),
    ),
    "a last bar that is no longer than its trade": (
        checks.day_ends_as_usual,
        changed(without(bars(10), slice(-5 * 60, None)), "end_time_utc", -1, times()[-1]),
        without(bars(10), slice(-5 * 60, None)),
    ),
    "no trade for six days": (
        checks.bars_are_fresh,
        bars(10),
        without(bars(10), slice(-6 * 1440, None)),
    ),
    "another distribution": (
        checks.features_have_not_drifted,
        features(),
        changed(features(), DRIFTING[1], slice(-5 * 1440, None), 9.0),
    ),
    "a feature that is unknown throughout": (
        checks.features_have_not_drifted,
        changed(features(), DRIFTING[1], slice(-4 * 1440, None), np.nan),
        changed(features(), DRIFTING[1], slice(-5 * 1440, None), np.nan),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_check_of_a_table_passes_and_fails(name: str) -> None:
    holds, sound, wrong = CASES[name]
    assert holds(table(sound), START, END).passed
    found = holds(table(wrong), START, END)
    assert not found.passed
    assert found.metadata


def test_a_day_without_trade_passes() -> None:
    for holds, sound, _ in CASES.values():
        if holds is not checks.bars_are_fresh:
            nothing = {name: values[:0] for name, values in sound.items()}
            assert holds(table(nothing), START, END).passed, holds.__name__


@pytest.mark.parametrize(("opening", "good"), [(109.0, True), (112.0, False)])
def test_the_first_bar_of_a_day_may_not_be_far_from_the_last_of_the_days_before(
    opening: float, good: bool
) -> None:
    rows = bars(3) | {name: np.full(3 * 1440, 100.0) for name in ("high", "low", "close")}
    for name in ("high", "low", "close"):
        rows = changed(rows, name, slice(-1440, None), opening)
    closed = slice(1440, 2 * 1440)
    known = without(rows | {"bar": np.tile(np.arange(1440), 3)}, closed)
    bar_type = pa.repeat("time 60", len(known["close"]))
    found = compute(table(known).append_column("bar_type", bar_type), START, END)
    assert checks.price_does_not_jump(found, START, END).passed is good


def test_trade_is_counted_by_days_of_the_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "TIMEZONE", "America/New_York")
    start, end = (datetime(2025, 3, day, 4, tzinfo=UTC) for day in (10, 11))
    rows = bars(3) | {"event_time_utc": times(3) + np.timedelta64(4, "h")}
    # Nothing but the hours from 20:00 on, which are of the next day in UTC.
    evening = table(without(rows, np.flatnonzero(np.arange(3 * 1440) % 1440 < 1200)))
    found = checks.trade_is_as_usual(evening, start, end)
    assert found.metadata["volume_of_usual"] == 1
    assert found.metadata["usual_volume"] == 2400


def test_parts_that_overlap_are_noticed() -> None:
    sound = windowed(
        random_walk(3_000, seed=0), steps=10, validation_fraction=0.1, test_fraction=0.2
    )
    assert checks.parts_do_not_overlap(sound).passed
    closer = dataclasses.replace(sound, validation=sound.validation - sound.steps - 5)
    assert not checks.parts_do_not_overlap(closer).passed


def evaluation(skill: float, mse: float = 4.0, **metrics: float) -> Evaluation:
    return Evaluation(
        training_id="t",
        fingerprint="f",
        data_digest="d",
        metrics={"skill_best_naive": skill, "mse_bp2": mse, **metrics},
        baselines={"best_naive": 4.0},
        predictions=np.zeros((1, 1)),
        losses=np.zeros(1),
    )


@pytest.mark.parametrize(("skill", "good"), [(-0.5, True), (0.09, True), (0.11, False)])
def test_a_skill_of_returns_that_is_too_good_is_a_leak(skill: float, good: bool) -> None:
    assert checks.skill_is_believable(evaluation(skill, hit_rate=0.5)).passed is good


@pytest.mark.parametrize(("skill", "good"), [(0.5, True), (0.71, False)])
def test_volatility_may_be_forecast_but_not_that_well(skill: float, good: bool) -> None:
    assert checks.skill_is_believable(evaluation(skill)).passed is good


def test_where_the_best_naive_forecast_never_errs_there_is_no_skill_to_believe() -> None:
    found = dataclasses.replace(evaluation(0.0), metrics={}, baselines={"best_naive": 0.0})
    assert checks.skill_is_believable(found).passed


@pytest.mark.parametrize(("mse", "good"), [(3.0, True), (4.19, True), (4.21, False)])
def test_a_model_may_be_a_little_worse_than_the_naive_one(mse: float, good: bool) -> None:
    assert evaluation(0.0, mse).beats_baseline(QUALITY) is good


def test_a_model_that_errs_by_more_than_a_percent_is_below_the_floor() -> None:
    assert evaluation(0.0, 9_999.0).reaches(QUALITY)
    assert not evaluation(0.0, 10_001.0).reaches(QUALITY)


@pytest.mark.parametrize(
    ("predictions", "good"),
    [
        (np.zeros((0, 1)), True),
        (np.zeros((3, 1)), True),
        (np.array([[1.0, 2.0, 3.0]]), True),
        (np.array([[np.nan]]), False),
        (np.array([[2.0, 1.0, 3.0]]), False),
    ],
)
def test_a_forecast_is_finite_and_within_its_interval(predictions: np.ndarray, good: bool) -> None:
    forecast = Forecast(predictions, np.zeros(len(predictions)), {})
    assert checks.forecasts_are_finite(forecast).passed is good


def test_every_check_is_here() -> None:
    shown = {holds.__name__ for holds, _, _ in CASES.values()}
    shown |= {"parts_do_not_overlap", "skill_is_believable", "forecasts_are_finite"}
    shown |= {"mse_bp2_below_ceiling", "not_worse_than_best_naive"}
    names = {spec.name for check in CHECKS for spec in check.check_specs}
    # A regression is shown by the checks' own tests, with a registration like this.
    assert Registration(False, True, "worse", name="tick_lstm", version="2").regressed
    assert names == shown | {"no_regression_against_champion"}
