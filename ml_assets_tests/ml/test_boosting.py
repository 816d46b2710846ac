import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from upath import UPath

from ml_assets.ml import archive
from ml_assets.ml.boosting import TrainedForecaster, boost, boosters_digest, fit
from ml_assets.ml.errors import DataError

NAMES = ["first", "second"]
RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(size=(600, 2)).astype(np.float32)
TARGET = FEATURES[:, 0] + RANDOM.normal(scale=0.5, size=600)
HELD_OUT = np.arange(600) >= 450
SMALL = {"objective": "l2", "metric": "l1", "min_child_samples": 10, "num_leaves": 8}


def fitted(target: np.ndarray = TARGET, **changes: Any) -> TrainedForecaster:
    chosen: dict[str, Any] = {
        "names": NAMES,
        "boosting": SMALL,
        "interval": 0.8,
        "max_rounds": 60,
        "patience": 10,
        "seed": 0,
        "parameters": {"interval": 0.8},
        "data_digest": "d",
        "code_version": "c",
    }
    return fit(FEATURES, target, ~HELD_OUT, HELD_OUT, **chosen | changes)


def test_eight_samples_are_learned_by_heart() -> None:
    features = np.arange(16, dtype=np.float32).reshape(8, 2)
    target = np.array([3.0, 1, 4, 1, 5, 9, 2, 6])
    everything = np.ones(8, bool)
    parameters = {"objective": "l2", "metric": "l1", "seed": 0, "learning_rate": 0.3}
    parameters |= {"min_child_samples": 1, "min_data_in_bin": 1, "num_leaves": 8}
    booster, losses = boost(
        features, target, everything, everything, NAMES, parameters, 200, patience=200
    )
    np.testing.assert_allclose(booster.predict(features), target, atol=0.01)
    assert losses["l1"][-1] < 0.01 < losses["l1"][0]


def test_training_stops_when_the_held_out_rows_are_forecast_no_better() -> None:
    parameters = SMALL | {"seed": 0, "learning_rate": 0.3}
    booster, losses = boost(FEATURES, TARGET, ~HELD_OUT, HELD_OUT, NAMES, parameters, 500, 10)
    assert len(losses["l1"]) == booster.best_iteration + 10 < 500
    assert booster.best_iteration == np.argmin(losses["l1"]) + 1


def test_the_rounds_found_are_trained_on_all_rows() -> None:
    found = fitted()
    assert found.history["val_l1"].index(min(found.history["val_l1"])) + 1 == (
        found.point.num_trees()
    )
    other = np.where(HELD_OUT, TARGET + 0.01, TARGET)
    assert boosters_digest(fitted(other)) != boosters_digest(found)


def test_bounds_never_cross_the_forecast() -> None:
    for interval in (0.01, 0.8, 0.99):
        lower, point, upper = fitted(interval=interval).predict(FEATURES).T
        assert (lower <= point).all()
        assert (point <= upper).all()
    narrow = dataclasses.replace(fitted(), margin=-5.0)
    lower, point, upper = narrow.predict(FEATURES).T
    np.testing.assert_array_equal(lower, point)
    np.testing.assert_array_equal(upper, point)


def test_the_forecast_is_that_of_the_point_booster() -> None:
    found = fitted()
    np.testing.assert_array_equal(found.predict(FEATURES)[:, 1], found.point.predict(FEATURES))
    assert found.predict(FEATURES[:0]).shape == (0, 3)


@pytest.mark.parametrize("interval", [0.5, 0.8, 0.95])
def test_the_interval_is_widened_until_it_covers_what_it_claims(interval: float) -> None:
    """The held-out rows are far noisier than those that the quantiles are trained on."""
    random = np.random.default_rng(1)
    wild = np.where(HELD_OUT, TARGET + random.normal(scale=4, size=600), TARGET)
    parameters = SMALL | {"seed": 0}
    bounds = []
    for alpha in ((1 - interval) / 2, (1 + interval) / 2):
        quantile = {"objective": "quantile", "alpha": alpha, "metric": "quantile"}
        booster, _ = boost(
            FEATURES, wild, ~HELD_OUT, HELD_OUT, NAMES, parameters | quantile, 60, 10
        )
        bounds.append(booster.predict(FEATURES[HELD_OUT]))
    margin = fitted(wild, interval=interval).margin
    assert margin > 0
    covered = (bounds[0] - margin <= wild[HELD_OUT]) & (wild[HELD_OUT] <= bounds[1] + margin)
    assert covered.mean() == pytest.approx(interval, abs=1 / 150)


def test_an_interval_that_is_too_wide_is_narrowed() -> None:
    calm = np.where(HELD_OUT, FEATURES[:, 0], TARGET)
    assert fitted(calm).margin < 0


def test_the_seed_decides_the_boosters() -> None:
    sampled = SMALL | {"bagging_fraction": 0.5}
    first, second, other = (
        boosters_digest(fitted(boosting=sampled, seed=seed)) for seed in (0, 0, 1)
    )
    assert first == second != other


def test_the_digest_is_of_all_boosters_and_the_margin_and_nothing_else() -> None:
    found = fitted()
    changes: list[dict[str, Any]] = [
        {"point": found.lower},
        {"upper": found.lower},
        {"margin": np.nextafter(found.margin, 1)},
    ]
    digests = {boosters_digest(dataclasses.replace(found, **change)) for change in changes}
    assert len(digests | {boosters_digest(found)}) == 4
    assert boosters_digest(dataclasses.replace(found, training_id="x")) == boosters_digest(found)


def test_costs_have_their_units() -> None:
    costs = fitted().costs
    assert set(costs) == {"train_wall_seconds", "train_cpu_seconds", "peak_memory_mb"}
    assert all(cost > 0 for cost in costs.values())


def test_the_saved_forecaster_predicts_the_same(tmp_path: Path) -> None:
    found = fitted()
    archive.save(found, UPath(tmp_path / "model.zip"))
    loaded = archive.load(TrainedForecaster, UPath(tmp_path / "model.zip"))
    rows = np.vstack([FEATURES, [[np.nan, 0], [np.nan, np.nan]]]).astype(np.float32)
    np.testing.assert_array_equal(loaded.predict(rows), found.predict(rows))
    assert boosters_digest(loaded) == boosters_digest(found)
    assert loaded.fingerprint == found.fingerprint
    assert loaded.point.feature_name() == NAMES
    plain = [field.name for field in dataclasses.fields(found)][3:]
    assert all(getattr(loaded, name) == getattr(found, name) for name in plain)
    assert archive.to_bytes(loaded) == archive.to_bytes(found)


@pytest.mark.parametrize("member", ["point", "lower", "upper"])
def test_a_forecaster_with_a_changed_byte_is_refused(member: str) -> None:
    found = fitted()
    data = archive.to_bytes(found)
    text = getattr(found, member).model_to_string(num_iteration=-1).encode()
    place = data.index(text) + text.index(b"leaf_value=") + len("leaf_value=") + 3
    digit = b"1" if data[place : place + 1] != b"1" else b"2"
    broken = data[:place] + digit + data[place + 1 :]
    with pytest.raises(DataError, match="materialize its asset again"):
        archive.from_bytes(TrainedForecaster, broken, "model.zip")
