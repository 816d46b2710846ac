"""ResNet-50, trained on ImageNet, taught to name other images.

What it makes of an image is computed once and kept; then only a layer on top of it is trained, in
seconds. With fine-tuning, that layer comes first and the whole network after it, slowly.

Source: K. He and others, "Deep residual learning for image recognition" (2015); the weights are
those of `keras.applications.ResNet50`.
"""

import logging
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from upath import UPath

from ml_assets.cifar10.data import CLASSES, IMAGE_SHAPE
from ml_assets.ml import archive
from ml_assets.ml.augmentation import Augmentation
from ml_assets.ml.classifiers import batches
from ml_assets.ml.errors import DataError

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

WEIGHTS_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
    "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
)
WEIGHTS_HASH = "md5:4d473c1dd8becc155b73f8504c6f6626"
SIDE = 128
"""Pixels a side that an image is enlarged to: a third of the work of the 224 of ImageNet."""
FEATURES = 2_048
_BLOCK = 1_000
_IMAGENET_MEAN = (103.939, 116.779, 123.68)  # of blue, green and red

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeatureBlock:
    """What the trunk makes of some images.

    Attributes:
        features: `(n, 2, 2048)` float16, of each image and of its mirror image.
    """

    features: np.ndarray


def build_trunk(weights: Path | None) -> "keras.Model":
    """ResNet-50 without its last layer; 23,587,712 parameters, none of them trained.

    Args:
        weights: A file as Keras keeps it (`.h5` or `.weights.h5`); None for random weights.

    Returns:
        A model from `(n, 32, 32, 3)` pixels, 0 to 255, to `(n, 2048)` features.

    Raises:
        DataError: The file holds the weights of something else.
    """
    import keras
    from keras import layers, ops

    inputs = layers.Input(IMAGE_SHAPE)
    enlarged = layers.Resizing(SIDE, SIDE)(inputs)
    by_blue = ops.flip(enlarged, axis=3)
    scaled = layers.Normalization(mean=_IMAGENET_MEAN, variance=(1.0, 1.0, 1.0))(by_blue)
    shape = (SIDE, SIDE, 3)
    resnet = keras.applications.ResNet50(
        include_top=False, weights=None, pooling="avg", input_shape=shape
    )
    if weights:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # of weights that the file lacks, Keras only warns
                resnet.load_weights(weights)
        except (ValueError, KeyError, OSError, UserWarning) as error:
            raise DataError(
                f"weights of ResNet-50 without its last layer in {weights}",
                str(error).splitlines()[0],
                "use the file that Keras downloads",
            ) from error
    resnet.trainable = False
    return keras.Model(inputs, resnet(scaled), name="trunk")


def build_head() -> "keras.Model":
    """The layer on top, from `(n, 2048)` features to class probabilities; 20,490 parameters."""
    import keras
    from keras import layers

    inputs = layers.Input((FEATURES,))
    x = layers.Dense(len(CLASSES))(layers.Dropout(0.3)(inputs))
    return keras.Model(inputs, layers.Softmax(dtype="float32")(x), name="head")


def joined(trunk: "keras.Model", head: "keras.Model") -> "keras.Model":
    """The whole network, from pixels to class probabilities."""
    import keras
    from keras import layers

    inputs = layers.Input(IMAGE_SHAPE)
    return keras.Model(inputs, head(trunk(inputs)), name="resnet50_transfer")


def unfreeze(network: "keras.Model") -> None:
    """Let all of a joined network be trained but normalizations, which keep those of ImageNet."""
    from keras import layers

    resnet = network.get_layer("trunk").get_layer("resnet50")
    resnet.trainable = True
    for layer in resnet.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False


def trunk_features(trunk: "keras.Model", images: np.ndarray, cache: UPath) -> np.ndarray:
    """What the trunk makes of images and their mirror images, block by block.

    Args:
        trunk: What `build_trunk` gave.
        images: `(n, 32, 32, 3)` uint8.
        cache: A directory for these images and this trunk; blocks that it holds are not computed.

    Returns:
        `(n, 2, 2048)` float16.

    Raises:
        DataError: The weights give numbers beyond float16.
    """
    found = np.empty((len(images), 2, FEATURES), np.float16)
    started = time.perf_counter()
    for start in range(0, len(images), _BLOCK):
        part = images[start : start + _BLOCK]
        path = cache / f"{start:06}.zip"
        try:
            block = archive.load(FeatureBlock, path)
        except (FileNotFoundError, DataError):
            views = [trunk.predict(batches(view), verbose=0) for view in (part, part[:, :, ::-1])]
            with np.errstate(over="ignore"):
                block = FeatureBlock(np.stack(views, axis=1).astype(np.float16))
            if not np.isfinite(block.features).all():
                raise DataError(
                    "features that are numbers below 65,504",
                    "others",
                    "use the weights that Keras downloads",
                ) from None
            archive.save(block, path)
        found[start : start + _BLOCK] = block.features
        done = start + len(part)
        left = (time.perf_counter() - started) / done * (len(images) - done)
        logger.info("features of %d of %d images; %.0f s left", done, len(images), left)
    return found


def remove_all_but(cache: UPath) -> None:
    """Remove what is kept beside a cache: features of other images, weights or code."""
    for other in cache.parent.iterdir() if cache.parent.exists() else ():
        if other.name != cache.name:
            other.fs.delete(other.path, recursive=True)


@dataclass(frozen=True)
class ViewChoice:
    """Features of the image or of its mirror image, as a policy would flip it."""

    policy: Augmentation

    def __call__(
        self, features: "tf.Tensor", rows: "tf.Tensor", epoch: "tf.Tensor", random: "tf.Tensor"
    ) -> "tf.Tensor":
        """One view each of a batch `(n, 2, 2048)`; the other arguments are the policy's."""
        import tensorflow as tf

        flips = self.policy.flips(rows, epoch, random)[:, None]
        return tf.cast(tf.where(flips, features[:, 1], features[:, 0]), tf.float32)
