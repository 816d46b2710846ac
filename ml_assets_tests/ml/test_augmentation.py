import dataclasses

import numpy as np
import pytest

from ml_assets.ml.augmentation import Augmentation, augmented, random_affine
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


POLICY = Augmentation("none", 0, 0.0, 0, [0.0])


def changed(policy: Augmentation, images: np.ndarray, epoch: int = 0, seed: int = 0) -> np.ndarray:
    rows = np.arange(len(images))
    return np.asarray(policy(images, rows, epoch, np.array([seed, epoch], np.int64)))


def test_a_policy_without_strength_changes_nothing(digits: ImageSplits) -> None:
    np.testing.assert_array_equal(changed(POLICY, digits.test_images), digits.test_images)


def test_alternating_flips_show_both_sides_in_any_two_epochs(digits: ImageSplits) -> None:
    images = digits.test_images
    policy = dataclasses.replace(POLICY, flip="alternating")
    first, second, third = (changed(policy, images, epoch) for epoch in range(3))
    np.testing.assert_array_equal(first, third)
    np.testing.assert_array_equal(first, second[:, :, ::-1])
    flipped = (first == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert 0.3 < flipped.mean() < 0.7


def test_random_flips_differ_from_epoch_to_epoch(digits: ImageSplits) -> None:
    policy = dataclasses.replace(POLICY, flip="random")
    first, second = (changed(policy, digits.test_images, epoch) for epoch in range(2))
    same = (first == second).all(axis=(1, 2, 3))
    assert 0.3 < same.mean() < 0.7


def test_a_translation_mirrors_the_border(digits: ImageSplits) -> None:
    images = digits.test_images
    found = changed(dataclasses.replace(POLICY, translation_pixels=2), images)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    crops = [padded[:, y : y + 28, x : x + 28] for y in range(5) for x in range(5)]
    fits = np.array([(found == crop).all(axis=(1, 2, 3)) for crop in crops])
    assert fits.any(axis=0).all()
    assert fits.any(axis=1).sum() > 20


def test_a_square_is_cut_out() -> None:
    images = np.full((200, 20, 30, 3), 200, np.uint8)
    policy = dataclasses.replace(POLICY, cutout_pixels=6, fill=[1.0, 2.0, 3.0])
    found = changed(policy, images)
    out = (found == [1, 2, 3]).all(axis=3)
    assert (out | (found == 200).all(axis=3)).all()
    areas = out.sum(axis=(1, 2))
    assert areas.max() == 36
    assert areas.min() >= 1


def test_the_contact_sheet_has_the_originals_first(digits: ImageSplits) -> None:
    policy = dataclasses.replace(POLICY, flip="alternating")
    sheet = augmented(policy, digits.test_images[:5], 3)
    assert sheet.shape == (20, 28, 28, 1)
    np.testing.assert_array_equal(sheet[:5], digits.test_images[:5])
    np.testing.assert_array_equal(sheet[5:10], changed(policy, digits.test_images[:5]))
