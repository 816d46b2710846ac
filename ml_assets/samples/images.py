"""Draws a bundled sample of images: `python -m ml_assets.samples.images FILE`.

FILE is a full `mnist.npz` or `cifar10.npz`, in the layout of Keras's data sets. Drawn are so many
training and test images, stratified by class, in their original order.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split

SIZES = {"mnist.npz": (5_000, 1_000), "cifar10.npz": (1_000, 500)}


def draw(full: Path, sample: Path) -> None:
    """Write the sample of `full` to `sample`."""
    arrays = dict(np.load(full, allow_pickle=False))
    for part, size in zip(("train", "test"), SIZES[full.name], strict=True):
        labels = arrays[f"y_{part}"].ravel()
        rows, _ = train_test_split(
            np.arange(len(labels)), train_size=size, random_state=0, stratify=labels
        )
        rows.sort()
        arrays[f"x_{part}"] = arrays[f"x_{part}"][rows]
        arrays[f"y_{part}"] = labels[rows]
    np.savez_compressed(sample, **arrays)


if __name__ == "__main__":
    full = Path(sys.argv[1])
    draw(full, Path(__file__).with_name(full.name))
