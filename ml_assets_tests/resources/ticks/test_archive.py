import hashlib
import io
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import ValidationError

from ml_assets.ml.errors import DataError
from ml_assets.resources.ticks import ArchiveTicks
from ml_assets_tests.resources.ticks.feeds import DAY, HOUR, MONDAY, ns, rows, values
from ml_assets_tests.servers import FileServer

NAMES = ["id", "price", "qty", "quote_qty", "time", "is_buyer_maker", "is_best_match"]
TUESDAY = MONDAY + DAY


def archive(server_url: str, directory: Path, **changes: Any) -> ArchiveTicks:
    return ArchiveTicks(
        **{
            "url": f"{server_url}/daily/{{symbol}}/{{symbol}}-trades-{{date}}.zip",
            "symbol": "BTCUSDT",
            "column_names": NAMES,
            "cache_directory": str(directory),
            "timeout_seconds": 2,
        }
        | changes
    )


def day(start: datetime, *extra: str) -> bytes:
    """A day's trades, one every eight hours, in microseconds."""
    lines = [
        f"{number},{100 + number},0.5,50,{ns(start + 8 * number * HOUR) // 1000},{maker},True"
        for number, maker in enumerate(("True", "False", "True"))
    ]
    return "".join(f"{line}\n" for line in (*extra, *lines)).encode()


def publish(server: FileServer, start: datetime, content: bytes, name: str = "") -> None:
    url = f"/daily/BTCUSDT/BTCUSDT-trades-{start:%Y-%m-%d}.zip"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr(name or f"BTCUSDT-trades-{start:%Y-%m-%d}.csv", content)
    server.files[url] = buffer.getvalue()
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    server.files[f"{url}.CHECKSUM"] = f"{digest}  BTCUSDT-trades-{start:%Y-%m-%d}.zip\n".encode()


@pytest.fixture
def served(file_server: FileServer, tmp_path: Path) -> ArchiveTicks:
    for start in (MONDAY, TUESDAY):
        publish(file_server, start, day(start))
    return archive(file_server.url, tmp_path / "cache")


def test_a_window_has_the_trades_of_its_days(served: ArchiveTicks) -> None:
    found = rows(served.read(MONDAY, MONDAY + 2 * DAY))
    assert [row["event_time_ns"] for row in found] == [
        ns(MONDAY + number * 8 * HOUR) for number in range(6)
    ]
    assert found[1] == {
        "event_time_ns": ns(MONDAY + 8 * HOUR),
        "price": 101.0,
        "size": 0.5,
        "side": 1,
        "row": 2,
    }
    assert [row["side"] for row in found] == [-1, 1, -1] * 2
    assert [row["row"] for row in found] == [1, 2, 3] * 2
    part = served.read(MONDAY + 8 * HOUR, TUESDAY + 8 * HOUR)
    assert rows(part) == found[1:4]


def test_lines_that_cannot_be_read_stay_in_their_day(
    file_server: FileServer, served: ArchiveTicks
) -> None:
    publish(file_server, MONDAY, day(MONDAY, "first", "second,1,1"))
    found = served.read(MONDAY, TUESDAY)
    assert values(found, "text") == ["first", "second,1,1", None, None, None]
    assert values(served.read(MONDAY + 8 * HOUR, TUESDAY), "row") == [4, 5]


def test_a_zip_is_downloaded_once_until_it_is_published_again(
    file_server: FileServer, served: ArchiveTicks
) -> None:
    before = served.digest(MONDAY, TUESDAY)
    assert file_server.requests == 1
    for _ in range(2):
        served.read(MONDAY, TUESDAY)
    assert file_server.requests == 1 + 2 + 1
    other = served.digest(TUESDAY, TUESDAY + DAY)
    publish(file_server, MONDAY, day(MONDAY, "late"))
    assert served.digest(MONDAY, TUESDAY) != before
    assert served.digest(TUESDAY, TUESDAY + DAY) == other
    assert len(served.read(MONDAY, TUESDAY)) == 4


def test_a_day_that_is_not_published_is_named(served: ArchiveTicks) -> None:
    for ask in (served.read, served.digest):
        with pytest.raises(
            DataError, match=r"ticks of 2013-10-09 at http.*404.*remedy: wait until"
        ):
            ask(TUESDAY, TUESDAY + 2 * DAY)


def test_a_zip_without_its_digest_s_file_is_named(
    file_server: FileServer, served: ArchiveTicks
) -> None:
    for url in [url for url in file_server.files if url.endswith(".zip")]:
        del file_server.files[url]
    with pytest.raises(DataError, match=r"ticks of 2013-10-07 at http.*404.*remedy: wait until"):
        served.read(MONDAY, TUESDAY)


def test_a_wrong_digest_is_refused_and_the_zip_not_kept(
    file_server: FileServer, served: ArchiveTicks
) -> None:
    [url] = [url for url in file_server.files if url.endswith("07.zip")]
    file_server.files[url] += b"x"
    with pytest.raises(DataError, match=r"expected SHA-256 .*07.zip.*remedy: try again later"):
        served.read(MONDAY, TUESDAY)
    assert list(Path(served.cache_directory).iterdir()) == []


def test_a_digest_that_is_none_is_refused(file_server: FileServer, served: ArchiveTicks) -> None:
    [url] = [url for url in file_server.files if url.endswith("07.zip.CHECKSUM")]
    file_server.files[url] = b"<html>"
    with pytest.raises(DataError, match=r"a SHA-256 at .*found '<html>'; remedy: correct"):
        served.digest(MONDAY, TUESDAY)


def test_a_zip_that_unpacks_to_too_much_is_refused(
    file_server: FileServer, served: ArchiveTicks
) -> None:
    publish(file_server, MONDAY, bytes(10_000_000))
    small = ArchiveTicks(**served.model_dump() | {"max_bytes": 1000})
    with pytest.raises(DataError, match=r"at most 1000 bytes of .*remedy: delete"):
        small.read(MONDAY, TUESDAY)


def test_a_zip_with_another_file_is_refused(file_server: FileServer, served: ArchiveTicks) -> None:
    publish(file_server, MONDAY, day(MONDAY), "other.csv")
    with pytest.raises(DataError, match=r"one BTCUSDT-trades-2013-10-07.csv.*found other.csv"):
        served.read(MONDAY, TUESDAY)


def test_a_server_that_is_down_can_be_tried_again(tmp_path: Path) -> None:
    source = archive("http://127.0.0.1:9", tmp_path)
    for ask in (source.read, source.digest):
        with pytest.raises(dg.Failure, match="Expected: a server that answers"):
            ask(MONDAY, TUESDAY)


def test_a_password_in_the_address_is_not_shown(tmp_path: Path) -> None:
    source = archive("https://someone:secret@host", tmp_path)
    assert source.describe() == (
        "archive: BTCUSDT of https://host/daily/{symbol}/{symbol}-trades-{date}.zip"
    )


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"url": "https://host/{symbol}.zip?key=topsecret"}, "expected a URL with {date}"),
        ({"column_names": ["id", "price", "qty"]}, "`column_names`.*found id, price, qty"),
    ],
)
def test_what_cannot_work_is_refused_at_once(
    tmp_path: Path, changes: dict[str, Any], match: str
) -> None:
    with pytest.raises(ValidationError, match=match) as refused:
        archive("https://host", tmp_path, **changes)
    assert "topsecret" not in str(refused.value)
