"""The networks that read digits: architectures, training, prediction."""

from typing import TYPE_CHECKING

import numpy as np
from upath import UPath

from ml_assets.ml.evaluation import Evaluation
from ml_assets.ml.images import ImageSplits
from ml_assets.ml.metrics import (
    classification_losses,
    classification_metrics,
    nearest_centroid_accuracy,
)
from ml_assets.ml.training import TrainedModel, fit

if TYPE_CHECKING:
    import keras


def build_simple() -> "keras.Model":
    """Conv 32 → pool → Conv 64 → pool → Flatten → Dense 64 → Dense 10; 121,930 weights.

    Input `(n, 28, 28, 1)` uint8, output `(n, 10)` class probabilities.
    """
    import keras
    from keras import layers

    return keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ],
        name="simple",
    )


def train(
    images: ImageSplits,
    *,
    architecture: str,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    code_version: str,
    checkpoint: UPath,
) -> TrainedModel:
    import keras
    import tensorflow as tf

    def build():
        keras.utils.set_random_seed(seed)
        m = build_simple()
        m.compile(
            keras.optimizers.Adam(learning_rate),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
        return m

    def data_of_epoch(epoch):
        order = np.random.default_rng((seed, epoch)).permutation(len(images.train_labels))
        return tf.data.Dataset.from_tensor_slices(
            (images.train_images[order], images.train_labels[order])
        ).batch(batch_size)

    return fit(
        build,
        data_of_epoch,
        tf.data.Dataset.from_tensor_slices(
            (images.validation_images, images.validation_labels)
        ).batch(1000),
        parameters=dict(
            architecture=architecture,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
        ),
        data_digest=images.data_digest,
        code_version=code_version,
        checkpoint=checkpoint,
    )


def predict(model: "keras.Model", images: np.ndarray) -> np.ndarray:
    """Class probabilities `(n, 10)` float32 of images `(n, 28, 28, 1)` uint8."""
    return model.predict(images, batch_size=1000, verbose=0)


def evaluate(images: ImageSplits, trained: TrainedModel) -> Evaluation:
    """Metrics on the test set, beside those of the nearest class mean."""
    probabilities = predict(trained.model, images.test_images)
    baseline = nearest_centroid_accuracy(
        images.train_images, images.train_labels, images.test_images, images.test_labels
    )
    return Evaluation(
        training_id=trained.training_id,
        metrics=classification_metrics(images.test_labels, probabilities),
        baselines={"nearest_centroid": baseline},
        predictions=probabilities,
        losses=classification_losses(images.test_labels, probabilities),
    )
