"""What the assets of the image groups tell: counts, shares and pictures of what is in them."""

from typing import Any

import numpy as np

from ml_assets.ml import plots
from ml_assets.ml.evaluation import Evaluation
from ml_assets.ml.images import ImageSplits, RawImages
from ml_assets.ml.metrics import per_class_accuracy
from ml_assets.reporting import picture


def raw_images_metadata(raw: RawImages, classes: list[str]) -> dict[str, Any]:
    """What `raw_images` shows: the first images, their number, where they come from."""
    captions = [classes[label] if label < len(classes) else "?" for label in raw.train_labels[:50]]
    images = raw.train_images
    # Of what is no image there is no picture: the check of shapes says so.
    drawable = images.ndim in {3, 4} and images.shape[3:] in {(), (1,), (3,)}
    sheet = plots.contact_sheet(images[:50], captions) if drawable else None
    return {
        **({"first_images": picture(sheet)} if sheet else {}),
        "train_images": len(raw.train_images),
        "test_images": len(raw.test_images),
        "source": raw.source,
        "sha256": raw.sha256,
    }


def images_metadata(splits: ImageSplits, classes: list[str]) -> dict[str, Any]:
    """What `images` shows: how many there are of each set and class."""
    balance = np.bincount(splits.train_labels, minlength=len(classes))
    return {
        "train_images": len(splits.train_images),
        "validation_images": len(splits.validation_images),
        "test_images": len(splits.test_images),
        "train_images_by_class": dict(zip(classes, balance.tolist(), strict=True)),
        "data_digest": splits.data_digest,
    }


def evaluation_metadata(
    images: ImageSplits, result: Evaluation, classes: list[str]
) -> dict[str, Any]:
    """What `evaluation` shows: metrics, the naive baseline, each class, the worst mistakes."""
    by_class = per_class_accuracy(images.test_labels, result.predictions.argmax(axis=1))
    return {
        **result.metrics,
        **{f"accuracy_of_{name}": value for name, value in result.baselines.items()},
        **{name: picture(png) for name, png in pictures(images, result, classes).items()},
        "accuracy_by_class": {classes[label]: share for label, share in by_class.items()},
        "test_images": len(images.test_images),
    }


def pictures(images: ImageSplits, result: Evaluation, classes: list[str]) -> dict[str, bytes]:
    """The confusion matrix and the worst mistakes on the test set, as PNG."""
    return {
        "confusion_matrix": plots.confusion_matrix(
            images.test_labels, result.predictions.argmax(axis=1), classes
        ),
        "worst_mistakes": plots.worst_mistakes(
            images.test_images, images.test_labels, result.predictions, classes
        ),
    }
