"""Random changes of training images, applied on the fly to whole batches.

Every random number depends on the given seed alone, so that an epoch can be repeated.
"""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf


def random_affine(
    images: "tf.Tensor",
    seed: "tf.Tensor",
    *,
    rotation_degrees: float,
    translation_pixels: float,
    zoom: float,
    shear: float,
) -> "tf.Tensor":
    """Warp each image by an affine map of its own about its centre, bilinearly.

    Args:
        images: `(n, height, width, channels)` uint8 or float.
        seed: `(2,)` integers that alone decide the maps.
        rotation_degrees: Largest rotation, either way.
        translation_pixels: Largest shift, either way along each axis.
        zoom: Largest relative change of size, either way along each axis.
        shear: Largest horizontal shear, either way, in pixels per pixel.

    Returns:
        Images of the same shape and type; what comes from outside is 0.
    """
    import tensorflow as tf

    count, height, width = tf.unstack(tf.shape(images)[:3])
    amounts = tf.random.stateless_uniform((6, count), seed, minval=-1.0, maxval=1.0)
    rotate, widen, heighten, slant, right, down = tf.unstack(amounts)
    angle, slope = rotate * math.radians(rotation_degrees), slant * shear
    scale_x, scale_y = 1.0 + zoom * widen, 1.0 + zoom * heighten
    # Where a pixel comes from: rotation @ shear @ scaling, about the centre, then the shift.
    xx, xy = tf.cos(angle) * scale_x, (tf.cos(angle) * slope - tf.sin(angle)) * scale_y
    yx, yy = tf.sin(angle) * scale_x, (tf.sin(angle) * slope + tf.cos(angle)) * scale_y
    middle_x, middle_y = tf.cast(width - 1, tf.float32) / 2, tf.cast(height - 1, tf.float32) / 2
    shift_x = middle_x - xx * middle_x - xy * middle_y + translation_pixels * right
    shift_y = middle_y - yx * middle_x - yy * middle_y + translation_pixels * down
    zeros = tf.zeros_like(angle)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([xx, xy, shift_x, yx, yy, shift_y, zeros, zeros], axis=1),
        output_shape=tf.stack([height, width]),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
