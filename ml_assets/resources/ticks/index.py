"""The parts of the files of a directory, found once for each version of a file.

Loaded when a step runs.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import polars as pl
from upath import UPath

from ml_assets.ml.archive import write_atomically
from ml_assets.ml.days import midnight, nanoseconds
from ml_assets.resources.archives import version
from ml_assets.resources.ticks import csv_files, parquet_files
from ml_assets.resources.ticks.parts import Form, Part
from ml_assets.resources.ticks.rows import joined_digest
from ml_assets.resources.ticks.times import DAY_NS

SUFFIXES = (".csv", ".csv.gz", ".parquet")
_VERSION = 1
_AT_ONCE = 2
"""How many files are looked through side by side; each takes the memory of a block."""
_EPOCH = date(1970, 1, 1)

Window = tuple[datetime, datetime]
_File = tuple[Path, tuple[Part, ...]]


def find(directory: Path) -> list[Path]:
    """The files of a directory that may have ticks; names that begin with a dot are left out."""
    with os.scandir(directory) as entries:
        names = sorted(
            entry.name
            for entry in entries
            if entry.name.lower().endswith(SUFFIXES)
            and not entry.name.startswith(".")
            and entry.is_file()
        )
    return [directory / name for name in names]


def read(
    files: list[Path], form: Form, cache: Path | None, window: Window
) -> Iterator[pl.DataFrame]:
    """The ticks of a window, file by file in the order of their first times."""
    start, end = map(nanoseconds, window)
    for path, parts in _ordered(_touched(files, form, cache, start, end)):
        wanted = [part for part in parts if part.overlaps(start, end)]
        yield from _kind(path).read(path, form, wanted, start, end)


def digest(files: list[Path], form: Form, cache: Path | None, window: Window) -> str:
    """SHA-256 of names and digests of the parts that may have ticks of a window."""
    start, end = map(nanoseconds, window)
    return _digest(_ordered(_touched(files, form, cache, start, end)), form, start, end)


def days(files: list[Path], form: Form, cache: Path | None, timezone: str) -> dict[date, str]:
    """The digests of the days of a time zone that have ticks, in order."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        ordered = _ordered(pool.map(lambda path: _file(path, form, cache), files))
    in_utc = {day for _, parts in ordered for part in parts for day in part.days}
    found = {}
    # A day of any time zone shares hours with two UTC days, of which it may be the first or last.
    for number in sorted({day + shift for day in in_utc for shift in (-1, 0, 1)}):
        day = _EPOCH + timedelta(days=number)
        start, end = (
            nanoseconds(midnight(day + timedelta(days=later), timezone)) for later in (0, 1)
        )
        touched = {start // DAY_NS, (end - 1) // DAY_NS}
        if any(
            part.overlaps(start, end) and touched.intersection(part.days)
            for _, parts in ordered
            for part in parts
        ):
            found[day] = _digest(ordered, form, start, end)
    return found


def _digest(ordered: list[_File], form: Form, start: int, end: int) -> str:
    parts = [
        f"{path.name} {part.row} {part.before_ns} {part.sha256}"
        for path, parts in ordered
        for part in parts
        if part.overlaps(start, end)
    ]
    return joined_digest([form.timezone, *form.columns, *parts])


def _touched(
    files: list[Path], form: Form, cache: Path | None, start: int, end: int
) -> Iterator[_File]:
    """The files that may have ticks of a window: of years of files, a few."""
    for path in files:
        file = _file(path, form, cache)
        if any(part.overlaps(start, end) for part in file[1]):
            yield file


def _file(path: Path, form: Form, cache: Path | None) -> _File:
    return path, _parts(path, form, cache, version(path))


def _ordered(files: Iterable[_File]) -> list[_File]:
    """The files that have ticks, in the order of their first times."""
    return sorted(
        ((path, parts) for path, parts in files if parts),
        key=lambda file: (min(part.first_ns for part in file[1]), file[0].name),
    )


@lru_cache(maxsize=4096)
def _parts(path: Path, form: Form, cache: Path | None, found: tuple[int, int]) -> tuple[Part, ...]:
    """The parts of a file, from the cache where it has this version of the file."""
    if cache is None:
        return tuple(_kind(path).index(path, form))
    told = json.dumps([_VERSION, str(path.absolute()), *found, dataclasses.astuple(form)])
    name = hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:16]
    kept = UPath(cache) / f"ticks-{path.name}-{name}.json"
    if kept.is_file():
        known = json.loads(kept.read_text())
        if known["of"] == told:
            return tuple(Part(**part) for part in known["parts"])
    parts = tuple(_kind(path).index(path, form))
    record = {"of": told, "parts": [dataclasses.asdict(part) for part in parts]}
    write_atomically(kept, json.dumps(record).encode())
    return parts


def _kind(path: Path) -> ModuleType:
    """The module that reads files of this kind."""
    return parquet_files if path.name.lower().endswith(".parquet") else csv_files
