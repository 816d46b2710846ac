import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from upath import UPath

from ml_assets.cifar10.config import AugmentationConfig, TrainingConfig
from ml_assets.cifar10.data import DEVIATION, MEAN
from ml_assets.cifar10.model import train
from ml_assets.cifar10.networks import BUILDERS, prepare, whitening, with_views
from ml_assets.ml import archive
from ml_assets.ml.classifiers import evaluate, predict
from ml_assets.ml.images import ImageSplits
from ml_assets.ml.training import TrainedModel, weights_digest

PARAMETERS = {"cnn": 289_642, "vgg": 7_833_546, "resnet20": 274_042, "fast_resnet": 1_973_944}
LIGHT = ["cnn", "fast_resnet"]
UNCHANGED = AugmentationConfig(flip="none", translation_pixels=0)


def trained(
    images: ImageSplits, path: Path, policy: AugmentationConfig | None = None, **changes: Any
) -> TrainedModel:
    config = {"epochs": 2, "batch_size": 50, "precision": "float32", "views": "plain"} | changes
    return train(
        images,
        (policy or AugmentationConfig()).policy(),
        **TrainingConfig(**config).resolved(),
        pretrained=lambda: Path("unused"),
        code_version="c",
        checkpoint=UPath(path / "checkpoint.zip"),
    )


@pytest.mark.parametrize("architecture", BUILDERS)
def test_parameters_and_output(architecture: str, few_images: ImageSplits) -> None:
    model = BUILDERS[architecture]("float32")
    assert model.count_params() == PARAMETERS[architecture]
    probabilities = predict(model, few_images.test_images)
    assert probabilities.shape == (40, 10)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("architecture", BUILDERS)
def test_one_step_changes_every_weight_that_is_trained(
    architecture: str, few_images: ImageSplits, tmp_path: Path
) -> None:
    after = trained(few_images, tmp_path, architecture=architecture, epochs=1).model
    import keras

    keras.utils.set_random_seed(0)
    before = BUILDERS[architecture]("float32")
    if architecture == "fast_resnet":
        prepare(before, few_images.train_images)
    for old, new in zip(before.trainable_weights, after.trainable_weights, strict=True):
        assert not np.array_equal(old.numpy(), new.numpy()), old.path


@pytest.mark.parametrize("architecture", LIGHT)
def test_eight_samples_are_learned_by_heart(
    architecture: str, few_images: ImageSplits, tmp_path: Path
) -> None:
    eight = dataclasses.replace(
        few_images,
        train_images=few_images.train_images[:8],
        train_labels=few_images.train_labels[:8],
    )
    model = trained(
        eight, tmp_path, UNCHANGED, architecture=architecture, epochs=40, batch_size=8
    ).model
    assert (predict(model, eight.train_images).argmax(axis=1) == eight.train_labels).all()


@pytest.mark.parametrize("views", ["plain", "mirrored", "shifted"])
def test_the_saved_model_predicts_the_same(
    views: str, few_images: ImageSplits, tmp_path: Path
) -> None:
    model = trained(few_images, tmp_path, views=views, epochs=1)
    archive.save(model, UPath(tmp_path / "model.zip"))
    found = archive.load(TrainedModel, UPath(tmp_path / "model.zip"))
    np.testing.assert_array_equal(
        predict(found.model, few_images.test_images), predict(model.model, few_images.test_images)
    )
    assert found.parameters == model.parameters


def test_a_training_taken_up_ends_with_the_same_weights(
    few_images: ImageSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks_off(state: TrainedModel) -> None:
        if state.epoch < 3 and len(state.resumed_after) < state.epoch:
            raise OSError("killed")

    chosen: dict[str, Any] = {"views": "mirrored", "epochs": 3}
    undisturbed = trained(few_images, tmp_path / "a", **chosen)
    with monkeypatch.context() as patch:
        patch.setattr("ml_assets.ml.training._report", breaks_off)
        for _ in range(2):
            with pytest.raises(OSError, match="killed"):
                trained(few_images, tmp_path / "b", **chosen)
    resumed = trained(few_images, tmp_path / "b", **chosen)
    assert resumed.resumed_after == [1, 2]
    assert weights_digest(resumed.model) == weights_digest(undisturbed.model)


def test_the_seed_decides_the_weights(few_images: ImageSplits, tmp_path: Path) -> None:
    first, second, other = (
        weights_digest(trained(few_images, tmp_path / name, epochs=1, seed=seed).model)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first == second != other


def test_the_record_is_configuration_and_augmentation(
    few_images: ImageSplits, tmp_path: Path
) -> None:
    model = trained(few_images, tmp_path, architecture="cnn", seed=7)
    assert set(model.parameters) == (
        set(TrainingConfig().resolved()) | set(AugmentationConfig.model_fields) | {"fill"}
    )
    assert model.parameters["seed"] == 7
    assert model.data_digest == few_images.data_digest


def test_the_evaluation_describes_the_predictions(few_images: ImageSplits, tmp_path: Path) -> None:
    model = trained(few_images, tmp_path, architecture="cnn")
    evaluation = evaluate(few_images, model)
    assert evaluation.training_id == model.training_id
    assert evaluation.predictions.shape == (40, 10)
    assert evaluation.metrics["accuracy"] == pytest.approx(1 - evaluation.losses.mean())


def test_whitened_patches_are_uncorrelated(few_images: ImageSplits) -> None:
    filters = whitening(few_images.train_images)
    assert filters.shape == (2, 2, 3, 24)
    np.testing.assert_array_equal(filters[..., :12], -filters[..., 12:])
    scaled = (few_images.train_images - np.array(MEAN)) / np.array(DEVIATION)
    patches = np.lib.stride_tricks.sliding_window_view(scaled, (2, 2), axis=(1, 2))
    found = np.einsum("nhwcij,ijcf->nhwf", patches, filters[..., :12]).reshape(-1, 12)
    covariance = found.T @ found / len(found)
    variance = covariance.diagonal()
    np.testing.assert_allclose(covariance, np.diag(variance), atol=0.01)
    assert 0.4 < variance.min() <= variance.max() < 1.01  # those that hardly vary stay small


def test_convolutions_begin_as_identities(few_images: ImageSplits) -> None:
    from keras import layers

    model = BUILDERS["fast_resnet"]("float32")
    prepare(model, few_images.train_images)
    last = [layer for layer in model.layers if isinstance(layer, layers.Conv2D)][-1]
    images = np.random.default_rng(0).normal(size=(1, 5, 5, 256)).astype(np.float32)
    np.testing.assert_allclose(np.asarray(last(images)), images, rtol=1e-6)


def test_a_mirror_image_is_given_the_same_answer(few_images: ImageSplits) -> None:
    images = few_images.test_images
    for views in ("mirrored", "shifted"):
        model = with_views(BUILDERS["cnn"]("float32"), views)
        np.testing.assert_allclose(
            predict(model, images[:, :, ::-1]), predict(model, images), atol=0.02
        )
    single = predict(BUILDERS["cnn"]("float32"), images)
    assert single.shape == (40, 10)


def test_bfloat16_answers_in_float32(few_images: ImageSplits) -> None:
    probabilities = predict(BUILDERS["fast_resnet"]("mixed_bfloat16"), few_images.test_images[:4])
    assert probabilities.dtype == np.float32
