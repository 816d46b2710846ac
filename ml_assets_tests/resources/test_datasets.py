import hashlib
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._utils.error import serializable_error_info_from_exc_info
from pydantic import ValidationError

from ml_assets.ml.errors import DataError
from ml_assets.mnist import data
from ml_assets.resources.datasets import DatasetFile, PretrainedWeights
from ml_assets_tests.servers import FileServer

CONTENT = b"digits" * 1_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def dataset(source: str, directory: Path, **changes: Any) -> DatasetFile:
    return DatasetFile(
        **{
            "source": source,
            "file_name": data.FILE_NAME,
            "sample_sha256": data.SAMPLE_SHA256,
            "directory": str(directory),
            "url": "http://127.0.0.1:9/digits.npz",
            "sha256": SHA256,
            "cache_directory": str(directory / "cache"),
            "timeout_seconds": 2,
        }
        | changes
    )


@pytest.fixture
def served(file_server: FileServer, tmp_path: Path) -> DatasetFile:
    file_server.files["/digits.npz"] = CONTENT
    return dataset("keras", tmp_path, url=f"{file_server.url}/digits.npz")


def test_the_sample_is_bundled_and_whole(tmp_path: Path) -> None:
    source = dataset("sample", tmp_path)
    assert source.fetch().is_file()
    assert source.digest() == data.SAMPLE_SHA256


def test_a_damaged_sample_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="install the package again"):
        dataset("sample", tmp_path, sample_sha256="0" * 64).fetch()


def test_a_local_file_is_used_where_it_is(tmp_path: Path) -> None:
    (tmp_path / data.FILE_NAME).write_bytes(CONTENT)
    source = dataset("local", tmp_path)
    assert source.fetch() == tmp_path / data.FILE_NAME
    assert source.digest() == SHA256


def test_a_local_file_may_have_another_name(tmp_path: Path) -> None:
    source = dataset("local", tmp_path, other_name="digits.tar.gz")
    with pytest.raises(DataError, match=r"put mnist\.npz or digits\.tar\.gz there"):
        source.fetch()
    (tmp_path / "digits.tar.gz").write_bytes(CONTENT)
    assert source.fetch() == tmp_path / "digits.tar.gz"
    assert source.digest() == SHA256


def test_a_missing_local_file_says_where_it_belongs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{tmp_path}.*put mnist.npz there"):
        dataset("local", tmp_path).fetch()
    with pytest.raises(DataError, match=r"put mnist\.npz there"):
        dataset("local", tmp_path).digest()


def test_an_unknown_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="'sample', 'local' or 'keras'"):
        dataset("hub", tmp_path)


def test_a_download_is_made_once_and_kept(served: DatasetFile, file_server: FileServer) -> None:
    assert served.fetch().read_bytes() == CONTENT
    assert served.fetch().read_bytes() == CONTENT
    assert file_server.requests == 1
    assert served.digest() == SHA256


def test_a_corrupted_download_is_refused_and_not_kept(
    served: DatasetFile, file_server: FileServer
) -> None:
    file_server.files["/digits.npz"] = CONTENT[:-1] + b"X"
    with pytest.raises(DataError, match=f"expected sha256:{SHA256}"):
        served.fetch()
    assert list(Path(served.cache_directory).iterdir()) == []


def test_a_truncated_download_is_refused_and_tried_anew(
    served: DatasetFile, file_server: FileServer
) -> None:
    file_server.truncate_after = 100
    with pytest.raises((DataError, dg.Failure)):
        served.fetch()
    assert list(Path(served.cache_directory).iterdir()) == []
    file_server.truncate_after = None
    assert served.fetch().read_bytes() == CONTENT


def test_a_missing_download_fails_with_its_address(
    served: DatasetFile, file_server: FileServer
) -> None:
    file_server.files.clear()
    with pytest.raises(dg.Failure, match=f"404 .*{file_server.url}"):
        served.fetch()


def test_a_password_in_the_address_is_not_shown(tmp_path: Path) -> None:
    source = dataset("keras", tmp_path, url="https://someone:secret@host/digits.npz?token=secret")
    assert source.describe() == "keras: https://host/digits.npz"


@pytest.mark.parametrize("there", [True, False])
def test_an_error_never_shows_what_is_secret_in_the_address(
    there: bool,
    tmp_path: Path,
    file_server: FileServer,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    host = file_server.url.removeprefix("http://") if there else "127.0.0.1:9"
    url = f"http://someone:topsecret@{host}/digits.npz?token=topsecret"
    with pytest.raises(dg.Failure, match=rf"The download of http://{host}/digits.npz") as failure:
        dataset("keras", tmp_path, url=url).fetch()
    told = serializable_error_info_from_exc_info(failure._excinfo)
    assert (
        "topsecret" not in f"{told} {failure.value.description} {capfd.readouterr()} {caplog.text}"
    )


def test_a_server_that_is_down_can_be_tried_again(tmp_path: Path) -> None:
    with pytest.raises(dg.Failure, match=r"Expected: a server that answers") as failure:
        dataset("keras", tmp_path).fetch()
    assert failure.value.allow_retries


def test_a_damaged_cache_is_downloaded_again(served: DatasetFile, file_server: FileServer) -> None:
    served.fetch().write_bytes(b"damaged")
    assert served.fetch().read_bytes() == CONTENT
    assert file_server.requests == 2


def weights(directory: Path, **changes: str) -> PretrainedWeights:
    known = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
    defaults = {"path": "", "url": "http://127.0.0.1:9/net.h5", "known_hash": known}
    return PretrainedWeights(
        **defaults | {"cache_directory": str(directory)} | changes, timeout_seconds=2
    )


def test_weights_are_downloaded_once_and_their_digest_is_checked(
    file_server: FileServer, tmp_path: Path
) -> None:
    file_server.files["/net.h5"] = CONTENT
    served = weights(tmp_path, url=f"{file_server.url}/net.h5")
    assert served.fetch().read_bytes() == served.fetch().read_bytes() == CONTENT
    assert served.fetch() == tmp_path / "net.h5"
    assert file_server.requests == 1

    served.fetch().write_bytes(b"damaged")
    file_server.files["/net.h5"] = CONTENT[1:]
    with pytest.raises(DataError, match=r"expected md5:.*name a file of yours instead"):
        served.fetch()


def test_weights_of_yours_are_used_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "mine.h5").write_bytes(CONTENT)
    assert weights(tmp_path, path=str(tmp_path / "mine.h5")).fetch() == tmp_path / "mine.h5"
    with pytest.raises(DataError, match=r"weights at .*none\.h5; found no such file"):
        weights(tmp_path, path=str(tmp_path / "none.h5")).fetch()
