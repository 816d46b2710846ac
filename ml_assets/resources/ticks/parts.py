"""Parts of a file, and the times in each, so that a window reads no more than it needs.

Loaded when a step runs.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from ml_assets.ml.errors import DataError
from ml_assets.resources.ticks.times import DAY_NS, LAST_NS

_MOST_RUNS = 32
UNKNOWN_NS = -LAST_NS


@dataclass(frozen=True)
class Form:
    """What is known of files beforehand.

    Attributes:
        timezone: The time zone of times that do not say theirs.
        columns: What columns are, and what they are called, in place of the known spellings.
        max_bytes: The most bytes that an unpacked file may have.
    """

    timezone: str
    columns: tuple[tuple[str, str], ...]
    max_bytes: int


@dataclass(frozen=True)
class Part:
    """Some rows of a file.

    Attributes:
        start: Where they are: the first byte of a text, or the row group of a Parquet file.
        end: The byte, or row group, after them.
        row: Number of the first.
        before_ns: The last time that can be read before them; None if there is none.
        first_ns: The earliest time by which one of them belongs to a window.
        last_ns: The latest.
        days: The UTC days of these times, in days since 1970.
        digest: XXH3 of the bytes of a text that the rows are in, SHA-256 of a Parquet file.
    """

    start: int
    end: int
    row: int
    before_ns: int | None
    first_ns: int
    last_ns: int
    days: list[int]
    digest: str

    @classmethod
    def checked(cls, **known: Any) -> "Part":
        """The part of which a cache says this.

        Raises:
            TypeError: It says other things, or of another kind.
        """
        part = cls(**known)
        numbers = [part.start, part.end, part.row, part.before_ns or 0, part.first_ns, part.last_ns]
        if any(type(number) is not int for number in (*numbers, *part.days)):
            raise TypeError("whole numbers expected")
        if max(map(abs, (*numbers, *part.days))) > LAST_NS or type(part.digest) is not str:
            raise TypeError("numbers of 64 bits and a digest expected")
        return part


def within(found: pl.DataFrame, part: Part, start: int, end: int) -> pl.DataFrame:
    """The ticks of a part that belong to a window."""
    if start <= part.first_ns and part.last_ns < end:
        return found
    place = pl.col("place_ns").backward_fill().fill_null(part.first_ns)
    return found.filter((place >= start) & (place < end))


def runs(place: pl.Series) -> list[int]:
    """Where rows of another UTC day begin; only the beginning if the days are all mixed up."""
    first, last, _ = times_of(place)
    if first // DAY_NS == last // DAY_NS:
        return [0]
    days = (place // DAY_NS).fill_null(strategy="backward").to_numpy()
    changes = (np.flatnonzero(days[1:] != days[:-1]) + 1).tolist()
    return [0, *changes] if len(changes) < _MOST_RUNS else [0]


def times_of(place: pl.Series) -> tuple[int, int, list[int]]:
    """First and last time of rows, and their UTC days; unknown ones if no time is known."""
    first, last = place.min(), place.max()
    if not isinstance(first, int) or not isinstance(last, int):
        return UNKNOWN_NS, UNKNOWN_NS, []
    if first // DAY_NS == last // DAY_NS:
        return first, last, [first // DAY_NS]
    return first, last, (place.drop_nulls() // DAY_NS).unique().sort().to_list()


def joined(found: Iterable[tuple[int, int, list[int]]]) -> tuple[int, int, list[int]]:
    """What `times_of` says of rows, given what it says of some after the other."""
    known = [times for times in found if times[2]]
    if not known:
        return UNKNOWN_NS, UNKNOWN_NS, []
    firsts, lasts, days = zip(*known, strict=True)
    return min(firsts), max(lasts), sorted(set().union(*days))


def last_of(place: pl.Series, before: int | None) -> int | None:
    """The time by which the next row belongs to a window, if its own cannot be read."""
    return place[-1] if len(place) else before


def complete(parts: Iterable[Part], name: str) -> list[Part]:
    """The parts, those before the first readable time with that time.

    Raises:
        DataError: There are rows, and none has a readable time.
    """
    found = list(parts)
    lead = next((part for part in found if part.days), None)
    if found and lead is None:
        raise DataError(
            f"times in {name}: ISO 8601, or seconds, milliseconds, microseconds or nanoseconds "
            "since 1970",
            "none that can be read",
            "correct the times, or say in `columns` which column has them",
        )
    return list(_led(found, lead)) if lead else found


def _led(parts: Iterable[Part], lead: Part) -> Iterator[Part]:
    for part in parts:
        known = part if part.days else lead
        yield dataclasses.replace(
            part, first_ns=known.first_ns, last_ns=known.last_ns, days=known.days
        )
