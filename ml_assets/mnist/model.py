"""The networks that read digits: architectures and training."""

from functools import partial
from typing import TYPE_CHECKING

from upath import UPath

from ml_assets.ml.augmentation import random_affine
from ml_assets.ml.classifiers import batches, one_hot, training_data
from ml_assets.ml.images import ImageSplits
from ml_assets.ml.training import TrainedModel, fit, one_cycle
from ml_assets.mnist.data import CLASSES, IMAGE_SHAPE

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

SHEAR = 0.1


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
    targets = one_hot(images.train_labels, len(CLASSES))

    def warp(
        digits: "tf.Tensor", _rows: "tf.Tensor", _epoch: "tf.Tensor", random: "tf.Tensor"
    ) -> "tf.Tensor":
        return random_affine(
            digits,
            random,
            rotation_degrees=rotation_degrees,
            translation_pixels=translation_pixels,
            zoom=zoom,
            shear=SHEAR,
        )

    steps = epochs * (len(images.train_labels) // batch_size)
    return fit(
        partial(_compiled, architecture, steps, learning_rate, weight_decay, label_smoothing, seed),
        training_data(images.train_images, targets, batch_size, warp, seed),
        batches((images.validation_images, one_hot(images.validation_labels, len(CLASSES)))),
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
