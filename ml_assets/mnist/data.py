"""From the MNIST file to arrays. Where the file comes from is the injected source's business.

Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits", in the layout in
which Keras distributes it.
"""

import zipfile
from pathlib import Path

import numpy as np

from ml_assets.ml.errors import DataError
from ml_assets.ml.images import RawImages

FILE_NAME = "mnist.npz"
URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
SAMPLE_SHA256 = "219461763ee42d8e7c8cca6f5694eb15a490fea3ab6d020b676b845389ce7105"

CLASSES = [str(digit) for digit in range(10)]
IMAGE_SHAPE = (28, 28)

_ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def load(path: Path, *, source: str, sha256: str) -> RawImages:
    """Read the four arrays of Keras's `mnist.npz`.

    Args:
        path: The file.
        source: Where it came from, for the record.
        sha256: Its digest, for the record.

    Raises:
        DataError: The file is no `.npz` archive, lacks an array, its images and labels differ
            in number, or its labels are no integers.
    """
    remedy = f"supply a {FILE_NAME} in the layout of keras.datasets.mnist"
    try:
        with np.load(path, allow_pickle=False) as archive:
            train_images, train_labels, test_images, test_labels = (
                archive[name] for name in _ARRAYS
            )
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"the arrays {', '.join(_ARRAYS)} in {path}", str(error), remedy) from error
    for images, labels in ((train_images, train_labels), (test_images, test_labels)):
        if len(images) != len(labels):
            raise DataError(
                "as many labels as images",
                f"{len(images)} images and {len(labels)} labels in {path}",
                remedy,
            )
        if labels.dtype.kind not in "iu":
            raise DataError("integer labels", f"{labels.dtype} in {path}", remedy)
    return RawImages(train_images, train_labels, test_images, test_labels, source, sha256)
