from pathlib import Path

import numpy as np
import pytest

from ml_assets.ml import images
from ml_assets.ml.errors import DataError
from ml_assets.mnist import data, features
from ml_assets.resources.datasets import SAMPLES

ARRAYS = {
    "x_train": np.zeros((24, 28, 28), np.uint8),
    "y_train": np.arange(24, dtype=np.uint8) % 2,
    "x_test": np.zeros((5, 28, 28), np.uint8),
    "y_test": np.zeros(5, np.uint8),
}


def load(path: Path) -> object:
    return images.load(path, source="local", sha256="digest")


def test_the_sample_holds_real_digits_of_every_class() -> None:
    raw = images.load(SAMPLES / data.FILE_NAME, source="sample", sha256=data.SAMPLE_SHA256)
    assert raw.train_images.shape == (5_000, 28, 28)
    assert raw.test_images.shape == (1_000, 28, 28)
    # The classes of MNIST are not quite even: "stratified" keeps their shares.
    assert np.bincount(raw.train_labels).tolist() == [
        494, 562, 496, 511, 487, 452, 493, 522, 487, 496,
    ]  # fmt: skip


def test_one_training_image_in_twelve_is_held_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "mnist.npz", **ARRAYS)
    splits = features.prepare(load(tmp_path / "mnist.npz"))
    assert len(splits.train_images) == 22
    assert len(splits.validation_images) == 2


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "mnist.npz", x_train=ARRAYS["x_train"])
    with pytest.raises(DataError, match=r"no item named .y_train.npy. in the archive"):
        load(tmp_path / "mnist.npz")


def test_labels_that_do_not_match_the_images_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "mnist.npz", **ARRAYS | {"y_test": np.zeros(4, np.uint8)})
    with pytest.raises(DataError, match="5 images and 4 labels"):
        load(tmp_path / "mnist.npz")


def test_labels_that_are_no_integers_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "mnist.npz", **ARRAYS | {"y_test": np.zeros(5)})
    with pytest.raises(DataError, match="expected integer labels; found float64"):
        load(tmp_path / "mnist.npz")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut short"])
def test_a_file_that_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "mnist.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"a mnist\.npz with the arrays of Keras"):
        load(tmp_path / "mnist.npz")


def test_a_file_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 1_000_000)
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, **ARRAYS | {"x_train": np.zeros(1_000_000, np.uint8)})
    with pytest.raises(DataError, match="more than 1,000,000 bytes unpacked"):
        load(path)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "mnist.npz", **ARRAYS | {"x_train": np.array([{}], dtype=object)})
    with pytest.raises(DataError, match=r"an array \(1,\) of object"):
        load(tmp_path / "mnist.npz")
