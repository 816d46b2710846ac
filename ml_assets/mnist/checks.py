"""What must hold of the digits and of the model that reads them."""

import dagster as dg
import numpy as np

from ml_assets.checks import (
    Finding,
    baseline_check,
    floor_check,
    no_regression_check,
    property_check,
)
from ml_assets.ml.images import ImageSplits, RawImages
from ml_assets.mnist.data import CLASSES, IMAGE_SHAPE, SAMPLE_SHA256, SHA256

ACCURACY_FLOOR = 0.95
"""Below it nothing is registered; a plain network reaches it on the bundled sample."""

EVALUATION = ("mnist", "evaluation")


def digest_is_known(raw: RawImages) -> Finding:
    """The file is the published data set or the bundled sample."""
    return Finding(
        raw.sha256 in (SHA256, SAMPLE_SHA256), {"sha256": raw.sha256, "source": raw.source}
    )


def images_are_28_by_28_bytes(raw: RawImages) -> Finding:
    """Every image is 28 × 28 pixels of one byte."""
    images = {"train": raw.train_images, "test": raw.test_images}
    found = {name: f"{array.shape[1:]} {array.dtype}" for name, array in images.items()}
    allowed = f"{IMAGE_SHAPE} uint8"
    return Finding(set(found.values()) == {allowed}, {**found, "allowed": allowed})


def pixels_use_the_range(images: ImageSplits) -> Finding:
    """The pixels reach from near black to near white: the images are neither empty nor scaled."""
    low, high = int(images.train_images.min()), int(images.train_images.max())
    return Finding(low <= 10 and high >= 245, {"min": low, "max": high, "allowed": "0 to 255"})


def labels_are_digits(images: ImageSplits) -> Finding:
    """Every label is one of the ten digits."""
    labels = np.concatenate([images.train_labels, images.validation_labels, images.test_labels])
    low, high = int(labels.min()), int(labels.max())
    return Finding(low >= 0 and high < len(CLASSES), {"min": low, "max": high, "allowed": "0 to 9"})


def every_class_is_present(images: ImageSplits) -> Finding:
    """Each digit has at least one percent of every set."""
    share = min(
        float(np.bincount(labels, minlength=len(CLASSES))[: len(CLASSES)].min() / len(labels))
        for labels in (images.train_labels, images.validation_labels, images.test_labels)
    )
    return Finding(share >= 0.01, {"smallest_share": share, "allowed": 0.01})


CHECKS = [
    property_check(
        ("mnist", "raw_images"), RawImages, digest_is_known, severity=dg.AssetCheckSeverity.WARN
    ),
    property_check(("mnist", "raw_images"), RawImages, images_are_28_by_28_bytes, blocking=True),
    property_check(("mnist", "images"), ImageSplits, pixels_use_the_range, blocking=True),
    property_check(("mnist", "images"), ImageSplits, labels_are_digits, blocking=True),
    property_check(("mnist", "images"), ImageSplits, every_class_is_present, blocking=True),
    floor_check(EVALUATION, "accuracy", ACCURACY_FLOOR),
    baseline_check(EVALUATION, "accuracy", "nearest_centroid"),
    no_regression_check(("mnist", "registered_model")),
]
