import numpy as np
import pytest

from ml_assets.ml.augmentation import random_affine
from ml_assets.ml.images import ImageSplits

NOTHING = {"rotation_degrees": 0.0, "translation_pixels": 0.0, "zoom": 0.0, "shear": 0.0}


def warp(images: np.ndarray, seed: int = 0, **strengths: float) -> np.ndarray:
    return np.asarray(random_affine(images, [seed, 0], **NOTHING | strengths))


def test_without_strength_nothing_changes(digits: ImageSplits) -> None:
    np.testing.assert_array_equal(warp(digits.test_images), digits.test_images)


@pytest.mark.parametrize(
    "strength", [{"rotation_degrees": 15}, {"translation_pixels": 2}, {"zoom": 0.2}, {"shear": 0.2}]
)
def test_each_strength_moves_a_little(strength: dict[str, float], digits: ImageSplits) -> None:
    images = digits.test_images
    warped = warp(images, **strength)
    assert warped.shape == images.shape
    assert warped.dtype == np.uint8
    difference = np.abs(warped.astype(float) - images).mean()
    assert 1 < difference < 40


def test_the_seed_decides_everything(digits: ImageSplits) -> None:
    images = digits.test_images
    np.testing.assert_array_equal(warp(images, zoom=0.2), warp(images, zoom=0.2))
    assert not np.array_equal(warp(images, zoom=0.2), warp(images, seed=1, zoom=0.2))


def test_a_shift_is_bounded_and_blank_pixels_move_in() -> None:
    images = np.zeros((200, 20, 30, 1), np.uint8)
    images[:, 10, 15] = 255
    rows, columns = np.nonzero(warp(images, translation_pixels=3).max(axis=0)[..., 0])
    assert set(rows) == set(range(7, 14))
    assert set(columns) == set(range(12, 19))


def test_each_image_is_warped_about_its_own_middle() -> None:
    images = np.zeros((50, 21, 31, 1), np.uint8)
    images[:, 10, 15] = 255
    assert (warp(images, rotation_degrees=45)[:, 10, 15] >= 254).all()
