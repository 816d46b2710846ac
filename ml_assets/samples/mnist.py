"""Draws the bundled sample from the full data set: `python -m ml_assets.samples.mnist FILE`.

5,000 training and 1,000 test images, stratified by class, in their original order.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split

TRAIN_IMAGES = 5_000
TEST_IMAGES = 1_000


def draw(full: Path, sample: Path) -> None:
    """Write the sample of `full` (Keras's `mnist.npz`) to `sample`."""
    arrays = dict(np.load(full, allow_pickle=False))
    for part, size in (("train", TRAIN_IMAGES), ("test", TEST_IMAGES)):
        labels = arrays[f"y_{part}"]
        rows, _ = train_test_split(
            np.arange(len(labels)), train_size=size, random_state=0, stratify=labels
        )
        rows.sort()
        arrays[f"x_{part}"] = arrays[f"x_{part}"][rows]
        arrays[f"y_{part}"] = labels[rows]
    np.savez_compressed(sample, **arrays)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(__file__).with_name("mnist.npz"))
