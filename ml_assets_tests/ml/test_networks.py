import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from upath import UPath

from ml_assets.ml import archive
from ml_assets.ml.networks import BUILDERS, QUANTILES, pinball
from ml_assets.ml.scaling import StandardScaler

ARCHITECTURES = sorted(BUILDERS)
PARAMETERS = {"lstm": 6_817, "gru": 5_217, "transformer": 19_745, "tft": 143_471}
ROWS = np.random.default_rng(0).normal(3, 2, (5, 60, 20)).astype(np.float32)
INPUTS = StandardScaler.fit(ROWS.reshape(-1, 20))
TARGET = StandardScaler([2e-5], [3e-4])


@dataclass(frozen=True)
class Record:
    model: Any


def build(architecture: str, **changes: Any) -> keras.Model:
    keras.utils.set_random_seed(0)
    sizes: dict[str, Any] = {"units": 32, "dropout": 0.1} | changes
    return BUILDERS[architecture](60, INPUTS, TARGET, **sizes)


def part(model: keras.Model, layer: str) -> np.ndarray:
    """What a layer of the model answers to the rows."""
    return keras.Model(model.input, model.get_layer(layer).output).predict(ROWS, verbose=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_parameters_and_output(architecture: str) -> None:
    model = build(architecture)
    assert model.count_params() == PARAMETERS[architecture]
    forecast = model.predict(ROWS, verbose=0)
    assert forecast.shape == (5, len(QUANTILES) if architecture == "tft" else 1)
    assert forecast.dtype == np.float32
    assert np.isfinite(forecast).all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_saved_predicts_the_same(architecture: str, tmp_path: Path) -> None:
    model = build(architecture)
    model.compile(loss=pinball if architecture == "tft" else "mse", jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    archive.save(Record(model), UPath(tmp_path / "model.zip"))
    found = archive.load(Record, UPath(tmp_path / "model.zip")).model
    np.testing.assert_array_equal(found.predict(ROWS, verbose=0), model.predict(ROWS, verbose=0))
    assert found.count_params() == PARAMETERS[architecture]


PROGRAM = """
import sys, keras, numpy as np
for path in sys.argv[1:]:
    model = keras.saving.load_model(path, compile=False, safe_mode=True)
    np.save(path + ".npy", model.predict(np.load(path + ".rows.npy"), verbose=0))
assert not [name for name in sys.modules if name.startswith("ml_assets")]
"""


def test_keras_alone_can_predict_with_them(tmp_path: Path) -> None:
    paths = {name: str(tmp_path / f"{name}.keras") for name in ARCHITECTURES}
    for name, path in paths.items():
        build(name).save(path)
        np.save(f"{path}.rows.npy", ROWS)
    command = [sys.executable, "-I", "-c", PROGRAM, *paths.values()]
    subprocess.run(command, check=True, capture_output=True)
    for name, path in paths.items():
        expected = build(name).predict(ROWS, verbose=0)
        np.testing.assert_allclose(np.load(f"{path}.npy"), expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_earlier_steps_count_and_other_windows_do_not(architecture: str) -> None:
    model = build(architecture)
    forecast = model.predict(ROWS, verbose=0)
    for step in (50, 59):  # what is longer ago, an untrained LSTM forgets
        changed = ROWS.copy()
        changed[0, step] += 5
        found = model.predict(changed, verbose=0)
        assert not np.array_equal(found[0], forecast[0])
        np.testing.assert_array_equal(found[1:], forecast[1:])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_order_of_the_steps_counts(architecture: str) -> None:
    model = build(architecture)
    forecast, reverse = (model.predict(rows, verbose=0) for rows in (ROWS, ROWS[:, ::-1]))
    assert not np.allclose(forecast, reverse, rtol=1e-4)


def test_rows_are_scaled_as_the_scaler_does_it_and_holes_are_the_mean() -> None:
    model = build("lstm")
    flat = ROWS.reshape(-1, 20)
    expected = INPUTS.transform(flat).reshape(ROWS.shape)
    np.testing.assert_allclose(part(model, "scaled"), expected, atol=1e-5)
    holes, means = ROWS.copy(), ROWS.copy()
    holes[0, 3], holes[1, 4], means[0, 3], means[1, 4] = np.nan, np.inf, INPUTS.mean, INPUTS.mean
    np.testing.assert_allclose(
        model.predict(holes, verbose=0), model.predict(means, verbose=0), rtol=1e-5
    )


@pytest.mark.parametrize("architecture", ["lstm", "gru", "transformer"])
def test_an_untrained_point_forecast_is_close_to_the_mean(architecture: str) -> None:
    forecast = build(architecture).predict(ROWS, verbose=0)
    assert np.abs(forecast - TARGET.mean[0]).max() < 0.3 * TARGET.scale[0]


def test_quantiles_are_in_order_from_the_start() -> None:
    forecast = build("tft").predict(ROWS * 10, verbose=0)
    assert (np.diff(forecast, axis=1) >= 0).all()


def test_the_weights_of_variables_and_of_steps_each_sum_to_one() -> None:
    model = build("tft")
    variables, steps = part(model, "selection"), part(model, "attention")
    assert variables.shape == (5, 60, 20)
    assert steps.shape == (5, 4, 60)
    for weights in (variables, steps):
        assert (weights >= 0).all()
        np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-5)


def test_pinball_loss_by_hand() -> None:
    target = np.array([[1.0], [1.0]], np.float32)
    quantiles = np.array([[0.0, 0.0, 0.0], [2.0, 2.0, 2.0]], np.float32)
    expected = [(0.1 + 0.5 + 0.9) / 3, (0.9 + 0.5 + 0.1) / 3]
    np.testing.assert_allclose(np.array(pinball(target, quantiles)), expected, rtol=1e-6)


def test_the_quantiles_of_the_data_have_the_least_pinball_loss() -> None:
    sample = np.random.default_rng(0).standard_normal((20_000, 1))
    best = np.quantile(sample, QUANTILES)
    rows = [best, best + 0.1, best - 0.1, best * 1.1, best * 0.9]
    losses = [float(np.mean(pinball(sample, np.tile(row, (len(sample), 1))))) for row in rows]
    assert min(losses) == losses[0]
