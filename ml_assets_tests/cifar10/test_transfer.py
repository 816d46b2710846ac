"""ResNet-50 with random weights of the shapes that Keras keeps; no download."""

from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras.src.applications import resnet
from keras.src.legacy.saving import legacy_h5_format
from upath import UPath

from ml_assets.cifar10 import transfer
from ml_assets.cifar10.config import AugmentationConfig, TrainingConfig
from ml_assets.cifar10.model import train
from ml_assets.cifar10.transfer import (
    ViewChoice,
    build_head,
    build_trunk,
    joined,
    remove_all_but,
    trunk_features,
)
from ml_assets.ml import archive
from ml_assets.ml.classifiers import predict
from ml_assets.ml.errors import DataError
from ml_assets.ml.images import ImageSplits
from ml_assets.ml.training import TrainedModel, weights_digest

ALTERNATING = AugmentationConfig().policy()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in the form of the one that Keras downloads."""
    path = tmp_path_factory.mktemp("weights") / "resnet50_notop.h5"
    network = keras.applications.ResNet50(include_top=False, weights=None, pooling="avg")
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, network)
    return path


def trained(images: ImageSplits, directory: Path, weights: Path, **changes: Any) -> TrainedModel:
    config = {"architecture": "resnet50_transfer", "epochs": 2, "views": "plain"} | changes
    return train(
        images,
        ALTERNATING,
        **TrainingConfig(**config).resolved(),
        pretrained=lambda: weights,
        code_version="c",
        checkpoint=UPath(directory / "model.checkpoint"),
    )


def test_the_download_is_the_one_that_keras_makes() -> None:
    assert transfer.WEIGHTS_URL.startswith(resnet.BASE_WEIGHTS_PATH)
    assert f"md5:{resnet.WEIGHTS_HASHES['resnet50'][1]}" == transfer.WEIGHTS_HASH


def test_parameters_and_preprocessing(few_images: ImageSplits, weights: Path) -> None:
    trunk = build_trunk(weights)
    assert trunk.count_params() == 23_587_712
    assert trunk.trainable_weights == []
    assert joined(trunk, build_head()).count_params() == 23_608_202

    images = few_images.test_images[:2]
    plain = keras.applications.ResNet50(
        include_top=False, weights=None, pooling="avg", input_shape=(128, 128, 3)
    )
    plain.load_weights(weights)
    enlarged = np.array(keras.layers.Resizing(128, 128)(images.astype(np.float32)))
    expected = plain.predict(resnet.preprocess_input(enlarged), verbose=0)
    found = trunk.predict(images.astype(np.float32), verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * expected.max())


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    (tmp_path / "page.h5").write_text("<html>")
    other = tmp_path / "other.weights.h5"
    build_head().save_weights(other)
    for path in (tmp_path / "page.h5", other):
        with pytest.raises(DataError, match=r"weights of ResNet-50.*the file that Keras downloads"):
            build_trunk(path)


def test_features_are_computed_once(few_images: ImageSplits, weights: Path, tmp_path: Path) -> None:
    images = few_images.test_images[:4]
    trunk, cache = build_trunk(weights), UPath(tmp_path / "features")
    computed = trunk_features(trunk, images, cache)
    assert computed.shape == (4, 2, 2048)
    np.testing.assert_allclose(
        computed[:, 1], trunk_features(trunk, images[:, :, ::-1], UPath(tmp_path / "other"))[:, 0]
    )

    class Unused:
        def predict(self, *_: Any, **__: Any) -> None:
            raise AssertionError

    np.testing.assert_array_equal(trunk_features(Unused(), images, cache), computed)
    (block,) = cache.iterdir()
    block.write_bytes(block.read_bytes()[:1000])
    np.testing.assert_array_equal(trunk_features(trunk, images, cache), computed)


@pytest.mark.parametrize("base", ["", "memory://"])
def test_features_of_something_else_are_removed(base: str, tmp_path: Path) -> None:
    place = UPath(f"{base}{tmp_path}")
    for name in ("old/train", "new/train"):
        archive.write_atomically(place / name / "000000.zip", b"features")
    remove_all_but(place / "new")
    assert [path.name for path in place.iterdir()] == ["new"]
    assert (place / "new" / "train" / "000000.zip").read_bytes() == b"features"
    remove_all_but(place / "nowhere" / "new")


def test_features_beyond_float16_are_refused(few_images: ImageSplits, tmp_path: Path) -> None:
    class Exploding:
        def predict(self, *_: Any, **__: Any) -> np.ndarray:
            return np.full((2, 2048), 1e6, np.float32)

    with pytest.raises(DataError, match="the weights that Keras downloads"):
        trunk_features(Exploding(), few_images.test_images[:2], UPath(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_view_is_chosen_as_the_policy_flips() -> None:
    features = np.stack([np.zeros((6, 3)), np.ones((6, 3))], axis=1).astype(np.float16)
    rows, random = np.arange(6), np.array([0, 0])
    first, second = (
        np.asarray(ViewChoice(ALTERNATING)(features, rows, epoch, random)) for epoch in (0, 1)
    )
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first + second, 1)
    np.testing.assert_array_equal(first[:, 0], ALTERNATING.flips(rows, 0, random))


def test_the_last_layer_is_trained_and_the_rest_is_not(
    few_images: ImageSplits, weights: Path, tmp_path: Path
) -> None:
    model = trained(few_images, tmp_path, weights)
    assert model.epoch == 2
    assert len(model.parameters["pretrained_sha256"]) == 64
    images = few_images.test_images[:4]
    probabilities = predict(model.model, images)
    assert probabilities.shape == (4, 10)
    trunk = model.model.layers[1].layers[1]
    np.testing.assert_array_equal(trunk.get_weights()[0], build_trunk(weights).get_weights()[0])

    archive.save(model, UPath(tmp_path / "model.zip"))
    found = archive.load(TrainedModel, UPath(tmp_path / "model.zip"))
    np.testing.assert_allclose(predict(found.model, images), probabilities, rtol=1e-5)


def test_with_fine_tuning_all_learns_but_normalizations(
    few_images: ImageSplits, weights: Path, tmp_path: Path
) -> None:
    model = trained(
        few_images, tmp_path, weights, fine_tuning=True, epochs=1, batch_size=8, views="mirrored"
    )
    before = {weight.path: weight.numpy() for weight in build_trunk(weights).weights}
    after = {weight.path: weight.numpy() for weight in model.model.weights}
    for path, value in before.items():
        if "bias" in path:
            continue  # those before a normalization have no effect, and no gradient
        same = np.array_equal(after[path], value)
        assert same == ("_bn/" in path or path.startswith("normalization")), path


def test_a_training_taken_up_ends_with_the_same_weights(
    few_images: ImageSplits, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks_off(state: TrainedModel) -> None:
        if state.epoch == 1:
            raise OSError("killed")

    undisturbed = trained(few_images, tmp_path / "a", weights)
    with monkeypatch.context() as patch:
        patch.setattr("ml_assets.ml.training._report", breaks_off)
        with pytest.raises(OSError, match="killed"):
            trained(few_images, tmp_path / "b", weights)
    resumed = trained(few_images, tmp_path / "b", weights)
    assert resumed.resumed_after == [1]
    assert weights_digest(resumed.model) == weights_digest(undisturbed.model)


def test_fine_tuning_is_for_this_architecture() -> None:
    with pytest.raises(ValueError, match="expected the architecture resnet50_transfer"):
        TrainingConfig(fine_tuning=True)
