import logging
import zipfile
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from ml_assets.ml.errors import DataError
from ml_assets.power import data
from ml_assets.resources import archives
from ml_assets.resources.readings import UciReadings
from ml_assets_tests.resources.readings.texts import (
    ALWAYS,
    DAY,
    MONDAY,
    THREE_DAYS,
    line,
    local,
    rows,
    sample,
    text,
    uci,
    zipped,
)
from ml_assets_tests.servers import FileServer

CUT = [b"", b"no zip", zipped(THREE_DAYS)[:-200], zipped(THREE_DAYS)[:200]]


@pytest.fixture
def served(file_server: FileServer, tmp_path: Path) -> UciReadings:
    file_server.files["/power.zip"] = zipped(THREE_DAYS)
    return uci(tmp_path, f"{file_server.url}/power.zip")


def test_the_sample_is_bundled_and_whole(tmp_path: Path) -> None:
    source = sample(tmp_path)
    found = source.read(*ALWAYS)
    assert len(found) == data.SAMPLE_WEEKS * 7 * 1440
    assert found["day"][0].as_py().isoformat() == data.SAMPLE_FIRST_DAY
    assert rows(source.read(MONDAY, MONDAY + DAY))[0] == (
        MONDAY,
        2,
        "7/1/2008;00:00:00;0.242;0.050;241.600;1.000;0.000;0.000;0.000",
    )
    assert source.digest(*ALWAYS) == data.SAMPLE_SHA256
    assert source.describe() == "sample: ml_assets/samples/household_power.zip"


def test_a_damaged_sample_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"SHA-256 0000.*install the package again"):
        sample(tmp_path, sha256="0" * 64).read(*ALWAYS)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_missing_sample_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found no such file; remedy: install the package again"):
        sample(tmp_path, archive_name="other.zip").read(*ALWAYS)


def test_a_download_is_made_once_and_kept(served: UciReadings, file_server: FileServer) -> None:
    for _ in range(2):
        assert len(served.read(*ALWAYS)) == 72
    assert file_server.requests == 1
    [kept] = Path(served.cache_directory).iterdir()
    assert kept.read_bytes() == THREE_DAYS


def test_the_digest_is_known_without_a_download(
    served: UciReadings, file_server: FileServer
) -> None:
    assert served.digest(*ALWAYS) == served.sha256
    assert file_server.requests == 0


def test_a_damaged_cache_is_fetched_again(
    served: UciReadings, file_server: FileServer, caplog: pytest.LogCaptureFixture
) -> None:
    served.read(*ALWAYS)
    [kept] = Path(served.cache_directory).iterdir()
    kept.write_bytes(b"damaged")
    with caplog.at_level(logging.WARNING):
        assert len(served.read(*ALWAYS)) == 72
    assert file_server.requests == 2
    assert "the cached file is damaged" in caplog.text


@pytest.mark.parametrize("content", [*CUT, zipped(THREE_DAYS[:-1] + b"X")])
def test_a_wrong_download_is_refused_and_not_kept(
    served: UciReadings, file_server: FileServer, content: bytes
) -> None:
    file_server.files["/power.zip"] = content
    with pytest.raises(DataError, match=r"remedy: try http://127.* again later.*source `local`"):
        served.read(*ALWAYS)
    assert list(Path(served.cache_directory).iterdir()) == []


def test_a_truncated_download_is_tried_anew(served: UciReadings, file_server: FileServer) -> None:
    file_server.truncate_after = 100
    with pytest.raises((DataError, dg.Failure)):
        served.read(*ALWAYS)
    assert list(Path(served.cache_directory).iterdir()) == []
    file_server.truncate_after = None
    assert len(served.read(*ALWAYS)) == 72


def test_a_missing_download_fails_with_its_address(
    served: UciReadings, file_server: FileServer
) -> None:
    file_server.files.clear()
    with pytest.raises(dg.Failure, match=f"404 .*{file_server.url}"):
        served.read(*ALWAYS)


def test_a_server_that_is_down_can_be_tried_again(tmp_path: Path) -> None:
    with pytest.raises(dg.Failure, match="Expected: a server that answers"):
        uci(tmp_path, "http://127.0.0.1:9/power.zip").read(*ALWAYS)


def test_a_password_in_the_address_is_not_shown(tmp_path: Path) -> None:
    source = uci(tmp_path, "https://someone:secret@host/power.zip?token=secret")
    assert source.describe() == "uci: https://host/power.zip"


def test_the_path_that_a_zip_gives_a_file_is_not_used(
    served: UciReadings, file_server: FileServer, tmp_path: Path
) -> None:
    file_server.files["/power.zip"] = zipped(THREE_DAYS, f"../../../{data.FILE_NAME}")
    assert len(served.read(*ALWAYS)) == 72
    assert [path.parent for path in tmp_path.rglob("*.txt")] == [tmp_path / "cache"]


def test_a_zip_that_unpacks_to_too_much_is_refused(
    file_server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_BLOCK", 1000)
    file_server.files["/power.zip"] = zipped(bytes(10_000_000))
    source = uci(tmp_path, f"{file_server.url}/power.zip", max_bytes=len(THREE_DAYS))
    with pytest.raises(DataError, match=f"at most {len(THREE_DAYS)} bytes .*found more; remedy"):
        source.read(*ALWAYS)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_zip_that_understates_the_size_is_refused(
    served: UciReadings, file_server: FileServer
) -> None:
    honest = zipped(THREE_DAYS)
    size = len(THREE_DAYS).to_bytes(4, "little")
    assert honest.count(size) == 2
    file_server.files["/power.zip"] = honest.replace(size, (1000).to_bytes(4, "little"))
    with pytest.raises(DataError, match="remedy: try"):
        served.read(*ALWAYS)


def test_a_zip_without_the_file_or_with_two_is_refused(
    served: UciReadings, file_server: FileServer, tmp_path: Path
) -> None:
    file_server.files["/power.zip"] = zipped(THREE_DAYS, "other.txt")
    with pytest.raises(DataError, match=rf"expected one {data.FILE_NAME}.*found other.txt; remedy"):
        served.read(*ALWAYS)
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        for folder in "ab":
            archive.writestr(f"{folder}/{data.FILE_NAME}", THREE_DAYS)
    file_server.files["/power.zip"] = (tmp_path / "two.zip").read_bytes()
    with pytest.raises(DataError, match=r"found a/.*, b/"):
        served.read(*ALWAYS)


def test_a_text_file_of_yours_is_used_where_it_is(tmp_path: Path) -> None:
    (tmp_path / data.FILE_NAME).write_bytes(THREE_DAYS)
    source = local(tmp_path)
    assert len(source.read(*ALWAYS)) == 72
    assert source.digest(*ALWAYS) == uci(tmp_path, "").sha256
    assert source.describe() == f"local: {tmp_path}"
    assert not (tmp_path / "cache").exists()


def test_a_zip_of_yours_is_unpacked_once(tmp_path: Path) -> None:
    archive = tmp_path / data.ARCHIVE_NAME
    archive.write_bytes(zipped(THREE_DAYS, f"folder/{data.FILE_NAME}"))
    source = local(tmp_path)
    assert len(source.read(*ALWAYS)) == 72
    [kept] = (tmp_path / "cache").iterdir()
    before = kept.stat().st_mtime_ns
    assert source.digest(*ALWAYS) == uci(tmp_path, "").sha256
    assert len(source.read(*ALWAYS)) == 72
    assert kept.stat().st_mtime_ns == before
    kept.write_bytes(b"damaged")
    assert len(source.read(*ALWAYS)) == 72
    archive.write_bytes(zipped(text(line(MONDAY))))
    assert len(source.read(*ALWAYS)) == 1


@pytest.mark.parametrize("content", CUT)
def test_a_damaged_zip_of_yours_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / data.ARCHIVE_NAME).write_bytes(content)
    with pytest.raises(DataError, match="remedy: supply the zip again"):
        local(tmp_path).read(*ALWAYS)


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    content = bytearray(zipped(THREE_DAYS))
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + offset] |= 1
    (tmp_path / data.ARCHIVE_NAME).write_bytes(content)
    with pytest.raises(DataError, match=r"encrypted.*remedy: supply the zip again"):
        local(tmp_path).digest(*ALWAYS)


def test_a_directory_without_readings_says_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{data.FILE_NAME}.*found none of them; remedy: put them"):
        local(tmp_path).read(*ALWAYS)
    with pytest.raises(DataError, match=r"2008-01-31.csv.*found no such directory; remedy: put"):
        local(tmp_path / "nowhere").digest(date.min, date.max)
