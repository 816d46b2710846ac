"""The parts of the files of a directory, found once for each version of a file.

Loaded when a step runs.
"""

import dataclasses
import hashlib
import json
import logging
import os
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
class Index:
    """The parts of some files, file by file in the order of their first times.

    Attributes:
        parts: Each with its file.
        first_ns: The earliest time by which a row of each belongs to a window.
        last_ns: The latest.
    """

    parts: list[tuple[Path, Part]]
    first_ns: np.ndarray
    last_ns: np.ndarray

    def within(self, start: int, end: int) -> list[tuple[Path, Part]]:
        """The parts that may have rows of a window, in nanoseconds."""
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
    """The digests of the days of a time zone that have ticks, in order."""
    index = _index(files, form, cache)
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
        return _looked_through(files, form, cache)


@lru_cache(maxsize=2)
def _looked_through(files: tuple[File, ...], form: Form, cache: Path | None) -> Index:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        # In here, so that of files after a damaged one no more are begun.
        every = list(pool.map(lambda file: _parts(file, form, cache), files))
    known = [(Path(file.path), parts) for file, parts in zip(files, every, strict=True) if parts]
    known.sort(key=lambda file: (min(part.first_ns for part in file[1]), file[0].name))
    found = [(path, part) for path, parts in known for part in parts]
    first, last = (
        np.array([getattr(part, name) for _, part in found], np.int64)
        for name in ("first_ns", "last_ns")
    )
    return Index(found, first, last)


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
