"""What must hold of labelled images and of the model that classifies them, in any group."""

from collections.abc import Collection, Sequence

import dagster as dg
import numpy as np

from ml_assets.checks import (
    Finding,
    baseline_check,
    floor_check,
    no_regression_check,
    property_check,
)
from ml_assets.ml.classifiers import image_digests
from ml_assets.ml.evaluation import Quality
from ml_assets.ml.images import ImageSplits, RawImages


def image_checks(
    group: str,
    *,
    digests: Collection[str],
    shape: tuple[int, ...],
    classes: Sequence[str],
    quality: Quality,
) -> list[dg.AssetChecksDefinition]:
    """The checks of a group of images.

    Args:
        group: The group.
        digests: SHA-256 of the published data set and of the bundled sample.
        shape: Of an image.
        classes: Their names.
        quality: Short of it nothing is registered.
    """

    def digest_is_known(raw: RawImages) -> Finding:
        """The file is the published data set or the bundled sample."""
        return Finding(raw.sha256 in digests, {"sha256": raw.sha256, "source": raw.source})

    def images_are_bytes_of_one_shape(raw: RawImages) -> Finding:
        """Every image has the published height, width and channels, a byte each."""
        images = {"train": raw.train_images, "test": raw.test_images}
        found = {name: f"{array.shape[1:]} {array.dtype}" for name, array in images.items()}
        allowed = f"{shape} uint8"
        return Finding(set(found.values()) == {allowed}, {**found, "allowed": allowed})

    def labels_are_classes(raw: RawImages) -> Finding:
        """Every label is the number of a class."""
        labels = np.concatenate([raw.train_labels, raw.test_labels])
        low, high = int(labels.min()), int(labels.max())
        allowed = f"0 to {len(classes) - 1}"
        return Finding(
            low >= 0 and high < len(classes), {"min": low, "max": high, "allowed": allowed}
        )

    def pixels_use_the_range(images: ImageSplits) -> Finding:
        """Each set reaches from near black to near white: it is neither empty nor scaled."""
        sets = (images.train_images, images.validation_images, images.test_images)
        low, high = max(int(s.min()) for s in sets), min(int(s.max()) for s in sets)
        return Finding(low <= 10 and high >= 245, {"min": low, "max": high, "allowed": "0 to 255"})

    def every_class_is_present(images: ImageSplits) -> Finding:
        """Each class has at least one percent of every set."""
        share = min(
            float(np.bincount(labels, minlength=len(classes))[: len(classes)].min() / len(labels))
            for labels in (images.train_labels, images.validation_labels, images.test_labels)
        )
        return Finding(share >= 0.01, {"smallest_share": share, "allowed": 0.01})

    def test_images_are_unseen(images: ImageSplits) -> Finding:
        """No test image is among those to train or to validate on."""
        seen = np.concatenate(
            [image_digests(images.train_images), image_digests(images.validation_images)]
        )
        found = int(np.isin(image_digests(images.test_images), seen).sum())
        return Finding(found == 0, {"seen": found, "test_images": len(images.test_images)})

    raw_images, splits, evaluation = (
        (group, name) for name in ("raw_images", "images", "evaluation")
    )
    return [
        property_check(raw_images, RawImages, digest_is_known, severity=dg.AssetCheckSeverity.WARN),
        property_check(raw_images, RawImages, images_are_bytes_of_one_shape, blocking=True),
        property_check(raw_images, RawImages, labels_are_classes, blocking=True),
        property_check(splits, ImageSplits, pixels_use_the_range, blocking=True),
        property_check(splits, ImageSplits, every_class_is_present, blocking=True),
        property_check(splits, ImageSplits, test_images_are_unseen, blocking=True),
        floor_check(evaluation, quality),
        baseline_check(evaluation, quality),
        no_regression_check((group, "registered_model")),
    ]
