import numpy as np
import pytest

from ml_assets.ml.errors import DataError
from ml_assets.ml.images import RawImages, split


def raw(labels: list[int]) -> RawImages:
    """Images that carry their row number in their first pixel."""
    images = np.zeros((len(labels), 4, 4), np.uint8)
    images[:, 0, 0] = np.arange(len(labels))
    truth = np.array(labels, np.uint8)
    return RawImages(images, truth, images[:5], truth[:5], "made here", "digest")


def test_the_sets_are_disjoint_and_complete() -> None:
    splits = split(raw([0, 1] * 30), validation_fraction=0.25, seed=0)
    train, validation = splits.train_images[:, 0, 0, 0], splits.validation_images[:, 0, 0, 0]
    assert sorted([*train, *validation]) == list(range(60))
    assert len(validation) == 15


def test_every_class_is_held_out_in_its_share() -> None:
    splits = split(raw([0] * 40 + [1] * 20), validation_fraction=0.25, seed=0)
    assert np.bincount(splits.validation_labels).tolist() == [10, 5]


def test_the_same_seed_holds_out_the_same_images() -> None:
    first, second, other = (
        split(raw([0, 1] * 30), validation_fraction=0.25, seed=seed).validation_images
        for seed in (0, 0, 1)
    )
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_labels_stay_with_their_images() -> None:
    splits = split(raw([row % 3 for row in range(60)]), validation_fraction=0.25, seed=0)
    np.testing.assert_array_equal(splits.train_images[:, 0, 0, 0] % 3, splits.train_labels)


def test_gray_images_get_their_channel() -> None:
    assert split(raw([0, 1] * 30), validation_fraction=0.5, seed=0).test_images.shape == (
        5,
        4,
        4,
        1,
    )


def test_fewer_held_out_than_classes_are_refused() -> None:
    with pytest.raises(DataError, match=r"each of 10 classes; found 3 of 30 training images"):
        split(raw([row % 10 for row in range(30)]), validation_fraction=0.1, seed=0)


def test_a_class_with_a_single_image_cannot_be_split() -> None:
    with pytest.raises(DataError, match="class 1 with 1"):
        split(raw([0] * 10 + [1]), validation_fraction=0.5, seed=0)
