"""What is no file, and what a small file or a slow server makes of memory and time.

Bombs are read in a process of their own, whose memory is measured.
"""

import gzip
import io
import multiprocessing
import os
import resource
import socket
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from upath import UPath

from ml_assets.cifar10 import data as cifar10
from ml_assets.io_managers.archives import ArchiveIOManager
from ml_assets.ml import archive, images
from ml_assets.ml.errors import DataError
from ml_assets.power import data as power
from ml_assets.resources import downloads
from ml_assets.resources.archives import ZippedText
from ml_assets.resources.downloads import Limits
from ml_assets.resources.mlflow import MlflowResource
from ml_assets.resources.postgres import Database
from ml_assets_tests.damage import Arrays
from ml_assets_tests.resources.readings import texts
from ml_assets_tests.resources.test_datasets import dataset, weights
from ml_assets_tests.resources.ticks import feeds
from ml_assets_tests.resources.ticks.test_archive import archive as tick_archive
from ml_assets_tests.servers import LoopbackServer, QuietHandler

MEBIBYTE = 1 << 20


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's path may have a hundred letters
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


ODD: dict[str, Callable[[Path], object]] = {
    "directory": lambda path: path.mkdir(),
    "pipe": os.mkfifo,
    "socket": _socket,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "broken link": lambda path: path.symlink_to(path.parent / "nowhere"),
    "loop of links": lambda path: path.symlink_to(path),
    "empty file": lambda path: path.touch(),
}


def _read_local(directory: Path) -> None:
    found = dataset("local", directory)
    images.load(found.fetch(), source="", sha256=found.digest())


def _load_output(directory: Path) -> None:
    manager = ArchiveIOManager(base_path=str(directory)).create_io_manager(None)  # type: ignore[arg-type]
    context = dg.build_input_context(
        asset_key=dg.AssetKey("output"),
        dagster_type=dg.DagsterType(lambda _, __: True, "Arrays", typing_type=Arrays),
    )
    manager.load_from_path(context, UPath(directory / "output.zip"))


PLACES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "readings of a day (csv)": (
        "2008-01-07.csv",
        lambda directory: texts.local(directory).read(*texts.ALWAYS),
    ),
    "readings of a day (csv.gz)": (
        "2008-01-07.csv.gz",
        lambda directory: texts.local(directory).read(*texts.ALWAYS),
    ),
    "readings of a day (parquet)": (
        "2008-01-07.parquet",
        lambda directory: texts.local(directory).read(*texts.ALWAYS),
    ),
    "readings": (power.FILE_NAME, lambda directory: texts.local(directory).read(*texts.ALWAYS)),
    "readings in a zip": (
        power.ARCHIVE_NAME,
        lambda directory: texts.local(directory).read(*texts.ALWAYS),
    ),
    "images": ("mnist.npz", _read_local),
    "images of the author": (
        "cifar.tar.gz",
        lambda directory: cifar10.load(directory / "cifar.tar.gz", source="", sha256=""),
    ),
    "weights": (
        "net.h5",
        lambda directory: weights(directory, path=str(directory / "net.h5")).fetch(),
    ),
    "an output": ("output.zip", _load_output),
    "a download that is kept": (
        "cache/mnist.npz",
        lambda directory: dataset("keras", directory).fetch(),
    ),
    "an unpacked text that is kept": (
        f"cache/readings-{power.SAMPLE_SHA256}.txt",
        lambda directory: texts.sample(directory).read(*texts.ALWAYS),
    ),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_file_is_refused(place: str, kind: str, tmp_path: Path) -> None:
    name, read = PLACES[place]
    (tmp_path / name).parent.mkdir(exist_ok=True)
    ODD[kind](tmp_path / name)
    if kind == "empty file" and place in {"weights", "an unpacked text that is kept"}:
        read(tmp_path)
        return
    # A download that fails may be tried again; an output of which there is nothing is to be made.
    with pytest.raises((DataError, dg.Failure), match=r"(?i)expected.*found|The download of"):
        read(tmp_path)


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", ["odd.csv", "odd.csv.gz", "odd.parquet"])
def test_ticks_are_read_beside_what_is_no_file(name: str, kind: str, tmp_path: Path) -> None:
    feeds.write(tmp_path, "t.csv", feeds.TRADES, "2013-10-07T08:00:00Z,1,2")
    ODD[kind](tmp_path / name)
    if (name, kind) == ("odd.parquet", "empty file"):
        with pytest.raises(DataError, match="a whole Parquet file"):
            feeds.files(tmp_path).read(*feeds.ALWAYS)
        return
    assert len(feeds.files(tmp_path).read(*feeds.ALWAYS)) == 1


def test_a_file_that_may_not_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests may run as root, who may read everything."""
    feeds.write(tmp_path, "t.csv", feeds.TRADES, "2013-10-07T08:00:00Z,1,2")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("ml_assets.ml.untrusted.os.open", refuse)
    with pytest.raises(DataError, match=r"can be read: .*t\.csv; found permission denied; remedy"):
        feeds.files(tmp_path).read(*feeds.ALWAYS)


def _repeated(path: Path, rows: int, **columns: Any) -> None:
    """A file in which each column is one value, which stands there once."""
    found = [
        pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array([value]))
        for value in columns.values()
    ]
    numbers = [
        column if isinstance(value, str) else column.dictionary_decode()
        for column, value in zip(found, columns.values(), strict=True)
    ]
    pq.write_table(
        pa.table(numbers, [*columns]),
        path,
        row_group_size=rows,
        write_statistics=False,
        store_schema=False,
    )


def _many_rows(directory: Path) -> None:
    _repeated(directory / "t.parquet", 10_000_000, time=1381132800, price=1.0, size=1.0)
    source = feeds.files(directory, max_rows_per_day=1_000_000)
    source.read(feeds.MONDAY, feeds.MONDAY + feeds.DAY)


def _wide_rows(directory: Path) -> None:
    long = "x" * 100_000
    _repeated(directory / "t.parquet", 200_000, time=1381132800, price=1.0, size=1.0, side=long)
    feeds.files(directory).read(*feeds.ALWAYS)


def _many_readings(directory: Path) -> None:
    values = dict.fromkeys(texts.COLUMNS[1:], 1.0)
    _repeated(directory / "2008-01-07.parquet", 5_000_000, event_time="2008-01-07", **values)
    texts.local(directory).read(*texts.ALWAYS)


def _wide_readings(directory: Path) -> None:
    values = dict.fromkeys(texts.COLUMNS[1:], 1.0)
    _repeated(directory / "2008-01-07.parquet", 200_000, event_time="x" * 100_000, **values)
    texts.local(directory).read(*texts.ALWAYS)


def _packed_ticks(content: bytes, header: bytes = b"") -> Callable[[Path], None]:
    def read(directory: Path) -> None:
        with gzip.open(directory / "t.csv.gz", "wb", 1) as file:
            file.write(header)
            for _ in range(400):
                file.write(content)
        feeds.files(directory).read(*feeds.ALWAYS)

    return read


def _wide_header(directory: Path) -> None:
    (directory / "t.csv").write_bytes(b"time,price,size" + b",x" * 1_000_000 + b"\n1,1,1\n")
    feeds.files(directory).read(*feeds.ALWAYS)


def _packed_readings(directory: Path) -> None:
    with gzip.open(directory / "2008-01-07.csv.gz", "wb", 1) as file:
        for _ in range(400):
            file.write(bytes(MEBIBYTE))
    texts.local(directory).read(*texts.ALWAYS)


def _packed_zip(directory: Path) -> None:
    """Less than a kilobyte of bzip2 is unpacked at once, whatever one asks for."""
    path = directory / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as made:
        made.writestr("x.csv", bytes(200 * MEBIBYTE))
    for _ in ZippedText(path, "x.csv", 1 << 35, "supply it again").blocks():
        pass


def _header_of_an_array(shape: str) -> bytes:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(10)


def _giant_array(directory: Path) -> None:
    with zipfile.ZipFile(directory / "x.npz", "w") as made:
        for name in ("x_train", "y_train", "x_test", "y_test"):
            made.writestr(f"{name}.npy", _header_of_an_array("(1099511627776,)"))
    images.load(directory / "x.npz", source="", sha256="")


def _giant_array_in_an_output(directory: Path) -> None:
    sound = Arrays(np.zeros(1), np.zeros(1), {})
    content = archive.to_bytes(sound)
    forged = _header_of_an_array("(8589934592,)")
    buffer = io.BytesIO()
    import hashlib
    import json

    with zipfile.ZipFile(io.BytesIO(content)) as found, zipfile.ZipFile(buffer, "w") as made:
        record = json.loads(found.read("record.json"))
        record["sha256"] = dict.fromkeys(record["sha256"], hashlib.sha256(forged).hexdigest())
        made.writestr("record.json", json.dumps(record))
        for name in record["sha256"]:
            made.writestr(name, forged)
    archive.from_bytes(Arrays, buffer.getvalue(), "x")


def _packed_tar(directory: Path) -> None:
    with gzip.open(directory / "x.tar.gz", "wb", 1) as file:
        for _ in range(600):
            file.write(bytes(MEBIBYTE))
    cifar10.load(directory / "x.tar.gz", source="", sha256="")


BOMBS: dict[str, Callable[[Path], None]] = {
    "rows of ticks": _many_rows,
    "a long text in each tick": _wide_rows,
    "rows of readings": _many_readings,
    "a long text in each reading": _wide_readings,
    "a line of gigabytes": _packed_ticks(bytes(MEBIBYTE), b"time,price,size\n"),
    "a header of gigabytes": _packed_ticks(b"x" * MEBIBYTE),
    "a header of a million columns": _wide_header,
    "lines without fields": _packed_ticks(b"1\n" * (MEBIBYTE // 2), b"time,price,size\n"),
    "readings of gigabytes": _packed_readings,
    "a zip of gigabytes": _packed_zip,
    "an array of a terabyte": _giant_array,
    "an array of gigabytes in an output": _giant_array_in_an_output,
    "a tar of gigabytes": _packed_tar,
}


def _measured(name: str, directory: Path, answer: Any) -> None:
    """In a process of its own."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        BOMBS[name](directory)
        told = "read"
    except DataError as error:
        told = f"DataError: {error}"
    except BaseException as error:
        told = f"{type(error).__name__}: {error}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer.send((told, (peak - before) // 1024))


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_takes_little_memory(name: str, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(name, tmp_path, there))
    process.start()
    there.close()
    told, mebibytes = here.recv()
    process.join()
    assert told.startswith("DataError: expected")
    assert mebibytes < 1024, told


@contextmanager
def answering(answer: Callable[[QuietHandler], None]) -> Iterator[str]:
    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
            try:
                answer(self)
            except OSError:  # nobody listens any more
                self.close_connection = True

        do_POST = do_GET  # noqa: N815 - the name that http.server calls

    server = LoopbackServer(Handler)
    try:
        yield server.url
    finally:
        server.server.shutdown()
        server.server.server_close()


def _drip_body(handler: QuietHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    _drip_on(handler)


def _drip_header(handler: QuietHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    _drip_on(handler)


def _drip_on(handler: QuietHandler) -> None:
    while True:
        handler.wfile.write(b"x")
        time.sleep(0.1)


def _drip_chunks(handler: QuietHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n")
    _drip_on(handler)


@pytest.mark.parametrize("answer", [_drip_body, _drip_header, _drip_chunks])
def test_a_server_that_drips_is_left(
    answer: Callable[[QuietHandler], None], tmp_path: Path
) -> None:
    started = time.monotonic()
    with answering(answer) as url:
        for ask in (
            lambda: tick_archive(url, tmp_path, timeout_seconds=1).digest(
                feeds.MONDAY, feeds.MONDAY + feeds.DAY
            ),
            lambda: dataset("keras", tmp_path, url=f"{url}/x", total_seconds=1).fetch(),
            lambda: texts.uci(tmp_path, url, total_seconds=1).read(*texts.ALWAYS),
        ):
            with pytest.raises(dg.Failure, match=r"The download of http.*more than 1 s") as failure:
                ask()
            assert failure.value.allow_retries
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("answer", [_drip_body, _drip_header])
def test_an_mlflow_server_that_drips_is_left(
    answer: Callable[[QuietHandler], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    started = time.monotonic()
    with answering(answer) as url:
        resource = MlflowResource(
            experiment="mnist", tracking_uri=url, artifact_location="", ui_url=""
        )
        with (
            pytest.raises(dg.Failure, match=r"search_registered_models took more than 6 s"),
            resource.registry("digits") as registry,
        ):
            registry.champion()
    assert time.monotonic() - started < 30


def test_an_answer_that_is_packed_is_not_unpacked() -> None:
    content = gzip.compress(bytes(100 * MEBIBYTE))

    def answer(handler: QuietHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        handler.wfile.write(content)

    with answering(answer) as url:
        assert downloads.read(url, Limits(MEBIBYTE, 5, 20)) == content
        with pytest.raises(DataError, match=r"at most 1000 bytes at http.*found more; remedy"):
            downloads.read(url, Limits(1000, 5, 20))


@pytest.mark.parametrize("terminal", [True, False])
def test_a_download_has_a_progress_bar_on_a_terminal(
    terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(handler: QuietHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "2000")
        handler.end_headers()
        handler.wfile.write(bytes(2000))

    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=80)
    monkeypatch.setattr(downloads, "Console", lambda **_: console)
    with answering(answer) as url:
        downloads.download(f"{url}/a.zip?token=secret", tmp_path / "a.zip", Limits(9999, 5, 20))
    assert (tmp_path / "a.zip").read_bytes() == bytes(2000)
    assert ("downloading a.zip" in screen.getvalue()) == terminal
    assert "2.0/2.0 kB" in screen.getvalue() or not terminal
    assert "secret" not in screen.getvalue()


def test_redirects_end() -> None:
    def answer(handler: QuietHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "/again")
        handler.end_headers()

    with (
        answering(answer) as url,
        pytest.raises(dg.Failure, match="Exceeded 5 redirects"),
        downloads.downloading(url),
    ):
        downloads.read(url, Limits(1000, 5, 20))


def test_a_database_that_falls_silent_is_left(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the server is told of its time limit does not help when it hangs."""
    monkeypatch.setattr("ml_assets.resources.postgres._GRACE_SECONDS", 0)
    database = Database(postgres_url, "ticks", 5, 1)
    with (
        pytest.raises(dg.Failure, match=r"a database that answers within 1 s"),
        database.session("UTC", "nothing") as cursor,
    ):
        cursor.execute("SET statement_timeout = 0; SELECT pg_sleep(60)")
