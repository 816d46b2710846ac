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
from ml_assets.ml.evaluation import Quality
from ml_assets.ml.images import ImageSplits, RawImages
from ml_assets.mnist.config import GROUP
from ml_assets.mnist.data import CLASSES, IMAGE_SHAPE, SAMPLE_SHA256, SHA256

QUALITY = Quality(metric="accuracy", limit=0.95, baseline="nearest_centroid")
"""Short of it nothing is registered; a plain network reaches it on the bundled sample."""

RAW_IMAGES, IMAGES, EVALUATION = (GROUP, "raw_images"), (GROUP, "images"), (GROUP, "evaluation")


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


def labels_are_digits(raw: RawImages) -> Finding:
    """Every label is one of the ten digits."""
    labels = np.concatenate([raw.train_labels, raw.test_labels])
    low, high = int(labels.min()), int(labels.max())
    return Finding(low >= 0 and high < len(CLASSES), {"min": low, "max": high, "allowed": "0 to 9"})


def pixels_use_the_range(images: ImageSplits) -> Finding:
    """Each set reaches from near black to near white: it is neither empty nor scaled."""
    sets = (images.train_images, images.validation_images, images.test_images)
    low, high = max(int(s.min()) for s in sets), min(int(s.max()) for s in sets)
    return Finding(low <= 10 and high >= 245, {"min": low, "max": high, "allowed": "0 to 255"})


def every_class_is_present(images: ImageSplits) -> Finding:
    """Each digit has at least one percent of every set."""
    share = min(
        float(np.bincount(labels, minlength=len(CLASSES))[: len(CLASSES)].min() / len(labels))
        for labels in (images.train_labels, images.validation_labels, images.test_labels)
    )
    return Finding(share >= 0.01, {"smallest_share": share, "allowed": 0.01})


CHECKS = [
    property_check(RAW_IMAGES, RawImages, digest_is_known, severity=dg.AssetCheckSeverity.WARN),
    property_check(RAW_IMAGES, RawImages, images_are_28_by_28_bytes, blocking=True),
    property_check(RAW_IMAGES, RawImages, labels_are_digits, blocking=True),
    property_check(IMAGES, ImageSplits, pixels_use_the_range, blocking=True),
    property_check(IMAGES, ImageSplits, every_class_is_present, blocking=True),
    floor_check(EVALUATION, QUALITY),
    baseline_check(EVALUATION, QUALITY),
    no_regression_check((GROUP, "registered_model")),
]
