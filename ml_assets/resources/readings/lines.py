"""Lines in UCI's form: which lines of a text file belong to which day.

A file is read once, in blocks, for the places of its days; a window then reads its own bytes.
Loaded when a step runs.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import date, timedelta
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml_assets.ml.errors import DataError
from ml_assets.ml.untrusted import open_regular
from ml_assets.resources.archives import version

SCHEMA = pa.schema([("day", pa.date32()), ("line", pa.int64()), ("text", pa.string())])

MAX_LINE_BYTES = 1 << 20
MAX_DAY_LINES = 1 << 22
"""48 a second."""

_MAX_BYTES = 1 << 30
_MAX_RUNS = 1 << 20
_FIRST_YEAR, _LAST_YEAR = 1678, 2261  # what 64 bits of nanoseconds can say
_BLOCK = 1 << 22
_DATE = re.compile(rb"(\d{1,2})/(\d{1,2})/(\d{4});")
_DATE_BYTES = len("31/12/2008;")
_HEADER_BYTES = 4096
_LF, _CR = b"\n\r"


class Run(NamedTuple):
    """Consecutive lines of one day.

    Attributes:
        day: The day.
        start: Where they start in the file, in bytes.
        end: Where they end, not included.
        line: Number of the first.
    """

    day: date
    start: int
    end: int
    line: int


def read(path: Path, header: str, start: date, end: date) -> pa.Table:
    """The lines of the days from `start` to before `end`, wherever they are in the file.

    Args:
        path: A text file in UCI's form; its lines end with LF or CR LF.
        header: What its first line must be, in upper or lower case.
        start: The first day.
        end: The day after the last.

    Raises:
        DataError: The first line is another, or no line has a readable date.
    """
    runs = [run for run in _file_runs(path, header, version(path)) if start <= run.day < end]
    with open_regular(path) as file:
        return table(file, runs)


def is_header(line: bytes, header: str) -> bool:
    """Whether a line is the header, a byte order mark and the case of the letters aside."""
    return line.decode("utf-8-sig", "replace").strip().lower() == header.lower()


@lru_cache(maxsize=8)
def _file_runs(path: Path, header: str, _: tuple[int, int]) -> list[Run]:
    with open_regular(path) as file:
        first = file.readline(_HEADER_BYTES)
        if not is_header(first, header):
            raise DataError(
                f"the header {header} in {path}",
                repr(first[:200]),
                "supply a file in the form of UCI's household_power_consumption.txt",
            )
        runs = find_runs(file, line=2)
        file.seek(len(first))
        if not runs and (text := file.read(_HEADER_BYTES).strip()):
            raise DataError(
                f"lines that start with a date such as 31/12/2008; in {path}",
                f"none; the first are {text[:100]!r}",
                "supply a file in the form of UCI's household_power_consumption.txt",
            )
        return runs


def find_runs(file: BinaryIO, line: int) -> list[Run]:
    """The runs of a file from its present position on, where the line numbered `line` starts.

    Lines without a readable date belong to the run before them, or else to the first.
    """
    position = origin = file.tell()
    found: list[tuple[date, int, int]] = []
    begin, first_line = np.array([0]), line
    # A block reaches into the next one by as much as shows the date of the last line it starts.
    while block := file.read(_BLOCK + _DATE_BYTES):
        content = np.frombuffer(block, np.uint8)
        starts = np.concatenate([begin, np.flatnonzero(content[:_BLOCK] == _LF) + 1])
        starts = starts[starts < len(content)]
        for index, day in _changes(content, starts):
            if not found:
                found.append((day, origin, first_line))
            elif day != found[-1][0]:
                if len(found) >= _MAX_RUNS:
                    raise DataError(
                        f"lines in the order of their days, at most {_MAX_RUNS} changes of day",
                        "more",
                        "sort the lines, or supply the file again",
                    )
                found.append((day, position + int(starts[index]), line + index))
        begin = begin[:0]
        line += len(starts)
        position = file.seek(position + min(_BLOCK, len(block)))
    edges = [*(start for _, start, _ in found), position]
    return [Run(day, start, end, n) for (day, start, n), end in zip(found, edges[1:], strict=True)]


def _changes(content: np.ndarray, starts: np.ndarray) -> Iterator[tuple[int, date]]:
    """Index and day of the lines that do not start as the line before; days may repeat."""
    padded = np.append(content, np.zeros(_DATE_BYTES, np.uint8))
    keys = padded[starts[:, None] + np.arange(_DATE_BYTES)].view(f"S{_DATE_BYTES}").ravel()
    changed = np.ones(len(keys), bool)
    changed[1:] = keys[1:] != keys[:-1]
    for index in np.flatnonzero(changed).tolist():
        if day := _day(keys[index]):
            yield index, day


@lru_cache
def _day(key: bytes) -> date | None:
    if found := _DATE.match(key):
        day, month, year = map(int, found.groups())
        with suppress(ValueError):
            return date(year, month, day) if _FIRST_YEAR <= year <= _LAST_YEAR else None
    return None


def check_count(count: int, place: str) -> None:
    """Raise `DataError` if a day has more lines than any meter writes."""
    if count > MAX_DAY_LINES:
        raise DataError(
            f"at most {MAX_DAY_LINES} lines a day in {place}", "more", "supply the file again"
        )


def table(file: BinaryIO, runs: Sequence[Run]) -> pa.Table:
    """The lines of some runs of a file, in that order; empty lines are left out.

    Raises:
        DataError: There are more lines a day, or longer ones, than any meter writes.
    """
    size = sum(run.end - run.start for run in runs)
    if size > _MAX_BYTES:
        raise DataError(
            f"at most {_MAX_BYTES} bytes of lines in the days that are read at once",
            f"{size}",
            "supply the file again",
        )
    chunks = [_content(file, run) for run in runs]
    for run, chunk in zip(runs, chunks, strict=True):
        check_count(chunk.count(b"\n"), str(run.day))
    content = np.frombuffer(b"".join(chunks), np.uint8)
    ends = np.flatnonzero(content == _LF)
    chunk_ends = np.cumsum([len(chunk) for chunk in chunks], dtype=np.int64)
    counts = np.diff(np.searchsorted(ends, chunk_ends), prepend=0)
    days = np.array([run.day for run in runs], "datetime64[D]")
    shifts = np.array([run.line for run in runs], np.int64) - (np.cumsum(counts) - counts)
    text = _strings(content, ends)
    rows = pa.table(
        [np.repeat(days, counts), np.arange(len(ends)) + np.repeat(shifts, counts), text],
        schema=SCHEMA,
    )
    return rows.filter(pc.not_equal(text, ""))


def _content(file: BinaryIO, run: Run) -> bytes:
    """The bytes of a run; the last line of a file may lack its end."""
    file.seek(run.start)
    content = file.read(run.end - run.start)
    return content if content.endswith(b"\n") else content + b"\n"


def _strings(content: np.ndarray, ends: np.ndarray) -> pa.Array:
    """The lines that end at `ends`, without LF or CR LF; bytes that are no UTF-8 as escapes."""
    with_cr = content[ends - 1] == _CR
    kept = content != _LF
    kept[ends[with_cr] - 1] = False
    lengths = np.diff(ends, prepend=-1) - 1 - with_cr
    if (longest := lengths.max(initial=0)) > MAX_LINE_BYTES:
        raise DataError(
            f"lines of at most {MAX_LINE_BYTES} bytes", f"one of {longest}", "supply a text file"
        )
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    found = pa.StringArray.from_buffers(
        len(ends), pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(content[kept])
    )
    try:
        found.validate(full=True)
    except pa.ArrowInvalid:
        lines = content[kept].tobytes()
        texts = [lines[slice(*edges)] for edges in pairwise(offsets.tolist())]
        return pa.array([text.decode("utf-8", "backslashreplace") for text in texts], pa.string())
    return found


def moved(rows: pa.Table, shift: timedelta) -> pa.Table:
    """The lines some days later: their `day`, and the date in their text where it is readable."""
    days = pc.add(rows["day"], pa.scalar(shift, pa.duration("s"))).cast(pa.date32())
    parts = pc.extract_regex(rows["text"], r"(?s)^(?P<date>\d{1,2}/\d{1,2}/\d{4})(?P<rest>;.*)$")
    encoded = pc.struct_field(parts, "date").combine_chunks().dictionary_encode()
    later = pa.array([_later(text, shift) for text in encoded.dictionary.to_pylist()], pa.string())
    texts = pc.binary_join_element_wise(
        later.take(encoded.indices), pc.struct_field(parts, "rest").combine_chunks(), ""
    )
    return pa.table([days, rows["line"], pc.coalesce(texts, rows["text"])], schema=SCHEMA)


def _later(text: str, shift: timedelta) -> str | None:
    """A date in UCI's form some days later; None if there is no such date.

    >>> _later("31/12/2008", timedelta(days=1)), _later("31/2/2008", timedelta(days=1))
    ('1/1/2009', None)
    """
    if day := _day(f"{text};".encode()):
        with suppress(OverflowError):
            day += shift
            return f"{day.day}/{day.month}/{day.year}"
    return None
