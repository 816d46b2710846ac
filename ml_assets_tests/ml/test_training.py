import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from upath import UPath

from ml_assets.ml import archive
from ml_assets.ml.training import TrainedModel, _seconds_left, fit, weights_digest

INPUTS = np.linspace(-1, 1, 64, dtype=np.float32).reshape(32, 2)
TARGETS = INPUTS.sum(axis=1, keepdims=True)


class Killed(BaseException):
    """Stands for a signal: nothing catches it."""


def build() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.layers.Input((2,)), keras.layers.Dense(8), keras.layers.Dropout(0.5),
         keras.layers.Dense(1)]
    )  # fmt: skip
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 20)
    model.compile(keras.optimizers.AdamW(schedule), "mse", jit_compile=False)
    return model


def data_of_epoch(epoch: int) -> tf.data.Dataset:
    order = np.random.default_rng((0, epoch)).permutation(len(INPUTS))
    return tf.data.Dataset.from_tensor_slices((INPUTS[order], TARGETS[order])).batch(8)


def killed_in(epoch: int) -> Callable[[int], tf.data.Dataset]:
    def data(number: int) -> tf.data.Dataset:
        if number == epoch:
            raise Killed
        return data_of_epoch(number)

    return data


def train(path: UPath, data: Callable[[int], tf.data.Dataset] = data_of_epoch, **changes: Any):
    identity: dict[str, Any] = {
        "parameters": {"epochs": 4, "seed": 0},
        "data_digest": "d",
        "code_version": "c",
    }
    return fit(build, data, data_of_epoch(0), checkpoint=path, **identity | changes)


@pytest.fixture
def checkpoint(tmp_path: Path) -> UPath:
    return UPath(tmp_path / "model.zip")


def test_every_epoch_is_on_record_and_the_checkpoint_stays_until_it_is_stored(
    checkpoint: UPath,
) -> None:
    trained = train(checkpoint)
    assert trained.epoch == 4
    assert set(trained.history) == {"loss", "val_loss"}
    assert trained.resumed_after == []
    assert trained.wall_seconds > 0
    assert trained.cpu_seconds > 0
    assert trained.peak_memory_mb > 50
    assert archive.load(TrainedModel, checkpoint).epoch == 4


def test_a_training_that_was_never_stored_is_not_repeated(checkpoint: UPath) -> None:
    first, second = train(checkpoint), train(checkpoint)
    assert second.training_id == first.training_id
    assert second.resumed_after == [4]
    assert weights_digest(second.model) == weights_digest(first.model)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_training_killed_in_any_epoch_ends_with_the_same_weights(
    epoch: int, checkpoint: UPath
) -> None:
    undisturbed = train(checkpoint.with_name("other.checkpoint"))
    with pytest.raises(Killed):
        train(checkpoint, killed_in(epoch))
    before = archive.load(TrainedModel, checkpoint)
    resumed = train(checkpoint)
    assert resumed.resumed_after == [epoch]
    assert resumed.training_id == before.training_id != undisturbed.training_id
    assert resumed.history == undisturbed.history
    assert weights_digest(resumed.model) == weights_digest(undisturbed.model)
    assert resumed.wall_seconds > before.wall_seconds


@pytest.mark.parametrize(
    "changed",
    [{"parameters": {"epochs": 5, "seed": 0}}, {"data_digest": "new"}, {"code_version": "new"}],
)
def test_another_training_does_not_take_up_the_checkpoint(
    changed: dict[str, Any], checkpoint: UPath
) -> None:
    with pytest.raises(Killed):
        train(checkpoint, killed_in(2))
    assert train(checkpoint, **changed).resumed_after == []


def test_a_damaged_checkpoint_means_starting_over(
    checkpoint: UPath, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Killed):
        train(checkpoint, killed_in(2))
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert train(checkpoint).resumed_after == []
    assert "the checkpoint is unusable" in caplog.text


def test_a_checkpoint_of_other_code_means_starting_over(checkpoint: UPath) -> None:
    @dataclasses.dataclass(frozen=True)
    class TrainedModel:
        model: keras.Model

    archive.save(TrainedModel(build()), checkpoint)
    assert train(checkpoint).resumed_after == []


def test_each_epoch_is_logged_with_the_time_left(
    checkpoint: UPath, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    train(checkpoint)
    messages = [message for message in caplog.messages if message.startswith("epoch ")]
    assert len(messages) == 4
    assert messages[0].startswith("epoch 1/4: loss ")
    assert messages[-1].endswith("; 0 s left")


def test_a_long_epoch_is_reported_on_with_the_time_left(
    checkpoint: UPath, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml_assets.ml.training.REPORT_SECONDS", 0.0)
    caplog.set_level("INFO")
    train(checkpoint)
    within = [message for message in caplog.messages if ", step " in message]
    assert [message.split(":")[0] for message in within[:4]] == [
        "epoch 1/4, step 1/4",
        "epoch 1/4, step 2/4",
        "epoch 1/4, step 3/4",
        "epoch 2/4, step 1/4",
    ]
    assert all(": loss " in message and message.endswith(" s left") for message in within)


def test_the_time_left_goes_by_the_share_of_epochs() -> None:
    state = TrainedModel(
        build(), "t", {"epochs": 4, "seed": 0}, "d", "c", history={"loss": [1.0]}, wall_seconds=10.0
    )
    assert _seconds_left(state) == 30.0
    assert _seconds_left(state, seconds=5.0, share=0.5) == 25.0
