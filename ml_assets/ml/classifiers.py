"""What every classifier of images does alike: its batches, predictions, evaluation, comparison."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ml_assets.ml.archive import model_from_bytes
from ml_assets.ml.errors import DataError
from ml_assets.ml.evaluation import Evaluation
from ml_assets.ml.images import ImageSplits
from ml_assets.ml.metrics import (
    classification_losses,
    classification_metrics,
    nearest_centroid_accuracy,
)
from ml_assets.ml.training import TrainedModel, without_autotune

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

PREDICTION_BATCH = 500

Augment = Callable[["tf.Tensor", "tf.Tensor", "tf.Tensor", "tf.Tensor"], "tf.Tensor"]
"""Changes a batch: images `(n, height, width, channels)` uint8, their rows `(n,)` in the data set,
the number of the epoch from 0, and two integers that alone decide what is random."""


@dataclass(frozen=True)
class Comparison:
    """A champion and a challenger on the same images, each image once.

    Attributes:
        champion: Model and version; empty if nothing was compared.
        challenger: Model and version.
        images: `(n,)` uint64, the digests of the images.
        days: `(n,)` datetime64[D], ascending: the day on which each was looked at.
        losses: `(n, 2)` float64: the champion's and the challenger's.
    """

    champion: str
    challenger: str
    images: np.ndarray
    days: np.ndarray
    losses: np.ndarray

    @classmethod
    def empty(cls) -> "Comparison":
        """Nothing was compared."""
        return cls("", "", np.empty(0, np.uint64), np.empty(0, "datetime64[D]"), np.empty((0, 2)))

    def extended(self, images: np.ndarray, day: np.datetime64, losses: np.ndarray) -> "Comparison":
        """The same, and `(m,)` more images that were looked at on a day, with losses `(m, 2)`."""
        return replace(
            self,
            images=np.concatenate([self.images, images]),
            days=np.concatenate([self.days, np.full(len(images), day)]),
            losses=np.concatenate([self.losses, losses]),
        )


def image_digests(images: np.ndarray) -> np.ndarray:
    """The first 64 bits of the SHA-256 of each image, `(n,)` uint64."""
    found = [hashlib.sha256(image.tobytes()).digest()[:8] for image in images]
    return np.frombuffer(b"".join(found), np.uint64)


def training_data(
    images: np.ndarray, targets: np.ndarray, batch_size: int, augment: Augment, seed: int
) -> Callable[[int], "tf.data.Dataset"]:
    """The augmented batches of an epoch, by its number; they depend on seed and number alone.

    Args:
        images: `(n, height, width, channels)` uint8.
        targets: `(n, classes)` float32.
        batch_size: Images in a batch; those that fill no batch sit out the epoch.
        augment: Changes the images of a batch.
        seed: Decides the order, and what is random in `augment`.
    """
    import tensorflow as tf

    steps = len(images) // batch_size
    pixels, answers = tf.constant(images), tf.constant(targets)

    def batch(number: "tf.Tensor", rows: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
        random = tf.stack([tf.cast(seed, tf.int64), number])
        changed = augment(tf.gather(pixels, rows), rows, number // steps, random)
        return changed, tf.gather(answers, rows)

    def of_epoch(epoch: int) -> "tf.data.Dataset":
        order = np.random.default_rng((seed, epoch)).permutation(len(images))
        rows = order[: steps * batch_size].reshape(steps, batch_size)
        numbers = np.arange(epoch * steps, (epoch + 1) * steps)
        batches = tf.data.Dataset.from_tensor_slices((numbers, rows)).map(batch).prefetch(4)
        return without_autotune(batches)

    return of_epoch


def batches(arrays: Any) -> "tf.data.Dataset":
    """Arrays of the same length, in batches."""
    import tensorflow as tf

    rows = tf.data.Dataset.from_tensor_slices(arrays)
    return without_autotune(rows.batch(PREDICTION_BATCH))


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """Labels `(n,)` as probabilities `(n, classes)` float32."""
    return np.eye(classes, dtype=np.float32)[labels]


def predict(model: "keras.Model", images: np.ndarray) -> np.ndarray:
    """Class probabilities `(n, classes)` float32 of images `(n, height, width, channels)` uint8."""
    return model.predict(batches(images), verbose=0)


def losses_of(model: bytes, images: ImageSplits) -> np.ndarray:
    """Losses `(n,)` of a model, a `.keras` file, on the test images."""
    probabilities = predict(model_from_bytes(model), images.test_images)
    return classification_losses(images.test_labels, probabilities)


def champion_losses(champion: bytes | None, images: ImageSplits) -> np.ndarray | None:
    """Losses `(n,)` of a champion, a `.keras` file, on the test images; None if there is none."""
    return None if champion is None else losses_of(champion, images)


def evaluate(images: ImageSplits, trained: TrainedModel) -> Evaluation:
    """Metrics on the test set, beside the accuracy of the nearest class mean.

    Raises:
        DataError: The model was trained on other data, whose test set may be different.
    """
    if images.data_digest != trained.data_digest:
        raise DataError(
            f"a model trained on data {images.data_digest}",
            f"one trained on data {trained.data_digest}",
            "materialize the model again",
        )
    probabilities = predict(trained.model, images.test_images)
    baseline = nearest_centroid_accuracy(
        images.train_images, images.train_labels, images.test_images, images.test_labels
    )
    return Evaluation(
        training_id=trained.training_id,
        fingerprint=trained.fingerprint,
        data_digest=images.data_digest,
        metrics=classification_metrics(images.test_labels, probabilities),
        baselines={"nearest_centroid": baseline},
        predictions=probabilities,
        losses=classification_losses(images.test_labels, probabilities),
    )
