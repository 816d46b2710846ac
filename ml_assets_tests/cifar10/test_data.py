import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from ml_assets.cifar10 import data, features
from ml_assets.ml.errors import DataError
from ml_assets.ml.images import RawImages
from ml_assets.resources.datasets import SAMPLES, DatasetFile
from ml_assets_tests.servers import FileServer

NAMES = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]


def record(label: int, image: np.ndarray) -> bytes:
    return bytes([label]) + image.transpose(2, 0, 1).tobytes()


def archive(batches: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as found:
        for name, content in batches.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            found.addfile(member, io.BytesIO(content))
    return file.getvalue()


IMAGES = np.random.default_rng(0).integers(256, size=(12, 32, 32, 3), dtype=np.uint8)
BATCHES = {
    name: record(2 * number, IMAGES[2 * number]) + record(2 * number + 1, IMAGES[2 * number + 1])
    for number, name in enumerate(NAMES)
}


def load(path: Path, content: bytes) -> RawImages:
    path.write_bytes(content)
    return data.load(path, source="local", sha256="digest")


def test_the_sample_holds_real_images_of_every_class() -> None:
    path = SAMPLES / data.FILE_NAME
    raw = data.load(path, source="sample", sha256=data.SAMPLE_SHA256)
    assert raw.train_images.shape == (1_000, 32, 32, 3)
    assert raw.test_images.shape == (500, 32, 32, 3)
    assert np.bincount(raw.train_labels).tolist() == [100] * 10
    assert np.bincount(raw.test_labels).tolist() == [50] * 10


def test_one_training_image_in_fifty_is_held_out() -> None:
    path = SAMPLES / data.FILE_NAME
    splits = features.prepare(data.load(path, source="sample", sha256=data.SAMPLE_SHA256))
    assert len(splits.train_images) == 980
    assert len(splits.validation_images) == 20


def test_the_author_s_archive_is_read(tmp_path: Path) -> None:
    raw = load(tmp_path / data.ARCHIVE_NAME, archive(BATCHES))
    np.testing.assert_array_equal(raw.train_images, IMAGES[:10])
    np.testing.assert_array_equal(raw.test_images, IMAGES[10:])
    assert raw.train_labels.tolist() == list(range(10))
    assert raw.test_labels.tolist() == [10, 11]


def test_the_archive_is_downloaded_once_and_its_digest_checked(
    tmp_path: Path, file_server: FileServer
) -> None:
    import hashlib

    content = archive(BATCHES)
    file_server.files["/cifar.tar.gz"] = content
    source = DatasetFile(
        source="keras",
        file_name=data.ARCHIVE_NAME,
        sample_sha256="",
        directory="",
        url=f"{file_server.url}/cifar.tar.gz",
        sha256=hashlib.sha256(content).hexdigest(),
        cache_directory=str(tmp_path),
    )
    for _ in range(2):
        raw = data.load(source.fetch(), source=source.describe(), sha256=source.digest())
    assert len(raw.train_images) == 10
    assert file_server.requests == 1
    (tmp_path / data.ARCHIVE_NAME).unlink()
    wrong = source.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(DataError, match="sha256:0000"):
        wrong.fetch()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the six batches"),
        (b"no archive", "the six batches"),
        (archive(BATCHES)[:2000], "the six batches"),
        (archive({"data_batch_1.bin": b""}), "found 0 bytes"),
        (archive(BATCHES | {"test_batch.bin": b"cut"}), r"in cifar.*/test_batch\.bin; found 3"),
        (archive({name: BATCHES[name] for name in NAMES[:5]}), "test_batch.bin"),
    ],
)
def test_another_file_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        load(tmp_path / data.ARCHIVE_NAME, content)


def test_nothing_is_extracted(tmp_path: Path) -> None:
    """A member that names a place outside the archive is not even looked at."""
    load(tmp_path / data.ARCHIVE_NAME, archive(BATCHES | {"../../outside": b"x"}))
    assert [path.name for path in tmp_path.iterdir()] == [data.ARCHIVE_NAME]
