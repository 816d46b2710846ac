"""Labelled images: the records that the image groups pass from step to step, and their split.

What the images show, and where they come from, is the groups' business.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ml_assets.ml.errors import DataError
from ml_assets.ml.untrusted import open_regular, parsing, read_array

MAX_BYTES = 1 << 31
"""The most bytes that the arrays of a file may have."""
MAX_CLASSES = 1 << 16
"""Counts are kept of each label: one of a billion would take a billion counts."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ARRAYS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True)
class RawImages:
    """A data set as it arrived.

    Attributes:
        train_images: `(n, height, width)` or `(n, height, width, channels)` uint8.
        train_labels: `(n,)` uint8.
        test_images: like `train_images`.
        test_labels: like `train_labels`.
        source: Where the file came from.
        sha256: The digest of that file.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    source: str
    sha256: str


@dataclass(frozen=True)
class ImageSplits:
    """Train, validation and test images: three disjoint sets.

    Attributes:
        train_images: `(n, height, width, channels)` uint8.
        train_labels: `(n,)` int64.
        validation_images: like `train_images`, for early decisions.
        validation_labels: like `train_labels`.
        test_images: like `train_images`, touched only by the evaluation.
        test_labels: like `train_labels`.
        source: Where the images came from.
        data_digest: SHA-256 of the file that they came in.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    validation_images: np.ndarray
    validation_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    source: str
    data_digest: str


def load(path: Path, *, source: str, sha256: str) -> RawImages:
    """Read the four arrays of a `.npz` file of images, in the layout of Keras's data sets.

    Args:
        path: The file.
        source: Where it came from, for the record.
        sha256: Its digest, for the record.

    Raises:
        DataError: The file is no `.npz` archive, unpacks to too much, lacks an array, its images
            and labels differ in number, or its labels are no integers.
    """
    remedy = f"supply a {path.name} with the arrays of Keras's data set of that name"
    arrays = _arrays(path, remedy)
    train_images, train_labels, test_images, test_labels = arrays
    for images, labels in ((train_images, train_labels), (test_images, test_labels)):
        if images.ndim not in {3, 4} or images.dtype != np.uint8 or labels.ndim not in {1, 2}:
            raise DataError(
                "images (n, height, width[, channels]) uint8, and labels (n,)",
                f"{images.shape} {images.dtype} and {labels.shape} in {path}",
                remedy,
            )
        if len(images) != len(labels) or labels.size != len(labels):
            raise DataError(
                "as many labels as images",
                f"{len(images)} images and {labels.size} labels in {path}",
                remedy,
            )
        if labels.dtype.kind not in "iu":
            raise DataError("integer labels", f"{labels.dtype} in {path}", remedy)
        if len(labels) and not 0 <= labels.min() <= labels.max() < MAX_CLASSES:
            raise DataError(
                f"labels from 0 to {MAX_CLASSES - 1}",
                f"{labels.min()} to {labels.max()} in {path}",
                remedy,
            )
    return RawImages(
        train_images, train_labels.ravel(), test_images, test_labels.ravel(), source, sha256
    )


def _arrays(path: Path, remedy: str) -> list[np.ndarray]:
    """The four arrays, in the order of their names."""
    expected = f"the arrays {', '.join(_ARRAYS)} in {path}"
    with (
        open_regular(path, remedy) as file,
        parsing(expected, remedy),
        zipfile.ZipFile(file) as archive,
    ):
        members = [archive.getinfo(f"{name}.npy") for name in _ARRAYS]
        # By other methods, a few bytes may become gigabytes at a time; NumPy uses these two.
        if any(member.compress_type not in _METHODS for member in members):
            raise zipfile.BadZipFile("members that are packed otherwise than NumPy does")
        if sum(member.file_size for member in members) > MAX_BYTES:
            raise zipfile.BadZipFile(f"more than {MAX_BYTES:,} bytes unpacked")
        arrays = []
        for member in members:
            with archive.open(member) as stream:
                arrays.append(read_array(stream, member.file_size))
        return arrays


def split(raw: RawImages, *, validation_fraction: float, seed: int) -> ImageSplits:
    """Hold out a stratified share of the training images for validation.

    Args:
        raw: The data set; its test images stay as they are.
        validation_fraction: Share of the training images, between 0 and 1.
        seed: Decides which images are held out.

    Raises:
        DataError: A class has fewer than two training images, or fewer are held out than there
            are classes.
    """
    from sklearn.model_selection import train_test_split

    counts = np.bincount(raw.train_labels)
    if counts.min(initial=2) < 2:
        raise DataError(
            "at least two training images of every class",
            f"class {counts.argmin()} with {counts.min()}",
            "use a larger sample",
        )
    held_out = int(np.ceil(validation_fraction * len(raw.train_labels)))
    if held_out < len(counts):
        raise DataError(
            f"a validation image of each of {len(counts)} classes",
            f"{held_out} of {len(raw.train_labels)} training images held out",
            "use a larger sample",
        )
    train, validation = train_test_split(
        np.arange(len(raw.train_labels)),
        test_size=validation_fraction,
        random_state=seed,
        stratify=raw.train_labels,
    )
    train.sort()
    validation.sort()
    return ImageSplits(
        train_images=_with_channels(raw.train_images[train]),
        train_labels=raw.train_labels[train].astype(np.int64),
        validation_images=_with_channels(raw.train_images[validation]),
        validation_labels=raw.train_labels[validation].astype(np.int64),
        test_images=_with_channels(raw.test_images),
        test_labels=raw.test_labels.astype(np.int64),
        source=raw.source,
        data_digest=raw.sha256,
    )


def _with_channels(images: np.ndarray) -> np.ndarray:
    return images if images.ndim == 4 else images[..., np.newaxis]
