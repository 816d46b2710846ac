"""From the CIFAR-10 file to arrays. Where it comes from is the injected source's business.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009). Keras
downloads the author's archive for Python, which has to be unpickled; here it is his archive for C,
which holds the same images and nothing but bytes.
"""

import gzip
import tarfile
from pathlib import Path

import numpy as np

from ml_assets.ml import images
from ml_assets.ml.errors import DataError
from ml_assets.ml.images import RawImages
from ml_assets.ml.untrusted import Unpacked, open_regular, parsing

FILE_NAME = "cifar10.npz"
ARCHIVE_NAME = "cifar-10-binary.tar.gz"
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
SAMPLE_SHA256 = "b294a3c9236deaa3e9fe932598e75c2c161cc8181792b5aed9465190d07f3128"

CLASSES = [
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
]
IMAGE_SHAPE = (32, 32, 3)
MEAN, DEVIATION = (125.31, 122.95, 113.87), (62.99, 62.09, 66.70)
"""Of the red, green and blue of the 50,000 training images."""

_BATCHES = [f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)]
_TEST_BATCH = "cifar-10-batches-bin/test_batch.bin"
_RECORD = 1 + 32 * 32 * 3
_LARGEST = 10_000 * _RECORD
_MAX_BYTES = 1 << 28  # the author's archive has 184 MB unpacked


def load(path: Path, *, source: str, sha256: str) -> RawImages:
    """Read the author's archive, or a `.npz` file in the layout of Keras's data sets.

    Args:
        path: The file.
        source: Where it came from, for the record.
        sha256: Its digest, for the record.

    Raises:
        DataError: The file is damaged, or something else.
    """
    if not path.name.endswith(".tar.gz"):
        return images.load(path, source=source, sha256=sha256)
    train, test = _batches(path)
    return RawImages(_pixels(train), train[:, 0], _pixels(test), test[:, 0], source, sha256)


def _batches(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The records for training and those for the test. Nothing is extracted."""
    remedy = "supply the file again"
    expected = f"the six batches of {ARCHIVE_NAME} in {path}"
    with open_regular(path, remedy) as packed:
        unpacked = Unpacked(gzip.GzipFile(fileobj=packed), _MAX_BYTES, expected, remedy)
        with (
            parsing(expected, remedy),
            tarfile.open(fileobj=unpacked, mode="r:") as archive,  # type: ignore[call-overload]
        ):
            train = [_records(archive, name) for name in _BATCHES]
            return np.concatenate(train), _records(archive, _TEST_BATCH)


def _records(archive: tarfile.TarFile, name: str) -> np.ndarray:
    """A batch `(n, 3073)` uint8: the label, then the image by channel."""
    member = archive.extractfile(name)
    content = member.read(_LARGEST + 1) if member else b""
    if not content or len(content) % _RECORD or len(content) > _LARGEST:
        raise DataError(
            f"up to 10,000 records of {_RECORD} bytes in {name}",
            f"{len(content)} bytes",
            "supply the file again",
        )
    return np.frombuffer(content, np.uint8).reshape(-1, _RECORD)


def _pixels(records: np.ndarray) -> np.ndarray:
    by_channel = records[:, 1:].reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(by_channel.transpose(0, 2, 3, 1))
