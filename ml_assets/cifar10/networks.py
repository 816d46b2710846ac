"""The architectures that are trained from scratch, and the views that a prediction is made of."""

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ml_assets.cifar10.data import CLASSES, DEVIATION, IMAGE_SHAPE, MEAN

if TYPE_CHECKING:
    import keras

WHITENED_IMAGES = 5_000
"""Images from whose patches the first layer of `fast_resnet` is computed."""
_WHITENING = "whitening"
_EPSILON = 5e-4


def build_cnn(dtype: str) -> "keras.Model":
    """Six convolutions in three pairs and a dense layer; 289,642 parameters.

    Returns:
        A model from `(n, 32, 32, 3)` pixels, 0 to 255, to `(n, 10)` class probabilities.
    """
    return _plain(dtype, widths=(32, 64, 128), repeats=2, name="cnn")


def build_vgg(dtype: str) -> "keras.Model":
    """Twelve convolutions in threes, after VGG; 7,833,546 parameters.

    Source: K. Simonyan and A. Zisserman, "Very deep convolutional networks" (2014), for small
    images and with batch normalization in place of the dense layers.

    Returns:
        A model from `(n, 32, 32, 3)` pixels, 0 to 255, to `(n, 10)` class probabilities.
    """
    return _plain(dtype, widths=(64, 128, 256, 512), repeats=3, name="vgg")


def _plain(dtype: str, *, widths: tuple[int, ...], repeats: int, name: str) -> "keras.Model":
    """Groups of convolutions, each pooled, and the mean over what is left of the image."""
    from keras import layers

    inputs, x = _scaled()
    for width in widths:
        for _ in range(repeats):
            x = _normalized(_convolution(x, width, dtype), dtype)
            x = layers.ReLU(dtype=dtype)(x)
        x = layers.MaxPooling2D(dtype=dtype)(x)
    return _classified(inputs, layers.GlobalAveragePooling2D(dtype=dtype)(x), name)


def build_resnet20(dtype: str) -> "keras.Model":
    """ResNet-20 for CIFAR-10; 274,042 parameters.

    Source: K. He and others, "Deep residual learning for image recognition" (2015), section 4.2,
    with projections where the number of channels changes.

    Returns:
        A model from `(n, 32, 32, 3)` pixels, 0 to 255, to `(n, 10)` class probabilities.
    """
    from keras import layers

    inputs, x = _scaled()
    x = layers.ReLU(dtype=dtype)(_normalized(_convolution(x, 16, dtype), dtype))
    for stage, width in enumerate((16, 32, 64)):
        for block in range(3):
            strides = 2 if stage and not block else 1
            y = _normalized(_convolution(x, width, dtype, strides=strides), dtype)
            y = layers.ReLU(dtype=dtype)(y)
            y = _normalized(_convolution(y, width, dtype), dtype)
            if strides > 1:
                x = _normalized(_convolution(x, width, dtype, size=1, strides=strides), dtype)
            x = layers.ReLU(dtype=dtype)(layers.Add(dtype=dtype)([x, y]))
    return _classified(inputs, layers.GlobalAveragePooling2D(dtype=dtype)(x), "resnet20")


def build_fast_resnet(dtype: str) -> "keras.Model":
    """A network for ten epochs: whitened patches, then six convolutions that begin as identities.

    Source: K. Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" (2024), written anew for
    Keras; 1,973,944 parameters. `prepare` gives it its first weights. On all of CIFAR-10 it reaches
    94.17 % ± 0.25 % (3 seeds) in a median of 27.7 minutes on two cores of an AMD EPYC (Zen 4) that
    were not quiet, 2026-11-26: `python -m benchmarks.cifar10 --data FILE`.

    Returns:
        A model from `(n, 32, 32, 3)` pixels, 0 to 255, to `(n, 10)` class probabilities.
    """
    import keras
    from keras import layers, ops

    normalized = partial(_normalized, dtype=dtype, scale=False, momentum=0.6)
    activated = partial(layers.Activation, "gelu", dtype=dtype)
    uniform = keras.initializers.VarianceScaling(1 / 3, distribution="uniform")
    convolution = partial(_convolution, dtype=dtype, initializer=uniform)
    whitened = partial(layers.Conv2D, 24, 2, use_bias=False, trainable=False, name=_WHITENING)
    # A layer of its own: whether it is trained, Keras saves of a layer as a whole.
    bias = layers.Dense(24, use_bias=False, kernel_initializer="zeros", dtype=dtype)
    inputs, x = _scaled()
    moved = [whitened(dtype=dtype)(x), bias(ops.ones_like(x[:, :1, :1, :1]))]
    x = activated()(layers.Add(dtype=dtype)(moved))
    for width in (64, 256, 256):
        x = layers.MaxPooling2D(dtype=dtype)(convolution(x, width))
        x = activated()(normalized(x))
        x = activated()(normalized(convolution(x, width)))
    x = layers.GlobalMaxPooling2D(dtype=dtype)(x)
    return _classified(inputs, x, "fast_resnet", scale=1 / 256)


BUILDERS = {
    "cnn": build_cnn,
    "vgg": build_vgg,
    "resnet20": build_resnet20,
    "fast_resnet": build_fast_resnet,
}


def _scaled() -> tuple[Any, Any]:
    """The input, images, and the same with mean 0 and deviation 1."""
    from keras import layers

    inputs = layers.Input(IMAGE_SHAPE)
    scaling = layers.Normalization(mean=MEAN, variance=np.square(DEVIATION), dtype="float32")
    return inputs, scaling(inputs)


def _convolution(
    x: Any,
    width: int,
    dtype: str,
    *,
    size: int = 3,
    strides: int = 1,
    initializer: Any = "he_normal",
) -> Any:
    from keras import layers

    return layers.Conv2D(
        *(width, size, strides),
        padding="same",
        use_bias=False,
        kernel_initializer=initializer,
        dtype=dtype,
    )(x)


def _normalized(x: Any, dtype: str, *, scale: bool = True, momentum: float = 0.9) -> Any:
    from keras import layers

    return layers.BatchNormalization(momentum=momentum, scale=scale, dtype=dtype)(x)


def _classified(inputs: Any, x: Any, name: str, *, scale: float = 1.0) -> "keras.Model":
    import keras
    from keras import layers

    if scale == 1:
        x = layers.Dense(len(CLASSES), dtype="float32")(x)
    else:
        unit = keras.initializers.RandomNormal(stddev=1.0)
        x = layers.Dense(len(CLASSES), use_bias=False, kernel_initializer=unit, dtype="float32")(x)
        x = layers.Rescaling(scale, dtype="float32")(x)
    return keras.Model(inputs, layers.Softmax(dtype="float32")(x), name=name)


def prepare(model: "keras.Model", images: np.ndarray) -> None:
    """Give `fast_resnet` its first weights: patches whitened, convolutions that change nothing.

    Args:
        model: What `build_fast_resnet` gave.
        images: `(n, 32, 32, 3)` uint8, the training images.
    """
    from keras import layers

    for layer in model.layers:
        if not isinstance(layer, layers.Conv2D):
            continue
        if layer.name == _WHITENING:
            layer.set_weights([whitening(images[:WHITENED_IMAGES])])
            continue
        [kernel] = layer.get_weights()
        same = min(kernel.shape[2:])
        kernel[..., :same] = 0
        kernel[1, 1, range(same), range(same)] = 1
        layer.set_weights([kernel])


def whitening(images: np.ndarray) -> np.ndarray:
    """Filters `(2, 2, 3, 24)` float32 that make patches uncorrelated, and their negatives.

    Args:
        images: `(n, 32, 32, 3)` uint8.
    """
    scaled = ((images - np.array(MEAN)) / np.array(DEVIATION)).astype(np.float32)
    patches = np.lib.stride_tricks.sliding_window_view(scaled, (2, 2), axis=(1, 2))
    rows = patches.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 12)
    values, vectors = np.linalg.eigh(rows.T @ rows / len(rows))
    filters = (vectors / np.sqrt(values + _EPSILON)).reshape(2, 2, 3, 12)
    return np.concatenate([filters, -filters], axis=3).astype(np.float32)


def with_views(model: "keras.Model", views: str) -> "keras.Model":
    """The same network, whose prediction is the mean of those of several views of an image.

    The mean is that of the logarithms, as of a network's outputs before the softmax.

    Args:
        model: From `(n, 32, 32, 3)` pixels to class probabilities.
        views: `plain`; `mirrored`, with the mirror image; `shifted`, with both also shifted by a
            pixel to either corner.
    """
    import keras
    from keras import layers, ops

    inputs = layers.Input(IMAGE_SHAPE)
    if views == "plain":
        return keras.Model(inputs, model(inputs), name=model.name)
    shown = [inputs]
    if views == "shifted":
        padded = ops.pad(inputs, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="reflect")
        shown += [layers.Cropping2D(((0, 2), (0, 2)))(padded)]
        shown += [layers.Cropping2D(((2, 0), (2, 0)))(padded)]
    by_view = [
        layers.Average()([ops.log(model(view)), ops.log(model(ops.flip(view, axis=2)))])
        for view in shown
    ]
    mean = by_view[0]
    if views == "shifted":
        mean = layers.Average()([mean, layers.Average()(by_view[1:])])
    return keras.Model(inputs, layers.Softmax()(mean), name=model.name)
