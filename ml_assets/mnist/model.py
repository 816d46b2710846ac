"""The networks that read digits: architectures, training, prediction, evaluation."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from upath import UPath

from ml_assets.ml.augmentation import random_affine
from ml_assets.ml.errors import DataError
from ml_assets.ml.evaluation import Evaluation
from ml_assets.ml.images import ImageSplits
from ml_assets.ml.metrics import (
    classification_losses,
    classification_metrics,
    nearest_centroid_accuracy,
)
from ml_assets.ml.training import TrainedModel, fit, one_cycle, without_autotune
from ml_assets.mnist.data import CLASSES, IMAGE_SHAPE

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

SHEAR = 0.1
PREDICTION_BATCH = 500


def build_simple() -> "keras.Model":
    """Two convolutions and a dense layer; 121,930 parameters.

    Returns:
        A model from `(n, 28, 28, 1)` pixels, 0 to 255, to `(n, 10)` class probabilities.
    """
    import keras
    from keras import layers

    return keras.Sequential(
        [
            layers.Input((*IMAGE_SHAPE, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(len(CLASSES), activation="softmax"),
        ],
        name="simple",
    )


def build_fast() -> "keras.Model":
    """Four convolutions without padding, few channels while the image is large.

    Digits lie inside a blank border, so nothing is lost at the edges: 28 pixels shrink to 24,
    are pooled to 12, shrink to 10 and 8, are pooled to 4, and shrink to 2. The second convolution
    has the largest activation left; normalizing it would cost time and gain nothing.

    Returns:
        A model from `(n, 28, 28, 1)` pixels, 0 to 255, to `(n, 10)` class probabilities.
    """
    import keras
    from keras import layers

    convolution = partial(layers.Conv2D, use_bias=False, kernel_initializer="he_normal")
    normalization = partial(layers.BatchNormalization, momentum=0.9)
    return keras.Sequential(
        [
            layers.Input((*IMAGE_SHAPE, 1)),
            layers.Rescaling(1 / 255),
            convolution(16, 5),
            layers.MaxPooling2D(),
            normalization(),
            layers.ReLU(),
            convolution(48, 3, use_bias=True),
            layers.ReLU(),
            convolution(48, 3),
            layers.MaxPooling2D(),
            normalization(),
            layers.ReLU(),
            convolution(96, 3),
            normalization(),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(len(CLASSES), activation="softmax"),
        ],
        name="fast",
    )


BUILDERS = {"simple": build_simple, "fast": build_fast}


def train(
    images: ImageSplits,
    *,
    architecture: str,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    label_smoothing: float,
    rotation_degrees: float,
    translation_pixels: float,
    zoom: float,
    seed: int,
    code_version: str,
    checkpoint: UPath,
) -> TrainedModel:
    """Train a network on randomly warped digits, with AdamW and a one-cycle learning rate.

    Args:
        images: Trained on the train set, validated on the validation set after every epoch.
        architecture: A key of `BUILDERS`.
        epochs: Passes over the training images.
        batch_size: Images in a step; those that fill no batch sit out the epoch.
        learning_rate: Its peak, after a fifth of the steps; it then falls to zero along a cosine.
        weight_decay: AdamW's decoupled weight decay.
        label_smoothing: Share of each target that is spread over all classes.
        rotation_degrees: Largest rotation of a training image.
        translation_pixels: Largest shift of a training image.
        zoom: Largest relative change of size of a training image.
        seed: Decides initial weights, data order and warps.
        code_version: For the record.
        checkpoint: Where to keep the state after every epoch.
    """
    parameters = dict(locals())  # before anything else is local
    for name in ("images", "code_version", "checkpoint"):
        del parameters[name]
    batch_size = min(batch_size, len(images.train_labels))
    warp = partial(
        random_affine,
        rotation_degrees=rotation_degrees,
        translation_pixels=translation_pixels,
        zoom=zoom,
        shear=SHEAR,
    )
    steps = epochs * (len(images.train_labels) // batch_size)
    return fit(
        partial(_compiled, architecture, steps, learning_rate, weight_decay, label_smoothing, seed),
        _training_data(images, batch_size, warp, seed),
        _batches((images.validation_images, _one_hot(images.validation_labels))),
        parameters=parameters,
        data_digest=images.data_digest,
        code_version=code_version,
        checkpoint=checkpoint,
    )


def _compiled(
    architecture: str,
    steps: int,
    learning_rate: float,
    weight_decay: float,
    label_smoothing: float,
    seed: int,
) -> "keras.Model":
    """An untrained network, ready for `steps` steps of training."""
    import keras

    keras.utils.set_random_seed(seed)
    model = BUILDERS[architecture]()
    model.compile(
        keras.optimizers.AdamW(
            one_cycle(learning_rate, steps), beta_2=0.99, weight_decay=weight_decay
        ),
        keras.losses.CategoricalCrossentropy(label_smoothing=label_smoothing),
        metrics=["accuracy"],
        jit_compile=False,  # on a CPU, XLA's convolutions are slower than oneDNN's
    )
    return model


def _training_data(
    images: ImageSplits, batch_size: int, warp: Callable[..., "tf.Tensor"], seed: int
) -> Callable[[int], "tf.data.Dataset"]:
    """The warped batches of an epoch, by its number; they depend on seed and number alone."""
    import tensorflow as tf

    steps = len(images.train_labels) // batch_size
    pixels, targets = tf.constant(images.train_images), tf.constant(_one_hot(images.train_labels))

    def batch(number: "tf.Tensor", rows: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
        warped = warp(tf.gather(pixels, rows), tf.stack([tf.cast(seed, tf.int64), number]))
        return warped, tf.gather(targets, rows)

    def of_epoch(epoch: int) -> "tf.data.Dataset":
        order = np.random.default_rng((seed, epoch)).permutation(len(images.train_labels))
        rows = order[: steps * batch_size].reshape(steps, batch_size)
        numbers = np.arange(epoch * steps, (epoch + 1) * steps)
        batches = tf.data.Dataset.from_tensor_slices((numbers, rows)).map(batch).prefetch(4)
        return without_autotune(batches)

    return of_epoch


def predict(model: "keras.Model", images: np.ndarray) -> np.ndarray:
    """Class probabilities `(n, 10)` float32 of images `(n, 28, 28, 1)` uint8."""
    return model.predict(_batches(images), verbose=0)


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


def _batches(arrays: Any) -> "tf.data.Dataset":
    """Arrays of the same length, in batches."""
    import tensorflow as tf

    rows = tf.data.Dataset.from_tensor_slices(arrays)
    return without_autotune(rows.batch(PREDICTION_BATCH))


def _one_hot(labels: np.ndarray) -> np.ndarray:
    return np.eye(len(CLASSES), dtype=np.float32)[labels]
