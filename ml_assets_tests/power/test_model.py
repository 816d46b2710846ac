import dataclasses
import inspect
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pytest

from ml_assets.ml import boosting
from ml_assets.ml.boosting import TrainedForecaster, boosters_digest
from ml_assets.ml.errors import DataError
from ml_assets.ml.replay import knows
from ml_assets.power import features, model
from ml_assets.power.config import TrainingConfig, TuningConfig
from ml_assets.power.features import TARGET, TIME, Window
from ml_assets.power.model import (
    BOUNDS,
    GAP_DAYS,
    LEAST_TRAINING_DAYS,
    Tuning,
    evaluate,
    next_day,
    review,
    select,
    train,
    tune,
)

BUDGET = {"horizon": "day_ahead", "window_days": 60, "test_days": 7, "validation_days": 4}
BUDGET |= {"folds": 2, "trials": 6, "seconds": 600.0, "seed": 0}
WHERE = {"table": "power.features", "snapshot_id": "1", "start": "a", "end": "b"}
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    monkeypatch.setattr(model, "MAX_ROUNDS", 30)
    monkeypatch.setattr(model, "PATIENCE", 5)


@pytest.fixture(scope="module")
def window(rows: pa.Table) -> Window:
    """Sixty days of the sample."""
    return features.window(rows.slice(24 * 60, 24 * 60), "day_ahead", "UTC")


@pytest.fixture(scope="module")
def tuning(window: Window) -> Tuning:
    return Tuning(
        boosting={"objective": "l1", "learning_rate": 0.1, "num_leaves": 8},
        loss=0.5,
        losses=np.array([0.5]),
        parameters=BUDGET,
        rows=WHERE,
        data_digest=window.digest,
        wall_seconds=1.0,
    )


def trained(window: Window, tuning: Tuning, **changes: Any) -> TrainedForecaster:
    return train(window, tuning, **TrainingConfig().model_dump() | changes, code_version="c")


def searched(window: Window, study: optuna.Study | None = None, **changes: Any) -> Tuning:
    return tune(window, study or new_study(), **BUDGET | changes, rows=WHERE)


def new_study() -> optuna.Study:
    return optuna.create_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=2))


def blocks(window: Window, *sizes: int) -> list[tuple[np.ndarray, ...]]:
    """The days of the training and of the validation rows of each block."""
    return [
        tuple(np.unique(window.days[rows]) for rows in block)
        for block in model._blocks(window, *sizes)
    ]


# The split.


@pytest.mark.parametrize("sizes", [(7, 4, 2), (7, 1, 12), (14, 5, 1)])
def test_parts_follow_each_other_with_a_day_between_them(window: Window, sizes: tuple) -> None:
    test_days, validation_days, folds = sizes
    found = blocks(window, *sizes)
    assert len(found) == folds
    test = np.unique(window.days[window.latest(test_days)])
    assert len(test) == test_days
    one = np.timedelta64(1, "D")
    for train_days, validation in found:
        assert len(validation) == validation_days
        assert len(train_days) >= LEAST_TRAINING_DAYS
        assert validation[0] - train_days[-1] == one * (1 + GAP_DAYS)
        assert train_days[0] == window.days[0]
    assert found[-1][1][-1] + one * (1 + GAP_DAYS) == test[0]
    validated = np.concatenate([validation for _, validation in found])
    assert (np.diff(validated) == one).all()


def test_a_window_that_is_just_long_enough_is_split(window: Window) -> None:
    needed = LEAST_TRAINING_DAYS + GAP_DAYS + 2 * 4 + GAP_DAYS + 7
    for days, enough in ((needed, True), (needed - 1, False)):
        rows = window.latest(days)
        part = dataclasses.replace(window, days=window.days[rows])
        if enough:
            assert len(blocks(part, 7, 4, 2)[0][0]) == LEAST_TRAINING_DAYS
        else:
            with pytest.raises(DataError, match=rf"{needed} days .* found {days} days until 2008-"):
                blocks(part, 7, 4, 2)


def test_a_search_in_too_few_days_says_what_to_do(window: Window) -> None:
    with pytest.raises(DataError, match=r"remedy: .*a range.*or configure fewer test_days"):
        searched(window, test_days=30)


# The search.


class KilledError(Exception):
    pass


def killed_after(blocks: int, boost: Callable[..., Any]) -> Callable[..., Any]:
    """`boost`, but the process dies in the block after so many."""
    done = iter(range(blocks))

    def dying(*arguments: Any) -> Any:
        if next(done, None) is None:
            raise KilledError
        return boost(*arguments)

    return dying


@pytest.mark.parametrize("survived", [0, 1, 7, 22])
def test_an_interrupted_search_finds_the_same(
    window: Window, survived: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = 14  # the first ten are drawn at random, the others are not
    undisturbed = searched(window, trials=trials)
    study, boost = new_study(), boosting.boost
    monkeypatch.setattr(boosting, "boost", killed_after(survived, boost))
    with pytest.raises(KilledError):
        searched(window, study, trials=trials)
    monkeypatch.setattr(boosting, "boost", boost)
    resumed = searched(window, study, trials=trials)
    assert resumed.boosting == undisturbed.boosting
    assert resumed.loss == undisturbed.loss
    np.testing.assert_array_equal(resumed.losses, undisturbed.losses)


def test_a_finished_search_is_not_searched_again(
    window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = new_study()
    first = searched(window, study, trials=2)
    monkeypatch.setattr(boosting, "boost", killed_after(0, boosting.boost))
    assert searched(window, study, trials=2).loss == first.loss
    with pytest.raises(KilledError):
        searched(window, study, trials=3)


def test_the_seed_decides_what_is_tried(window: Window) -> None:
    one, other = (searched(window, trials=1, seed=seed) for seed in (0, 1))
    assert one.boosting != other.boosting


def test_no_trial_begins_after_the_time_is_spent(window: Window) -> None:
    study = new_study()
    assert len(searched(window, study, seconds=0.0).losses) == 1
    spent = study.trials[0].duration.total_seconds()
    again = searched(window, study, seconds=spent / 2)
    assert len(again.losses) == 1
    assert again.wall_seconds == pytest.approx(spent)


def test_the_best_of_the_finished_trials_is_found(window: Window) -> None:
    study = new_study()
    found = searched(window, study)
    assert found.losses.shape == (6,)
    assert found.loss == np.nanmin(found.losses)
    assert found.boosting == study.best_params
    assert found.data_digest == window.digest
    assert found.parameters == BUDGET
    assert found.rows == WHERE


def test_a_pruned_trial_has_no_loss(window: Window) -> None:
    study = optuna.create_study(pruner=PruneEverySecond())
    found = searched(window, study, trials=4)
    assert np.isnan(found.losses).tolist() == [False, True, False, True]
    assert found.loss == np.nanmin(found.losses)


class PruneEverySecond(optuna.pruners.BasePruner):
    def prune(self, _: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return bool(trial.number % 2)


def test_parameters_that_are_enqueued_are_tried_first(window: Window) -> None:
    best = searched(window, trials=2).boosting
    study = new_study()
    study.enqueue_trial(best)
    assert searched(window, study, trials=1).boosting == best


def test_the_search_does_not_look_at_the_test_days(window: Window) -> None:
    hidden = window.latest(7 + GAP_DAYS)
    assert searched(changed(window, hidden), trials=2).loss == searched(window, trials=2).loss
    seen = window.latest(7 + GAP_DAYS + 1)
    assert searched(changed(window, seen), trials=2).loss != searched(window, trials=2).loss


def changed(window: Window, rows: np.ndarray) -> Window:
    """The window with nonsense in some rows, under the old digest."""
    return dataclasses.replace(
        window,
        target=np.where(rows, 99.0, window.target),
        features=np.where(rows[:, np.newaxis], np.float32(-7), window.features),
    )


# The training.


def test_the_configurations_are_the_keyword_parameters() -> None:
    surroundings = {"window", "study", "rows", "tuning", "code_version"}
    for config, function in ((TuningConfig, tune), (TrainingConfig, train)):
        parameters = set(inspect.signature(function).parameters) - surroundings
        assert set(config.model_fields) == parameters


def test_the_record_is_the_configuration_and_what_was_found(window: Window, tuning: Tuning) -> None:
    found = trained(window, tuning, seed=3)
    assert found.parameters == {
        **BUDGET,
        "lightgbm_objective": "l1",
        "lightgbm_learning_rate": 0.1,
        "lightgbm_num_leaves": 8,
        "interval": 0.8,
        "seed": 3,
        "trained_from": str(window.days[0]),
        "trained_until": str(window.days[-1] - 7 - GAP_DAYS),
    }
    assert found.data_digest == window.digest
    assert found.code_version == "c"
    assert found.point.feature_name() == window.names


def test_the_seed_decides_the_boosters(window: Window, tuning: Tuning) -> None:
    sampled = dataclasses.replace(tuning, boosting=tuning.boosting | {"bagging_fraction": 0.5})
    first, second, other = (trained(window, sampled, seed=seed) for seed in (0, 0, 1))
    assert boosters_digest(first) == boosters_digest(second) != boosters_digest(other)
    assert first.fingerprint == second.fingerprint != other.fingerprint
    assert first.training_id != second.training_id


@pytest.mark.parametrize("silent", [1, 5])
def test_days_without_readings_are_none_to_validate_on(
    window: Window, tuning: Tuning, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    fit = model.boosting.fit

    def spied(*arguments: Any, **options: Any) -> TrainedForecaster:
        seen.append([np.unique(kept[rows]) for rows in arguments[2:4]])
        return fit(*arguments, **options)

    monkeypatch.setattr(model.boosting, "fit", spied)
    gap = GAP_DAYS + BUDGET["test_days"]
    there = ~window.latest(gap + silent) | window.latest(gap)
    shorter = dataclasses.replace(
        window,
        times=window.times[there],
        days=window.days[there],
        target=window.target[there],
        features=window.features[there],
        naive={name: values[there] for name, values in window.naive.items()},
    )
    kept = shorter.days[~shorter.latest(gap)]
    trained(shorter, tuning)
    [[first, held_out]] = seen
    assert len(held_out) == BUDGET["validation_days"]
    assert held_out[-1] == np.unique(kept)[-1]
    assert held_out[0] - first[-1] == np.timedelta64(1 + GAP_DAYS, "D")


def test_test_rows_have_no_influence_on_the_boosters(window: Window, tuning: Tuning) -> None:
    digest = boosters_digest(trained(window, tuning))
    hidden = window.latest(BUDGET["test_days"] + GAP_DAYS)
    assert boosters_digest(trained(changed(window, hidden), tuning)) == digest
    seen = window.latest(BUDGET["test_days"] + GAP_DAYS + 1)
    assert boosters_digest(trained(changed(window, seen), tuning)) != digest


def test_another_window_is_refused(window: Window, tuning: Tuning) -> None:
    other = dataclasses.replace(window, digest="other")
    with pytest.raises(DataError, match=f"the digest {window.digest}; found other; remedy"):
        trained(other, tuning)
    with pytest.raises(DataError, match=f"the digest {window.digest}; found other; remedy"):
        evaluate(other, trained(window, tuning))


# The evaluation.


def test_the_evaluation_by_hand(window: Window, tuning: Tuning) -> None:
    forecaster = trained(window, tuning)
    found = evaluate(window, forecaster)
    test = slice(-7 * 24, None)
    true = window.target[test].tolist()
    predicted = forecaster.predict(window.features[test])
    np.testing.assert_array_equal(found.predictions, predicted)
    errors = [abs(row[1] - y) for row, y in zip(predicted.tolist(), true, strict=True)]
    inside = [row[0] <= y <= row[2] for row, y in zip(predicted.tolist(), true, strict=True)]
    mean = sum(true) / len(true)
    squares = sum(error**2 for error in errors)
    mae = sum(errors) / len(errors)
    assert found.metrics["mae"] == pytest.approx(mae)
    assert found.metrics["mse"] == pytest.approx(squares / len(errors))
    assert found.metrics["rmse"] == pytest.approx((squares / len(errors)) ** 0.5)
    assert found.metrics["r2"] == pytest.approx(1 - squares / sum((y - mean) ** 2 for y in true))
    assert found.metrics["interval_coverage"] == sum(inside) / len(inside)
    by_day = [errors[start : start + 24] for start in range(0, len(errors), 24)]
    assert found.losses == pytest.approx([sum(day) / 24 for day in by_day])
    for name, loss in found.baselines.items():
        assert found.metrics[f"skill_{name}"] == pytest.approx(1 - mae / loss)
    assert (found.training_id, found.fingerprint, found.data_digest) == (
        forecaster.training_id,
        forecaster.fingerprint,
        window.digest,
    )


def test_baselines_are_measured_on_the_same_rows(window: Window, tuning: Tuning) -> None:
    found = evaluate(window, trained(window, tuning)).baselines
    by_time = dict(zip(window.times.tolist(), window.target.tolist(), strict=True))
    test = [time for time, day in zip(window.times.tolist(), window.days, strict=True)
            if day > window.days[-1] - np.timedelta64(7, "D")]  # fmt: skip
    naive = {
        "persistence": lambda time: by_time[time.replace(hour=0) - HOUR],
        "seasonal_naive_24h": lambda time: by_time[time - 24 * HOUR],
        "seasonal_naive_168h": lambda time: by_time[time - 168 * HOUR],
    }
    expected = {
        name: sum(abs(forecast(time) - by_time[time]) for time in test) / len(test)
        for name, forecast in naive.items()
    }
    assert {name: found[name] for name in naive} == pytest.approx(expected, rel=1e-5)
    assert found["best_naive"] == min(found[name] for name in naive)
    assert set(found) == {*naive, "best_naive", "random_forest"}


def test_the_forest_is_no_naive_forecast(
    window: Window, tuning: Tuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "_random_forest_mae", lambda *_: 0.001)
    found = evaluate(window, trained(window, tuning)).baselines
    assert found["random_forest"] < found["best_naive"]


def test_what_a_naive_forecast_lacks_is_taken_from_persistence_and_then_from_the_mean(
    window: Window, tuning: Tuning
) -> None:
    forecaster = trained(window, tuning)
    holes = np.arange(len(window.target)) % 2 == 0
    nothing = np.full(len(holes), np.nan)
    naive = {
        "persistence": np.where(holes, np.nan, window.target + 0.5),
        "partly": np.where(holes, window.target + 0.25, np.nan),
        "never": nothing,
    }
    found = evaluate(dataclasses.replace(window, naive=naive), forecaster).baselines
    test = window.latest(7)
    mean = window.target[~test].mean()
    misses = np.where(holes, np.abs(window.target - mean), 0.5)[test].mean()
    assert found["persistence"] == found["never"] == pytest.approx(misses)
    assert found["partly"] == found["best_naive"] == pytest.approx((0.25 + 0.5) / 2)


@pytest.mark.parametrize(
    ("days", "unique_days", "known"),
    [
        (("2026-03-01", "2026-03-28"), None, False),
        (("2026-02-01", "2026-02-28"), None, True),  # the last of them was trained on
        (("2025-12-01", "2025-12-28"), None, True),  # what came after them was trained on
        (("2026-03-01", "2026-03-28"), 90, False),
        (("2026-03-05", "2026-04-01"), 90, True),  # the last one repeats the first day
        (("2026-05-25", "2026-06-21"), 90, True),
        (("2026-05-30", "2026-06-26"), 90, False),  # between one repetition and the next
    ],
)
def test_a_forecaster_knows_what_it_was_trained_on_what_lies_before_and_what_repeats(
    window: Window,
    tuning: Tuning,
    days: tuple[str, str],
    unique_days: int | None,
    known: bool,
) -> None:
    found = trained(window, tuning)
    span = {"trained_from": "2026-01-01", "trained_until": "2026-02-28"}
    found = dataclasses.replace(found, parameters=found.parameters | span)
    first, last = (np.datetime64(day) for day in days)
    assert knows(found.parameters, np.arange(first, last + 1), unique_days) is known


@pytest.mark.parametrize("horizon", features.PREFIXES)
def test_the_forecaster_beats_the_naive_forecasts_of_the_sample(
    rows: pa.Table, tuning: Tuning, horizon: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "MAX_ROUNDS", 100)
    monkeypatch.setattr(model, "PATIENCE", 20)
    monkeypatch.setattr(model, "_random_forest_mae", lambda *_: 1.0)
    window = features.window(rows.slice(24 * 90), horizon, "UTC")
    parameters = BUDGET | {"test_days": 28, "validation_days": 14, "horizon": horizon}
    known = dataclasses.replace(tuning, data_digest=window.digest, parameters=parameters)
    found = evaluate(window, trained(window, known))
    assert found.metrics["skill_persistence"] > 0.1
    assert found.metrics["skill_best_naive"] > 0
    assert 0.6 < found.metrics["interval_coverage"] < 0.95


# The forecast.


def test_features_are_selected_by_name_and_in_order() -> None:
    columns = {"a": np.array([1.0]), "b": np.array([2.0]), "c": np.array([3.0])}
    assert select(columns, ["c", "a"]).tolist() == [[3.0, 1.0]]


def test_features_that_are_missing_are_named() -> None:
    with pytest.raises(DataError, match=r"features b, c,.*without them; remedy: roll the champion"):
        select({"a": np.zeros(1)}, ["b", "a", "c"])


def test_the_forecast_of_a_day_is_that_of_the_forecaster(
    rows: pa.Table, window: Window, tuning: Tuning
) -> None:
    forecaster = trained(window, tuning)
    day = rows.slice(24 * 119, 24)
    shuffled = day.select([day.column_names[0], *reversed(day.column_names[1:])])
    made = next_day(shuffled, forecaster, "7")
    assert made.column_names == [TIME, *BOUNDS, "interval", "model_version"]
    assert made[TIME].equals(day[TIME])
    expected = forecaster.predict(window.features[-24:])
    np.testing.assert_array_equal(np.column_stack([made[name] for name in BOUNDS]), expected)
    assert made["model_version"].to_pylist() == ["7"] * 24


BEGINS = datetime(2008, 5, 1, tzinfo=UTC)


def forecasts(start: datetime, *predictions: tuple[float, float, float]) -> pa.Table:
    columns = dict(zip(BOUNDS, zip(*predictions, strict=True), strict=True))
    times = pa.array([start + number * HOUR for number in range(len(predictions))])
    return pa.table({TIME: times, **columns, "interval": [0.8] * len(predictions)})


def came_true(start: datetime, *values: float) -> pa.Table:
    times = pa.array([start + number * HOUR for number in range(len(values))])
    return pa.table({TIME: times, TARGET: pa.array(values, pa.float64())})


def test_a_forecast_is_reviewed_by_the_hours_that_came_true() -> None:
    earlier = forecasts(
        BEGINS - HOUR, (0, 9, 9), (0, 1, 2), (0, 1, 2), (1, 2, 3), (0, 1, 2), (5, 6, 7)
    )
    actual = came_true(BEGINS - HOUR, 1, 1.5, 2.0, 0.5, np.nan)
    made = forecasts(BEGINS + 24 * HOUR, (1, 2, 3), (4, 5, 6))
    found = review(earlier, actual, made, BEGINS)
    assert found.metrics == {
        "hours_compared": 3,
        "hours_inside": 2,
        "mae_kw": pytest.approx((0.5 + 1.0 + 1.5) / 3),
        "coverage": pytest.approx(2 / 3),
        "claimed_coverage": pytest.approx(0.8),
    }
    assert found.predictions.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_without_an_earlier_forecast_there_is_nothing_to_review() -> None:
    made = forecasts(BEGINS, (1, 2, 3))
    actual = came_true(BEGINS, 1.0)
    for earlier in (made.slice(1), forecasts(BEGINS - HOUR, (1, 2, 3))):
        found = review(earlier, actual, made, BEGINS)
        assert found.metrics == {"hours_compared": 0, "hours_inside": 0}


def test_the_sample_s_days_are_where_the_tests_think(window: Window) -> None:
    assert window.days[0].astype(date) == date(2008, 3, 7)
    assert len(np.unique(window.days)) == 60
