"""The parts of the files of a directory, found once for each version of a file.

Loaded when a step runs.
"""

import dataclasses
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from upath import UPath

from ml_assets.ml.archive import write_atomically
from ml_assets.ml.days import midnight, nanoseconds
from ml_assets.ml.errors import DataError
from ml_assets.ml.untrusted import check_regular, parsing
from ml_assets.resources.ticks import csv_files, parquet_files
from ml_assets.resources.ticks.parts import Form, Part
from ml_assets.resources.ticks.rows import joined_digest
from ml_assets.resources.ticks.times import DAY_NS, LAST_NS

SUFFIXES = (".csv", ".csv.gz", ".parquet")
VERSION = 2
"""What is remembered of files, digests above all, is another thing under another version."""
_AT_ONCE = 2
"""How many files are looked through side by side; each takes the memory of a block."""
_EPOCH = date(1970, 1, 1)
_LOOKING = Lock()
_BELIEVED_SECONDS = 60
"""How long a file counts as damaged before it is looked through again: not for each day of a range,
and yet when the same file can be read after all, because the disk is back."""

logger = logging.getLogger(__name__)

Window = tuple[datetime, datetime]


class File(NamedTuple):
    """A version of a file.

    Attributes:
        path: Where it is.
        size: In bytes.
        modified_ns: When it was last changed, since 1970.
    """

    path: str
    size: int
    modified_ns: int


@dataclass(frozen=True)
class Damaged:
    """A file that cannot be read, and the times that it may have held.

    Attributes:
        error: Why it cannot be read.
        first_ns: The earliest time.
        last_ns: The latest.
    """

    error: DataError
    first_ns: int
    last_ns: int


@dataclass(frozen=True)
class Index:
    """The parts of some files, file by file in the order of their first times.

    Attributes:
        parts: Each with its file.
        first_ns: The earliest time by which a row of each belongs to a window.
        last_ns: The latest.
        damaged: The files that cannot be read.
        looked: When they were looked through, on the monotonic clock.
    """

    parts: list[tuple[Path, Part]]
    first_ns: np.ndarray
    last_ns: np.ndarray
    damaged: list[Damaged]
    looked: float

    def within(self, start: int, end: int) -> list[tuple[Path, Part]]:
        """The parts that may have rows of a window, in nanoseconds.

        Raises:
            DataError: A file that cannot be read may have rows of it.
        """
        for file in self.damaged:
            if file.first_ns < end and file.last_ns >= start:
                raise file.error.with_traceback(None)
        found = np.flatnonzero((self.first_ns < end) & (self.last_ns >= start))
        return [self.parts[number] for number in found]


def find(directory: Path) -> tuple[File, ...]:
    """The files of a directory that may have ticks.

    Names that begin with a dot are left out, and so is what is no file: directories, pipes, links
    that lead nowhere.

    Raises:
        DataError: The directory cannot be read.
    """
    with parsing(f"a directory that can be read: {directory}", "correct its permissions"):
        names = os.listdir(directory)  # noqa: PTH208 - names are enough
    found = []
    for name in names:
        if not name.startswith(".") and name.lower().endswith(SUFFIXES):
            try:
                path = directory / name
                status = check_regular(path)
            except DataError as error:
                if not path.is_dir():
                    logger.warning("left out: %s", error)
            else:
                found.append(File(str(path), status.st_size, status.st_mtime_ns))
    return tuple(sorted(found))


def read(
    files: tuple[File, ...], form: Form, cache: Path | None, window: Window
) -> Iterator[pl.DataFrame]:
    """The ticks of a window, file by file in the order of their first times."""
    start, end = map(_nanoseconds, window)
    found = _index(files, form, cache).within(start, end)
    for path, parts in groupby(found, itemgetter(0)):
        yield from _kind(path).read(path, form, [part for _, part in parts], start, end)


def digest(files: tuple[File, ...], form: Form, cache: Path | None, window: Window) -> str:
    """SHA-256 of names and digests of the parts that may have ticks of a window."""
    return _digest(_index(files, form, cache).within(*map(_nanoseconds, window)), form)


def _nanoseconds(moment: datetime) -> int:
    """A time in nanoseconds since 1970, or the nearest one that there is."""
    return min(max(nanoseconds(moment), -LAST_NS), LAST_NS)


def days(files: tuple[File, ...], form: Form, cache: Path | None, timezone: str) -> dict[date, str]:
    """The digests of the days of a time zone that have ticks, in order.

    Raises:
        DataError: A file cannot be read.
    """
    index = _index(files, form, cache)
    if index.damaged:
        raise index.damaged[0].error.with_traceback(None)
    in_utc = {day for _, part in index.parts for day in part.days}
    found = {}
    # A day of any time zone shares hours with two UTC days, of which it may be the first or last.
    for number in sorted({day + shift for day in in_utc for shift in (-1, 0, 1)}):
        day = _EPOCH + timedelta(days=number)
        start, end = (
            nanoseconds(midnight(day + timedelta(days=later), timezone)) for later in (0, 1)
        )
        touched = {start // DAY_NS, (end - 1) // DAY_NS}
        parts = index.within(start, end)
        if any(touched.intersection(part.days) for _, part in parts):
            found[day] = _digest(parts, form)
    return found


def _digest(parts: list[tuple[Path, Part]], form: Form) -> str:
    told = [f"{path.name} {part.row} {part.before_ns} {part.digest}" for path, part in parts]
    return joined_digest([form.timezone, *form.columns, *told])


def _index(files: tuple[File, ...], form: Form, cache: Path | None) -> Index:
    """What is known of these files; who asks while they are looked through waits."""
    with _LOOKING:
        found = _looked_through(files, form, cache)
        if found.damaged and time.monotonic() - found.looked > _BELIEVED_SECONDS:
            _looked_through.cache_clear()
            found = _looked_through(files, form, cache)
        return found


@lru_cache(maxsize=2)
def _looked_through(files: tuple[File, ...], form: Form, cache: Path | None) -> Index:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        every = list(pool.map(lambda file: _parts_or_error(file, form, cache), files))
    looked = list(zip((Path(file.path) for file in files), every, strict=True))
    known = [(path, parts) for path, parts in looked if parts and isinstance(parts, tuple)]
    known.sort(key=lambda file: (min(part.first_ns for part in file[1]), file[0].name))
    found = [(path, part) for path, parts in known for part in parts]
    first, last = (
        np.array([getattr(part, name) for _, part in found], np.int64)
        for name in ("first_ns", "last_ns")
    )
    errors = [(path, error) for path, error in looked if isinstance(error, DataError)]
    hours = _hours(found)
    damaged = [Damaged(error, *_span(path, hours)) for path, error in errors]
    return Index(found, first, last, damaged, time.monotonic())


def _hours(parts: list[tuple[Path, Part]]) -> tuple[int, int] | None:
    """From when to when files have ticks, in nanoseconds since the day in their name begins.

    None if none has a day in its name, or if one is of another day altogether.
    """
    named = [(part, day) for path, part in parts if (day := _named(path)) is not None]
    if not named:
        return None
    first = min(part.first_ns - day for part, day in named)
    last = max(part.last_ns - day for part, day in named)
    return (first, last) if first > -DAY_NS and last < 2 * DAY_NS else None


def _span(path: Path, hours: tuple[int, int] | None) -> tuple[int, int]:
    """From when to when a damaged file may have had ticks: at all times, if nothing tells it."""
    day = _named(path)
    if day is None or hours is None:
        limits = np.iinfo(np.int64)
        return int(limits.min), int(limits.max)
    return day + hours[0], day + hours[1]


def _named(path: Path) -> int | None:
    """When the one day in a file's name begins, in nanoseconds.

    >>> _named(Path("SPY_1970-01-02.csv")) == _named(Path("trades-19700102.parquet")) == DAY_NS
    True
    """
    days = re.findall(r"(?<!\d)(\d{4})[-_]?(\d{2})[-_]?(\d{2})(?!\d)", path.name)
    try:
        [day] = {date(*map(int, found)) for found in days}
    except ValueError:
        return None
    return (day - _EPOCH).days * DAY_NS


def _parts_or_error(file: File, form: Form, cache: Path | None) -> tuple[Part, ...] | DataError:
    """The parts of a file, or why it cannot be read."""
    try:
        return _parts(file, form, cache)
    except DataError as error:
        return error.with_traceback(None)


@lru_cache(maxsize=4096)
def _parts(file: File, form: Form, cache: Path | None) -> tuple[Part, ...]:
    """The parts of a file, from the cache where it has this version of the file."""
    path = Path(file.path)
    if cache is None:
        return tuple(_kind(path).index(path, form))
    version = (file.size, file.modified_ns)
    told = json.dumps([VERSION, str(path.absolute()), *version, dataclasses.astuple(form)])
    name = hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:16]
    kept = UPath(cache) / f"ticks-{path.name}-{name}.json"
    if (known := _remembered(kept, told)) is not None:
        return known
    parts = tuple(_kind(path).index(path, form))
    listed = [dataclasses.asdict(part) for part in parts]
    record = {"of": told, "parts": listed, "sha256": _digest_of(listed)}
    write_atomically(kept, json.dumps(record).encode())
    return parts


def _remembered(kept: UPath, told: str) -> tuple[Part, ...] | None:
    """The parts that a cache holds of this version of a file; None if it has no such thing.

    A cache that is damaged is as good as none.
    """
    if not kept.is_file():
        return None
    try:
        with parsing(f"what is remembered of a file of ticks at {kept}", "delete it"):
            known = json.loads(kept.read_bytes())
            if known["of"] != told:
                return None
            # Those of earlier releases have no digest.
            if known.get("sha256", (digest := _digest_of(known["parts"]))) != digest:
                raise ValueError("another digest")
            return tuple(Part.checked(**part) for part in known["parts"])
    except DataError as error:
        logger.warning("looked through again: %s", error)
        return None


def _digest_of(listed: list[dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def _kind(path: Path) -> ModuleType:
    """The module that reads files of this kind."""
    return parquet_files if path.name.lower().endswith(".parquet") else csv_files
