"""Files that somebody damaged, and the readers that have to tell them from sound ones.

Each reader gets a directory and the bytes of one file. What it may do with them is to read them
or to raise `DataError`. Used by the property tests (`test_damage.py`) and by the longer fuzzer
(`fuzz.py`).
"""

import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ml_assets.cifar10 import data as cifar10
from ml_assets.ml import archive, images
from ml_assets.power import data as power
from ml_assets.resources.archives import ZippedText
from ml_assets.resources.ticks import csv_files
from ml_assets_tests.resources.readings import texts
from ml_assets_tests.resources.ticks import feeds

KINDS = ("flip", "set", "cut", "remove", "repeat", "insert", "swap", "number", "text")
"""Ways to damage a file: `apply_edit` says what each does."""

SCALE = 1 << 16
_NUMBERS = (0, 1, 2**7, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
_TEXTS = (
    *(b"null", b"NaN", b"-1", b"1e999", b"9999-12-31T23:59:59Z", b"0001-01-01 00:00:00", b'"'),
    *(b"[" * 3000, b"{}", b"\x00", b"\xff\xfe", b"\n" * 50, b"," * 50, b"99999999999999999999"),
    *(b"'descr': '|O'", b"(1099511627776,)", b"True", b"\\ud800", b"\xe2\x80\xa8"),
)


@dataclass(frozen=True)
class Edit:
    """One damage: of what kind, where (0 to 65535, as a share of the file), how much, with what.

    Places are counted from both ends of a file in turn, where its headers are, as well as evenly.
    """

    kind: str
    at: int
    size: int
    value: int


def random_edits(random: Random) -> list[Edit]:
    """One to four damages."""
    return [
        Edit(
            random.choice(KINDS),
            random.randrange(SCALE),
            random.choice((1, 2, 4, 8, 16, 64, 512, 4096)),
            random.randrange(SCALE),
        )
        for _ in range(random.choice((1, 1, 1, 2, 4)))
    ]


def damaged(content: bytes, edits: list[Edit]) -> bytes:
    """The file after some damages, one upon the other."""
    for edit in edits:
        content = apply_edit(content, edit)
    return content


def apply_edit(content: bytes, edit: Edit) -> bytes:  # noqa: PLR0911 - one a kind
    """The file after one damage."""
    if not content:
        return content
    place = _place(len(content), edit.at)
    before, rest = content[:place], content[place:]
    size = min(edit.size, len(rest))
    match edit.kind:
        case "flip":
            return before + bytes([rest[0] ^ 1 << edit.value % 8]) + rest[1:]
        case "set":
            return before + bytes([edit.value % 256]) * size + rest[size:]
        case "cut":
            return before
        case "remove":
            return before + rest[size:]
        case "repeat":
            return before + rest[:size] * (2 + edit.value % 30) + rest[size:]
        case "insert":
            return before + Random(edit.value).randbytes(size) + rest
        case "swap":
            other = edit.value * len(content) // SCALE
            return before + content[other : other + size] + rest[size:]
        case "number":
            width, order = ((2, "little"), (4, "little"), (8, "little"), (4, "big"))[edit.at % 4]
            number = _NUMBERS[edit.value % len(_NUMBERS)] % 2 ** (8 * width)
            return before + number.to_bytes(width, order) + rest[width:]  # type: ignore[arg-type]
        case _:
            return before + _TEXTS[edit.value % len(_TEXTS)] + rest[edit.size % 20 :]


def _place(length: int, at: int) -> int:
    """Every third place is near the beginning, every third near the end."""
    near = min(length, 256)
    if at % 3 == 0:
        return at // 3 % near
    if at % 3 == 1:
        return length - 1 - at // 3 % near
    return at * length // SCALE


@dataclass(frozen=True)
class Reader:
    """What reads a file, and sound files of it by name.

    Attributes:
        seeds: Sound files.
        read: Reads one, in a directory of its own that has nothing else.
        members: Whether damage goes inside: to a member of a zip, whose record stays in order.
    """

    seeds: dict[str, bytes]
    read: Callable[[Path, str, bytes], object]
    damage: Callable[[bytes, list[Edit]], bytes] = damaged


@dataclass(frozen=True)
class Output:
    """A step's output with one field of each kind."""

    numbers: np.ndarray
    words: np.ndarray
    note: dict[str, Any]
    booster: Any


@dataclass(frozen=True)
class Arrays:
    """The same without a model: LightGBM's parser, in C++, dies of a damaged text.

    Nothing but its digest stands between a booster and that parser.
    """

    numbers: np.ndarray
    words: np.ndarray
    note: dict[str, Any]


def _booster() -> Any:
    import lightgbm as lgb

    rows = np.random.default_rng(0).normal(size=(40, 2))
    settings = {"verbose": -1, "num_leaves": 4, "min_data_in_leaf": 2}
    return lgb.train(settings, lgb.Dataset(rows, rows[:, 0]), 2)


def _inside(content: bytes, edits: list[Edit], *, vouched: bool = False) -> bytes:
    """A zip of which one member, or its name, is damaged; its checksums are in order.

    Args:
        content: The zip.
        edits: The damages.
        vouched: Whether the digests in the record are in order too.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as found:
        members = {name: found.read(name) for name in found.namelist()}
    names = list(members)
    chosen = names[edits[0].value % len(names)]
    members[chosen] = damaged(members[chosen], edits)
    if edits[0].size == 2:
        other = names[edits[-1].at % len(names)]
        members[chosen], members[other] = members[other], members[chosen]
    if vouched and "record.json" in members:
        try:
            record = json.loads(members["record.json"])
            for name in record["sha256"]:
                record["sha256"][name] = hashlib.sha256(members[name]).hexdigest()
            members["record.json"] = json.dumps(record).encode()
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
    buffer = io.BytesIO()
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2)
    with zipfile.ZipFile(buffer, "w", methods[edits[0].at // 7 % 4]) as made:
        for name, member in members.items():
            made.writestr(name, member)
    return buffer.getvalue()


def _write(directory: Path, name: str, content: bytes) -> Path:
    path = directory / name
    path.write_bytes(content)
    return path


def _load_output(directory: Path, name: str, content: bytes) -> None:
    archive.from_bytes(Output, content, name)


def _load_arrays(directory: Path, name: str, content: bytes) -> None:
    archive.from_bytes(Arrays, content, name)


def _load_images(directory: Path, name: str, content: bytes) -> None:
    raw = images.load(_write(directory, name, content), source="here", sha256="")
    images.split(raw, validation_fraction=0.5, seed=0)


def _load_cifar10(directory: Path, name: str, content: bytes) -> None:
    cifar10.load(_write(directory, name, content), source="here", sha256="")


def _read_ticks(directory: Path, name: str, content: bytes) -> None:
    _write(directory, name, content)
    source = feeds.files(directory)
    source.read(*feeds.ALWAYS)
    source.read(feeds.MONDAY, feeds.MONDAY + feeds.DAY)
    source.digest(feeds.MONDAY, feeds.MONDAY + feeds.DAY)
    source.days("America/New_York")


def _read_cached_ticks(directory: Path, name: str, content: bytes) -> None:
    """What is damaged is what is remembered of a sound file."""
    path = feeds.write(directory, "t.csv", "time,price,size", "2013-10-07T08:00:00Z,1,2")
    source = feeds.files(directory, cache_directory=str(directory / "cache"))
    source.days()
    [kept] = (directory / "cache").iterdir()
    kept.write_bytes(content.replace(b"@", json.dumps(json.loads(kept.read_text())["of"]).encode()))
    from ml_assets.resources.ticks import index

    index._parts.cache_clear()
    index._looked_through.cache_clear()
    assert path.is_file()
    source.days()
    source.read(feeds.MONDAY, feeds.MONDAY + feeds.DAY)


def _read_zipped_ticks(directory: Path, name: str, content: bytes) -> None:
    path = _write(directory, name, content)
    zipped = ZippedText(path, "trades.csv", 1 << 24, "supply it again")
    fields = csv_files.named(["time", "price", "size"], name)
    for _ in csv_files.streamed(zipped.blocks(), fields, 0, (0, 2**62)):
        pass


def _read_readings(directory: Path, name: str, content: bytes) -> None:
    _write(directory, name, content)
    source = texts.local(directory, max_bytes=1 << 24)
    for window in ((texts.MONDAY, texts.MONDAY + 3 * texts.DAY), texts.ALWAYS):
        lines = source.read(*window)
        source.digest(*window)
        if len(lines):
            first = min(lines["day"].to_pylist())
            _clean(lines, first)


def _clean(lines: pa.Table, day: Any) -> None:
    """The lines of a day, as the step after it takes them."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    if not 1700 < day.year < 2200:
        return
    end = start + timedelta(days=1)
    of_day = lines.filter(pa.compute.equal(lines["day"], day))
    raw = power.arrived(of_day, start, end, "UTC", "here")
    power.clean(raw, start, end, "UTC", 1.0)


def _npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as found:
        for name in [*cifar10._BATCHES, cifar10._TEST_BATCH]:
            content = bytes([1, *range(256)] * 12)[: cifar10._RECORD].ljust(cifar10._RECORD, b"x")
            member = tarfile.TarInfo(name)
            member.size = len(content)
            found.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _parquet_of_ticks() -> dict[str, bytes]:
    frame = feeds.sample_frame(days=1).head(300)
    plain = io.BytesIO()
    pq.write_table(frame.to_arrow(), plain, row_group_size=100)
    words = io.BytesIO()
    table = pa.table(
        {
            "timestamp": [str(time) for time in frame["timestamp"]],
            "price": pa.array(frame["price"].cast(str)),
            "size": frame["size"].to_arrow(),
            "side": ["buy", "sell", "?"] * 100,
        }
    )
    pq.write_table(table, words, compression="none")
    return {"plain.parquet": plain.getvalue(), "words.parquet": words.getvalue()}


def _parquet_of_readings() -> dict[str, bytes]:
    times = [datetime(2008, 1, 7, 0, minute) for minute in range(60)]  # noqa: DTZ001
    values = {name: np.linspace(1, 2, 60) for name in texts.COLUMNS[1:]}
    found = {}
    for name, kind, chosen in (
        ("2008-01-07.parquet", pa.timestamp("us"), "snappy"),
        ("of 2008-01-07.parquet", pa.timestamp("ns", "UTC"), "zstd"),
        ("x2008-01-07.parquet", pa.string(), "none"),
    ):
        buffer = io.BytesIO()
        stamps = pa.array(times, pa.timestamp("us")).cast(kind)
        pq.write_table(pa.table({"event_time": stamps} | values), buffer, compression=chosen)
        found[name] = buffer.getvalue()
    return found


@cache
def readers() -> dict[str, Reader]:
    """The readers of foreign bytes by name."""
    values = (np.arange(24.0).reshape(4, 6), np.array(["a", "b"]), {"rate": 1})
    output = archive.to_bytes(Output(*values, _booster()))
    arrays = archive.to_bytes(Arrays(*values))
    pixels = np.arange(20 * 28 * 28, dtype=np.uint8).reshape(20, 28, 28)
    labels = np.arange(20, dtype=np.uint8) % 2
    npz = _npz(x_train=pixels, y_train=labels, x_test=pixels[:4], y_test=labels[:4])
    moments = [feeds.MONDAY + minute * timedelta(minutes=7) for minute in range(60)]
    trades = [f"{moment:%Y-%m-%dT%H:%M:%S}Z,{100 + n},1" for n, moment in enumerate(moments)]
    epochs = [f"{feeds.ns(moment) // 10**6};100.5;101;buy" for moment in moments]
    csv = "\n".join(["time,price,size", *trades, ""]).encode()
    csvs = {
        "trades.csv": csv,
        "quotes.csv": "\r\n".join(["Time;Bid;Ask;Side", *epochs]).encode(),
        "local.csv": b"date,time,price,size\n2013-10-07,08:00:00,1,2\n2013-10-07,08:00:01,1,2\n",
    }
    moment = feeds.ns(feeds.MONDAY)
    part = {"start": 16, "end": 41, "row": 1, "before_ns": None, "first_ns": moment}
    part |= {"last_ns": moment, "days": [15985], "digest": "x"}
    remembered = json.dumps({"of": 0, "parts": [part]}).replace("0", "@", 1)
    uci = texts.THREE_DAYS
    columns = ",".join(texts.COLUMNS)
    own = "\n".join(
        [columns, *(f"2008-01-07 00:{minute:02}:00,1,0.1,240,4,0,0,1" for minute in range(60))]
    ).encode()
    readings_zip = texts.zipped(uci)
    return {
        "outputs": Reader({"output.zip": output}, _load_output),
        "outputs, inside": Reader({"output.zip": output}, _load_output, _inside),
        "outputs, vouched for": Reader(
            {"output.zip": arrays}, _load_arrays, partial(_inside, vouched=True)
        ),
        "images (npz)": Reader({"mnist.npz": npz}, _load_images),
        "images (npz), inside": Reader({"mnist.npz": npz}, _load_images, _inside),
        "images (tar.gz)": Reader({"c.tar.gz": _tar()}, _load_cifar10),
        "images (tar.gz), inside": Reader({"c.tar.gz": _tar()}, _load_cifar10, _regzipped),
        "ticks (csv)": Reader(csvs, _read_ticks),
        "ticks (csv.gz)": Reader({"trades.csv.gz": gzip.compress(csv)}, _read_ticks),
        "ticks (parquet)": Reader(_parquet_of_ticks(), _read_ticks),
        "ticks (zip)": Reader(
            {"t.zip": texts.zipped("\n".join(trades).encode(), "trades.csv")}, _read_zipped_ticks
        ),
        "ticks (zip), inside": Reader(
            {"t.zip": texts.zipped("\n".join(trades).encode(), "trades.csv")},
            _read_zipped_ticks,
            _inside,
        ),
        "ticks (index)": Reader({"index.json": remembered.encode()}, _read_cached_ticks),
        "readings (txt)": Reader({power.FILE_NAME: uci}, _read_readings),
        "readings (csv)": Reader({"2008-01-07.csv": own}, _read_readings),
        "readings (csv.gz)": Reader({"2008-01-07.csv.gz": gzip.compress(own)}, _read_readings),
        "readings (parquet)": Reader(_parquet_of_readings(), _read_readings),
        "readings (zip)": Reader({power.ARCHIVE_NAME: readings_zip}, _read_readings),
        "readings (zip), inside": Reader(
            {power.ARCHIVE_NAME: readings_zip}, _read_readings, _inside
        ),
    }


def _regzipped(content: bytes, edits: list[Edit]) -> bytes:
    return gzip.compress(damaged(gzip.decompress(content), edits))
