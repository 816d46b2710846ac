"""Windows fed to a network: each batch is gathered from the one matrix of rows.

Sixty overlapping steps are never sixty copies: what lies in memory is the matrix and a few
batches. Which windows there are, and how they are split, is decided by `ml_assets.ml.windows`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ml_assets.ml.training import without_autotune

if TYPE_CHECKING:
    import tensorflow as tf

AHEAD = 4


def shuffled(
    rows: np.ndarray,
    targets: np.ndarray,
    starts: np.ndarray,
    *,
    steps: int,
    batch_size: int,
    seed: int,
) -> Callable[[int], "tf.data.Dataset"]:
    """The batches of an epoch, by its number; their order depends on seed and number alone.

    Args:
        rows: `(n, k)` float32, in the order of time.
        targets: `(n,)` float, the target of the window that ends with each row.
        starts: `(m,)` int, first rows of the windows.
        steps: Rows of a window.
        batch_size: Windows in a batch; those that fill none sit out the epoch.
        seed: Decides the order.

    Returns:
        A function from an epoch to batches of `(batch, steps, k)` and `(batch, 1)`, float32.
    """
    windows = _Windows(rows, targets, steps)
    batches = len(starts) // batch_size

    def of_epoch(epoch: int) -> "tf.data.Dataset":
        order = np.random.default_rng((seed, epoch)).permutation(starts)
        return windows.gathered(order[: batches * batch_size], batch_size)

    return of_epoch


def in_order(
    rows: np.ndarray, targets: np.ndarray, starts: np.ndarray, *, steps: int, batch_size: int
) -> "tf.data.Dataset":
    """All windows in the given order, as batches like those of `shuffled`."""
    return _Windows(rows, targets, steps).gathered(starts, batch_size)


class _Windows:
    """The matrix and the targets, held once, from which batches are gathered."""

    def __init__(self, rows: np.ndarray, targets: np.ndarray, steps: int) -> None:
        import tensorflow as tf

        self.rows = tf.constant(rows, tf.float32)
        self.targets = tf.constant(targets[:, np.newaxis], tf.float32)
        self.steps = steps

    def gathered(self, starts: np.ndarray, batch_size: int) -> "tf.data.Dataset":
        import tensorflow as tf

        within = tf.range(self.steps, dtype=tf.int64)

        def batch(first: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
            inputs = tf.gather(self.rows, first[:, tf.newaxis] + within)
            return inputs, tf.gather(self.targets, first + self.steps - 1)

        first = tf.data.Dataset.from_tensor_slices(starts.astype(np.int64))
        return without_autotune(first.batch(batch_size).map(batch).prefetch(AHEAD))
