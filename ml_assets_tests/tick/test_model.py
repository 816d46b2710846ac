import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from upath import UPath

from ml_assets.ml import archive, training
from ml_assets.ml.errors import DataError
from ml_assets.ml.networks import BUILDERS, QUANTILES
from ml_assets.ml.scaling import StandardScaler
from ml_assets.ml.series import BarSeries, autoregressive, random_walk, with_shuffled_targets
from ml_assets.ml.training import TrainedModel, weights_digest
from ml_assets.ml.windows import HORIZON, Windows, windowed
from ml_assets.tick.model import (
    BLOCK,
    block_losses,
    evaluate,
    forecast_of,
    point,
    predict,
    shows_skill,
    train,
)

ARCHITECTURES = sorted(BUILDERS)
TARGETS = ["log_return", "volatility"]
CONFIG = {
    "architecture": "gru",
    "target": "log_return",
    "units": 8,
    "dropout": 0.1,
    "epochs": 2,
    "batch_size": 128,
    "learning_rate": 0.005,
    "weight_decay": 0.01,
    "seed": 0,
}
STEPS = 10


def of(series: BarSeries) -> Windows:
    return windowed(series, steps=STEPS, validation_fraction=0.15, test_fraction=0.25)


SIGNAL = autoregressive(3_000, share=0.5, seed=0)
WALK = random_walk(4_000, seed=0)


@pytest.fixture
def windows() -> Windows:
    return of(SIGNAL)


@pytest.fixture
def trained(tmp_path: Path) -> Callable[..., TrainedModel]:
    def made(windows: Windows, **changes: Any) -> TrainedModel:
        surroundings: dict[str, Any] = {
            "code_version": "c",
            "checkpoint": UPath(tmp_path / "checkpoint.zip"),
        }
        return train(windows, **surroundings | CONFIG | changes)

    return made


@pytest.fixture(scope="module", params=ARCHITECTURES)
def found_signal(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> TrainedModel:
    """Each architecture, trained on a series in which there is something to find."""
    path = UPath(tmp_path_factory.mktemp("signal") / "checkpoint.zip")
    config = CONFIG | {"architecture": request.param, "epochs": 6, "learning_rate": 0.02}
    return train(of(SIGNAL), **config, code_version="c", checkpoint=path)


def hidden_after(row: int) -> Windows:
    """The windows of the signal with nonsense after a row."""
    later = np.arange(len(SIGNAL.price)) > row
    return of(
        dataclasses.replace(
            SIGNAL,
            features=np.where(later[:, np.newaxis], np.float32(1e3), SIGNAL.features),
            log_return=np.where(later, 99.0, SIGNAL.log_return),
            volatility=np.where(later, 99.0, SIGNAL.volatility),
        )
    )


# Training.


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_one_step_changes_every_weight(
    architecture: str, windows: Windows, trained: Callable[..., TrainedModel]
) -> None:
    changes = {"architecture": architecture, "epochs": 1, "batch_size": 4096}
    after = trained(windows, **changes).model
    assert after.optimizer.iterations == 1
    keras.utils.set_random_seed(0)
    wide = StandardScaler([0.0] * 6, [1.0] * 6)
    before = BUILDERS[architecture](10, wide, StandardScaler([0.0], [1.0]), units=8, dropout=0.1)
    for old, new in zip(before.trainable_weights, after.trainable_weights, strict=True):
        # The bias of all keys shifts every score alike: softmax does not see it.
        if "key/bias" not in old.path:
            assert not np.array_equal(old.numpy(), new.numpy()), old.path


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_eight_samples_are_learned_by_heart(
    architecture: str, windows: Windows, trained: Callable[..., TrainedModel]
) -> None:
    eight = windows.train[::100][:8]
    repeated = dataclasses.replace(windows, train=np.tile(eight, 40), validation=eight)
    network = trained(
        repeated,
        architecture=architecture,
        units=16,
        dropout=0.0,
        epochs=10,
        batch_size=8,
        learning_rate=0.02,
        weight_decay=0.0,
    ).model
    truth = windows.log_return[eight + 10]
    error = truth - point(predict(network, windows, eight))
    assert np.sqrt((error**2).mean()) < 0.1 * truth.std()


class Killed(BaseException):
    """Stands for a signal: nothing catches it."""


@pytest.mark.parametrize("architecture", ["lstm", "tft"])
def test_a_killed_training_ends_with_the_same_weights(
    architecture: str,
    windows: Windows,
    trained: Callable[..., TrainedModel],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes = {"architecture": architecture}
    undisturbed = trained(windows, **changes, checkpoint=UPath(tmp_path / "other.zip"))
    save, saved = archive.save, []

    def killed(state: TrainedModel, path: UPath) -> None:
        save(state, path)
        saved.append(state.epoch)
        if saved == [1]:
            raise Killed

    monkeypatch.setattr(training.archive, "save", killed)
    with pytest.raises(Killed):
        trained(windows, **changes)
    resumed = trained(windows, **changes)
    assert resumed.resumed_after == [1]
    assert resumed.history == undisturbed.history
    assert weights_digest(resumed.model) == weights_digest(undisturbed.model)


def test_what_is_saved_predicts_the_same(found_signal: TrainedModel, tmp_path: Path) -> None:
    archive.save(found_signal, UPath(tmp_path / "model.zip"))
    after = archive.load(TrainedModel, UPath(tmp_path / "model.zip"))
    windows = of(SIGNAL)
    expected = predict(found_signal.model, windows, windows.test)
    np.testing.assert_array_equal(predict(after.model, windows, windows.test), expected)
    quantiles = found_signal.parameters["architecture"] == "tft"
    assert expected.shape == (len(windows.test), len(QUANTILES) if quantiles else 1)
    assert (np.diff(expected, axis=1) >= 0).all()


def test_the_seed_decides_the_weights(
    windows: Windows, trained: Callable[..., TrainedModel]
) -> None:
    first, second, other = (
        weights_digest(trained(windows, seed=seed, epochs=1).model) for seed in (0, 0, 1)
    )
    assert first == second != other


def test_the_record_is_the_configuration(
    windows: Windows, trained: Callable[..., TrainedModel]
) -> None:
    found = trained(windows, seed=7)
    assert found.parameters == CONFIG | {
        "seed": 7,
        "warm_start": "none",
        "bar_type": "time 60",
        "steps": STEPS,
        "trained_from": "1970-01-01",
        "trained_until": "1970-01-06",
    }
    assert found.data_digest == windows.data_digest
    surroundings = {"windows", "code_version", "checkpoint", "champion"}
    assert set(inspect.signature(train).parameters) - surroundings == set(CONFIG)


def test_a_warm_start_goes_on_from_the_champion(
    windows: Windows, trained: Callable[..., TrainedModel]
) -> None:
    champion = trained(windows, epochs=8)
    cold = trained(windows, epochs=1, learning_rate=1e-9)
    warm = trained(windows, epochs=1, learning_rate=1e-9, champion=champion.model)
    assert warm.parameters["warm_start"] == weights_digest(champion.model)
    assert warm.fingerprint != cold.fingerprint
    for old, new in zip(champion.model.weights, warm.model.weights, strict=True):
        np.testing.assert_allclose(old.numpy(), new.numpy(), atol=1e-6)
    assert warm.history["val_loss"][0] < cold.history["val_loss"][0]


def test_a_champion_of_another_shape_is_refused(
    windows: Windows, trained: Callable[..., TrainedModel]
) -> None:
    champion = trained(windows, units=4, epochs=1)
    with pytest.raises(DataError, match=r"weights of gru.*train once without a champion"):
        trained(windows, champion=champion.model)


# The split: nothing later than the training windows has any influence.


@pytest.mark.parametrize("target", TARGETS)
def test_later_rows_have_no_influence_on_the_weights_nor_on_the_scalers(
    target: str, windows: Windows, trained: Callable[..., TrainedModel]
) -> None:
    last = windows.train[-1] + STEPS - 1 + HORIZON
    assert last < windows.validation[0]
    found = trained(windows, target=target)
    same = trained(hidden_after(last), target=target, code_version="again")
    other = trained(hidden_after(last - 1), target=target, code_version="other")
    assert weights_digest(found.model) == weights_digest(same.model)
    assert weights_digest(found.model) != weights_digest(other.model)
    for name in ("scaled", "unscaled"):
        layer, again = (m.get_layer(name).get_config() for m in (found.model, same.model))
        assert (layer["scale"], layer["offset"]) == (again["scale"], again["offset"])


def test_test_rows_have_no_influence_on_the_history(
    windows: Windows, trained: Callable[..., TrainedModel]
) -> None:
    last = windows.validation[-1] + STEPS - 1 + HORIZON
    assert last < windows.test[0]
    found = trained(windows)
    same = trained(hidden_after(last), code_version="again")
    other = trained(hidden_after(last - 1), code_version="other")
    assert found.history == same.history != other.history


def test_the_scalers_are_fitted_on_the_rows_of_the_training_windows(
    windows: Windows, trained: Callable[..., TrainedModel]
) -> None:
    seen = sorted({row for start in windows.train for row in range(start, start + 10)})
    expected = StandardScaler.fit(windows.features[seen])
    layer = trained(windows, epochs=1).model.get_layer("scaled").get_config()
    np.testing.assert_allclose(1 / np.array(layer["scale"]), expected.scale)
    np.testing.assert_allclose(
        -np.array(layer["offset"]) / layer["scale"], expected.mean, atol=1e-12
    )


# The evaluation.


def test_the_evaluation_describes_the_predictions(found_signal: TrainedModel) -> None:
    series, made = of(SIGNAL), found_signal
    found = evaluate(series, made)
    windows = series.test
    truth = series.log_return[windows + 10] * 1e4
    forecast = point(found.predictions) * 1e4
    assert found.training_id == made.training_id
    assert found.fingerprint == made.fingerprint
    assert found.metrics["mse_bp2"] == pytest.approx(((truth - forecast) ** 2).mean())
    assert found.metrics["mae_bp"] == pytest.approx(np.abs(truth - forecast).mean())
    assert found.metrics["rmse_bp"] == pytest.approx(found.metrics["mse_bp2"] ** 0.5)
    assert found.baselines["zero_return"] == pytest.approx((truth**2).mean())
    before = series.log_return[windows + 9] * 1e4
    assert found.baselines["last_return"] == pytest.approx(((truth - before) ** 2).mean())
    assert found.baselines["best_naive"] == found.baselines["zero_return"]
    assert found.metrics["skill_zero_return"] == pytest.approx(
        1 - found.metrics["mse_bp2"] / found.baselines["zero_return"]
    )
    assert found.metrics["hit_rate"] == pytest.approx((truth * forecast > 0).mean())
    assert found.metrics["hit_rate_rows"] == len(windows)
    prices = series.price[windows + 9] * np.exp(forecast / 1e4)
    assert found.metrics["mae_price"] == pytest.approx(
        np.abs(prices - series.price[windows + 10]).mean()
    )
    assert ("interval_coverage" in found.metrics) == (made.parameters["architecture"] == "tft")


def test_the_baselines_of_a_volatility(
    windows: Windows, trained: Callable[..., TrainedModel]
) -> None:
    found = evaluate(windows, trained(windows, target="volatility"))
    truth, last = windows.volatility[windows.test + 10], windows.volatility[windows.test + 9]
    mean = windows.volatility[windows.train + 10].mean()
    variance = weights = 0.0
    averages = []
    for value in windows.volatility[: windows.test[-1] + 10]:
        variance, weights = 0.94 * variance + value**2, 0.94 * weights + 1
        averages.append((variance / weights) ** 0.5)
    expected = {
        "last_volatility": last,
        "mean_volatility": mean,
        "ewma_volatility": np.array(averages)[windows.test + 9],
    }
    for name, forecast in expected.items():
        loss = (((truth - forecast) * 1e4) ** 2).mean()
        assert found.baselines[name] == pytest.approx(loss), name
    assert found.baselines["best_naive"] == min(found.baselines[name] for name in expected)
    assert "hit_rate" not in found.metrics


def test_where_a_naive_forecast_never_errs_its_skill_is_left_out(
    windows: Windows, trained: Callable[..., TrainedModel]
) -> None:
    made = trained(windows, epochs=1)
    returns = windows.log_return.copy()
    returns[windows.test[0] + STEPS - 1 :] = 0
    quiet = dataclasses.replace(windows, log_return=returns)
    found = evaluate(quiet, made)
    assert found.baselines["zero_return"] == found.baselines["best_naive"] == 0
    skills = {name for name in found.metrics if name.startswith("skill")}
    assert skills == {"skill_ridge"}
    day = forecast_of(made.model, quiet, "log_return", quiet.test)
    assert day.metrics["naive_mse_bp2"] == 0
    assert "skill" not in day.metrics
    assert "skill" in forecast_of(made.model, windows, "log_return", windows.test).metrics


def test_losses_are_the_errors_of_blocks_and_the_champion_s_are_on_the_same_rows(
    windows: Windows, trained: Callable[..., TrainedModel]
) -> None:
    made = trained(windows)
    found = evaluate(windows, made)
    rows = len(found.predictions)
    assert found.losses.shape == (rows // BLOCK,)
    sizes = [BLOCK] * (rows // BLOCK - 1) + [rows - BLOCK * (rows // BLOCK - 1)]
    assert np.average(found.losses, weights=sizes) == pytest.approx(found.metrics["mse_bp2"])
    np.testing.assert_array_equal(block_losses(made.model, windows, "log_return"), found.losses)


def test_other_bars_and_other_features_are_refused(
    windows: Windows, trained: Callable[..., TrainedModel]
) -> None:
    made = trained(windows, epochs=1)
    with pytest.raises(DataError, match="a model trained on data"):
        evaluate(of(random_walk(2_000, seed=1)), made)
    fewer = dataclasses.replace(SIGNAL, features=SIGNAL.features[:, :4], names=SIGNAL.names[:4])
    with pytest.raises(DataError, match=r"of windows \(10, 4\).*one of windows \(10, 6\)"):
        predict(made.model, of(fewer), np.arange(3))
    longer = windowed(SIGNAL, steps=20, validation_fraction=0.15, test_fraction=0.25)
    with pytest.raises(DataError, match=r"of windows \(20, 6\)"):
        block_losses(made.model, longer, "log_return")


# What there is to learn is found, and nothing else.


def test_what_is_planted_is_found(found_signal: TrainedModel) -> None:
    found = evaluate(of(SIGNAL), found_signal)
    assert shows_skill(found)
    assert found.metrics["skill_zero_return"] == pytest.approx(0.5, abs=0.12)
    assert found.metrics["hit_rate"] > 0.7


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nothing_is_found_where_targets_are_shuffled(
    architecture: str, trained: Callable[..., TrainedModel]
) -> None:
    nothing = of(with_shuffled_targets(SIGNAL, seed=0))
    found = evaluate(nothing, trained(nothing, architecture=architecture, epochs=3))
    assert not shows_skill(found)
    assert found.metrics["skill_best_naive"] < 0.02


@pytest.mark.parametrize(
    ("architecture", "target"),
    [("gru", "log_return"), ("transformer", "log_return"), ("lstm", "volatility")],
)
def test_nothing_is_found_in_a_random_walk(
    architecture: str, target: str, trained: Callable[..., TrainedModel]
) -> None:
    walk = of(WALK)
    found = evaluate(walk, trained(walk, architecture=architecture, target=target, epochs=4))
    assert not shows_skill(found)
    assert found.metrics["skill_best_naive"] < 0.02


def test_a_leak_is_noticed(trained: Callable[..., TrainedModel]) -> None:
    later = np.append(np.nan_to_num(WALK.log_return)[1:], 0).astype(np.float32)
    features = np.column_stack([WALK.features[:, 1:], later])
    leaking = of(dataclasses.replace(WALK, features=features))
    assert shows_skill(evaluate(leaking, trained(leaking, epochs=4)))
