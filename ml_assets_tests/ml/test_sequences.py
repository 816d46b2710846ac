import subprocess
import sys

import numpy as np
import pytest

from ml_assets.ml.sequences import in_order, shuffled
from ml_assets.ml.windows import views

ROWS = np.random.default_rng(0).standard_normal((200, 3)).astype(np.float32)
TARGETS = np.arange(200.0)
STARTS = np.flatnonzero(np.arange(190) % 5 != 2)


def gathered(batches) -> tuple[np.ndarray, np.ndarray]:
    inputs, targets = zip(*batches.as_numpy_iterator(), strict=True)
    return np.concatenate(inputs), np.concatenate(targets)


def test_windows_come_in_order_with_the_target_of_their_last_row() -> None:
    inputs, targets = gathered(in_order(ROWS, TARGETS, STARTS, steps=10, batch_size=32))
    np.testing.assert_array_equal(inputs, views(ROWS, 10)[STARTS])
    np.testing.assert_array_equal(targets[:, 0], TARGETS[STARTS + 9])
    assert inputs.dtype == targets.dtype == np.float32


def test_every_epoch_has_each_window_at_most_once_in_an_order_of_its_own() -> None:
    of_epoch = shuffled(ROWS, TARGETS, STARTS, steps=10, batch_size=32, seed=7)
    orders = []
    for epoch in range(3):
        inputs, targets = gathered(of_epoch(epoch))
        first = targets[:, 0].astype(int) - 9
        assert len(set(first)) == len(first) == len(STARTS) // 32 * 32
        assert set(first) <= set(STARTS)
        np.testing.assert_array_equal(inputs, views(ROWS, 10)[first])
        orders.append(first.tolist())
    assert orders[0] != orders[1] != orders[2]


@pytest.mark.parametrize(("seed", "same"), [(7, True), (8, False)])
def test_the_order_depends_on_seed_and_epoch_alone(seed: int, same: bool) -> None:
    first = shuffled(ROWS, TARGETS, STARTS, steps=10, batch_size=32, seed=7)
    first(0)
    other = shuffled(ROWS, TARGETS, STARTS, steps=10, batch_size=32, seed=seed)
    assert np.array_equal(gathered(first(3))[1], gathered(other(3))[1]) == same


PROGRAM = """
import numpy as np, tensorflow as tf
from ml_assets.ml.sequences import shuffled
from ml_assets.ml.training import peak_memory_mb
rows = np.ones((300_000, 20), np.float32)
of_epoch = shuffled(rows, rows[:, 0], np.arange(299_000), steps=60, batch_size=256, seed=0)
for _ in of_epoch(0).take(4): pass
before = peak_memory_mb()
total = sum(int(tf.shape(inputs)[0]) for inputs, _ in of_epoch(1).take(600))
print(total, rows.nbytes / 2**20, peak_memory_mb() - before)
"""


def test_an_epoch_needs_no_copies_of_the_rows() -> None:
    """Of 150,000 windows, 690 MiB if they were copied, a few batches are in memory."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    windows, matrix, grown = map(float, result.stdout.split())
    assert windows == 600 * 256
    assert matrix == pytest.approx(22.9, abs=0.1)
    assert grown < 100
