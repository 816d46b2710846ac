import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from upath import UPath

from ml_assets.ml import archive
from ml_assets.ml.classifiers import evaluate, predict
from ml_assets.ml.images import ImageSplits
from ml_assets.ml.training import TrainedModel, weights_digest
from ml_assets.mnist.config import TrainingConfig
from ml_assets.mnist.model import BUILDERS, train

ARCHITECTURES = sorted(BUILDERS)
PARAMETERS = {"simple": 121_930, "fast": 74_058}


def trained(images: ImageSplits, path: Path, **changes: Any) -> TrainedModel:
    config = TrainingConfig().model_dump() | {"epochs": 2, "batch_size": 50} | changes
    return train(images, **config, code_version="c", checkpoint=UPath(path / "checkpoint.zip"))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_parameters_and_output(architecture: str, digits: ImageSplits) -> None:
    model = BUILDERS[architecture]()
    assert model.count_params() == PARAMETERS[architecture]
    probabilities = predict(model, digits.test_images)
    assert probabilities.shape == (100, 10)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_every_architecture_can_be_configured() -> None:
    for architecture in ARCHITECTURES:
        assert TrainingConfig(architecture=architecture).architecture == architecture


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_one_step_changes_every_weight_that_is_trained(
    architecture: str, digits: ImageSplits, tmp_path: Path
) -> None:
    after = trained(digits, tmp_path, architecture=architecture, epochs=1, batch_size=200).model
    import keras

    keras.utils.set_random_seed(0)
    before = BUILDERS[architecture]()
    for old, new in zip(before.trainable_weights, after.trainable_weights, strict=True):
        assert not np.array_equal(old.numpy(), new.numpy()), old.path


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_eight_samples_are_learned_by_heart(
    architecture: str, digits: ImageSplits, tmp_path: Path
) -> None:
    eight = dataclasses.replace(
        digits, train_images=digits.train_images[:8], train_labels=digits.train_labels[:8]
    )
    model = trained(
        eight,
        tmp_path,
        architecture=architecture,
        epochs=60,
        batch_size=8,
        learning_rate=0.005,
        rotation_degrees=0,
        translation_pixels=0,
        zoom=0,
    ).model
    assert (predict(model, eight.train_images).argmax(axis=1) == eight.train_labels).all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_saved_model_predicts_the_same(
    architecture: str, digits: ImageSplits, tmp_path: Path
) -> None:
    model = trained(digits, tmp_path, architecture=architecture)
    archive.save(model, UPath(tmp_path / "model.zip"))
    found = archive.load(TrainedModel, UPath(tmp_path / "model.zip"))
    np.testing.assert_array_equal(
        predict(found.model, digits.test_images), predict(model.model, digits.test_images)
    )
    assert found.parameters == model.parameters


def test_the_seed_decides_the_weights(digits: ImageSplits, tmp_path: Path) -> None:
    first, second, other = (
        weights_digest(trained(digits, tmp_path, seed=seed).model) for seed in (0, 0, 1)
    )
    assert first == second != other


def test_the_record_is_the_configuration(digits: ImageSplits, tmp_path: Path) -> None:
    model = trained(digits, tmp_path, seed=7)
    assert set(model.parameters) == set(TrainingConfig.model_fields)
    assert model.parameters["seed"] == 7
    assert model.data_digest == digits.data_digest


def test_a_small_set_is_one_small_batch(digits: ImageSplits, tmp_path: Path) -> None:
    assert trained(digits, tmp_path, batch_size=4096).epoch == 2


def test_the_evaluation_describes_the_predictions(digits: ImageSplits, tmp_path: Path) -> None:
    model = trained(digits, tmp_path)
    evaluation = evaluate(digits, model)
    assert evaluation.training_id == model.training_id
    assert evaluation.predictions.shape == (100, 10)
    assert evaluation.metrics["accuracy"] == pytest.approx(1 - evaluation.losses.mean())
    assert set(evaluation.baselines) == {"nearest_centroid"}
