"""Ticks in text: which lines are rows, and what is in them.

A line is a row, whatever quotation marks say; text is read in blocks of whole lines, so that
memory does not depend on the size of a file. Loaded when a step runs.
"""

import csv
import gzip
import io
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import BufferedReader
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from pyarrow import csv as arrow_csv
from xxhash import xxh3_128_hexdigest

from ml_assets.ml.errors import DataError
from ml_assets.ml.untrusted import Unpacked, open_regular, unpacked_limit
from ml_assets.resources.ticks import rows
from ml_assets.resources.ticks.columns import VALUES, Roles, recognised
from ml_assets.resources.ticks.parts import Form, Part, complete, last_of, runs, times_of, within

BLOCK_BYTES = 1 << 24
_HEADER_BYTES = 1 << 16
_LINE_BYTES = 1 << 20
_MOST_BYTES = 4 * BLOCK_BYTES
_MOST_ODD = 1 << 21
_AT_ONCE = 1 << 16
_PIECE_BYTES = BLOCK_BYTES
_COUNTED_BYTES = 1 << 20
_SUPPLY = "supply the file again"
_TIME_ROLES = ("date", "time")
_DELIMITERS = ",;\t|"
_LF, _CR, _QUOTE = b'\n\r"'
_ISO = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,9})?"
_TIMES = {
    _ISO: pa.timestamp("ns"),
    _ISO + r"(Z|[+-]\d\d:\d\d)": pa.timestamp("ns", "UTC"),
    r"\d{1,19}": pa.int64(),
}
"""Times that Arrow reads as this project does, by how the first of a text is written."""

Text = BufferedReader | Unpacked


@dataclass(frozen=True)
class Layout:
    """What the fields of a line are.

    Attributes:
        roles: The name of each column by what it is.
        names: All columns, in their order.
        delimiter: What separates them.
    """

    roles: Roles
    names: tuple[str, ...]
    delimiter: str

    def place(self, role: str) -> int:
        """Number of a column, from 0."""
        return self.names.index(self.roles[role])


@dataclass(frozen=True)
class Lines:
    """Whole lines of a text.

    Attributes:
        content: The text.
    """

    content: bytes

    @cached_property
    def count(self) -> int:
        """How many there are."""
        letters = np.frombuffer(self.content, np.uint8)
        # Some at a time: to find memory for as many answers as letters costs more than to look.
        pieces = range(0, len(letters), _COUNTED_BYTES)
        ended = sum(np.count_nonzero(letters[at : at + _COUNTED_BYTES] == _LF) for at in pieces)
        return int(ended) + (not self.content.endswith(b"\n"))

    @cached_property
    def starts(self) -> np.ndarray:
        """Where each line begins."""
        return np.concatenate([[0], self._ends[:-1] + 1])

    @cached_property
    def ends(self) -> np.ndarray:
        """Where each line ends, without its LF or CR LF."""
        letters = np.frombuffer(self.content, np.uint8)
        return self._ends - ((self._ends > self.starts) & (letters[self._ends - 1] == _CR))

    @cached_property
    def _ends(self) -> np.ndarray:
        found = np.flatnonzero(np.frombuffer(self.content, np.uint8) == _LF)
        return found if self.content.endswith(b"\n") else np.append(found, len(self.content))

    def place(self, number: int) -> int:
        """Where a line begins; the end of the text for the one after the last."""
        if number == 0:
            return 0
        return int(self.starts[number]) if number < self.count else len(self.content)

    def text(self, number: int) -> str:
        """A line; bytes that are no UTF-8 as escapes."""
        line = self.content[self.starts[number] : self.ends[number]]
        return line.decode("utf-8", "backslashreplace")


def index(path: Path, form: Form) -> list[Part]:
    """The lines in blocks, divided where another UTC day begins.

    Raises:
        DataError: The file is damaged, has other columns, or no time in it can be read.
    """
    with _opened(path, form) as file:
        header = _header(file, path)
        if not header.strip():
            return []
        fields = layout(header.decode("utf-8", "replace"), dict(form.columns), str(path))
        return complete(_parts(file, len(header), fields, form, path), str(path))


def read(
    path: Path, form: Form, parts: Iterable[Part], start: int, end: int
) -> Iterator[pl.DataFrame]:
    """The ticks of some parts, in their order, that belong to a window in nanoseconds.

    Raises:
        DataError: The file is damaged, has other columns, or has changed since it was indexed.
    """
    # Opened once for all parts: to get to a place, gzip has to unpack all that is before it.
    with _opened(path, form) as file:
        header = _header(file, path).decode("utf-8", "replace")
        fields = layout(header, dict(form.columns), str(path))
        for part in parts:
            lines = Lines(_content(file, part, path))
            found = ticks(lines, fields, form.timezone, part.before_ns, part.row)
            yield within(found, part, start, end)


def _header(file: Text, path: Path) -> bytes:
    found = file.readline(_HEADER_BYTES)
    if len(found) == _HEADER_BYTES and not found.endswith(b"\n"):
        raise DataError(
            f"the names of columns in the first line of {path}",
            f"{_HEADER_BYTES} bytes without an end",
            "supply a text file",
        )
    return found


def _content(file: Text, part: Part, path: Path) -> bytes:
    """The bytes of a part, which are still those that were indexed."""
    file.seek(part.start)
    content = file.read(min(max(part.end - part.start, 0), _MOST_BYTES))
    if xxh3_128_hexdigest(content) != part.digest:
        raise DataError(
            f"bytes {part.start} to {part.end} of {path} as they were a moment ago",
            "others",
            "run again when the file is no longer being written",
        )
    return content


def named(names: Sequence[str], place: str) -> Layout:
    """What the fields of a text without a header are, separated by commas."""
    return Layout(recognised(names, {}, place), tuple(names), ",")


def streamed(
    pieces: Iterable[bytes], fields: Layout, first_ns: int, window: tuple[int, int]
) -> Iterator[pl.DataFrame]:
    """The ticks of a window in a text without a header, which is read once, in UTC.

    Args:
        pieces: The text.
        fields: What its fields are.
        first_ns: The time by which rows before the first readable time belong to a window.
        window: Start and end, in nanoseconds.
    """
    before, row = None, 1
    for block in blocks(pieces, "the archive's text"):
        lines = Lines(block)
        found = ticks(lines, fields, "UTC", before, row)
        place = pl.col("place_ns").fill_null(first_ns)
        yield found.filter((place >= window[0]) & (place < window[1]))
        before, row = last_of(found["place_ns"], before), row + lines.count


@contextmanager
def _opened(path: Path, form: Form) -> Iterator[Text]:
    """A text file, unpacked while it is read."""
    with open_regular(path, _SUPPLY) as file:
        if _packed(path):
            limit = unpacked_limit(os.fstat(file.fileno()).st_size, form.max_bytes)
            with gzip.GzipFile(fileobj=file) as packed:
                yield Unpacked(packed, limit, f"a whole gzip file {path}", _SUPPLY)
        else:
            yield file


def _packed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _parts(file: Text, position: int, fields: Layout, form: Form, path: Path) -> Iterator[Part]:
    before, row = None, 1
    for block in blocks(iter(lambda: file.read(_PIECE_BYTES), b""), str(path)):
        lines = Lines(block)
        frame = parsed(lines, fields, [role for role in _TIME_ROLES if role in fields.roles], row)
        place = rows.place(rows.time_of(frame, form.timezone, before), before)
        for first, after in pairwise([*runs(place), len(place)]) if len(place) else ():
            yield _part(lines, frame["row"], place, (first, after), (position, row), before)
            before = last_of(place.slice(first, after - first), before)
        position += len(block)
        row += lines.count


def _part(
    lines: Lines,
    numbers: pl.Series,
    place: pl.Series,
    run: tuple[int, int],
    origin: tuple[int, int],
    before: int | None,
) -> Part:
    """The rows of a run in a block that begins at a byte and with a row."""
    first, after = run
    position, row = origin
    start = lines.place(numbers[first] - row)
    end = lines.place(numbers[after] - row if after < len(numbers) else lines.count)
    earliest, latest, days = times_of(place.slice(first, after - first))
    digest = xxh3_128_hexdigest(lines.content[start:end])
    return Part(
        position + start, position + end, numbers[first], before, earliest, latest, days, digest
    )


def layout(header: str, given: Mapping[str, str], place: str) -> Layout:
    """What the fields are, by the first line of a file.

    Raises:
        DataError: The columns are others.
    """
    header = header.removeprefix("\ufeff").rstrip("\r\n")
    delimiter = max(_DELIMITERS, key=header.count)
    names = tuple(name.strip() for name in _fields(header, delimiter))
    return Layout(recognised(names, given, place), names, delimiter)


def blocks(pieces: Iterable[bytes], place: str) -> Iterator[bytes]:
    """A text in blocks of whole lines.

    Raises:
        DataError: A line is too long to be one.
    """
    held, size = [], 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= BLOCK_BYTES:
            content = b"".join(held)
            whole = content.rfind(b"\n") + 1
            if not whole and size >= BLOCK_BYTES + _LINE_BYTES:
                raise DataError(
                    f"lines in {place}", f"{size} bytes without an end", "supply a text file"
                )
            if whole:
                yield content[:whole]
            held = [content[whole:]]
            size -= whole
    if size:
        yield b"".join(held)


def parsed(lines: Lines, form: Layout, wanted: Collection[str], first_row: int) -> pl.DataFrame:
    """The fields of lines, typed if they are all written alike, else as text, without empty lines.

    Args:
        lines: The lines.
        form: What their fields are.
        wanted: Which fields, by what they are.
        first_row: Number of the first line.

    Returns:
        The fields, `row`, and `unreadable` for lines with more or fewer fields, whose values are
        null.
    """
    if (typed := _typed(lines, form, wanted)) is not None:
        count = pl.int_range(first_row, pl.len() + first_row, dtype=pl.Int64)
        return typed.with_columns(row=count, unreadable=pl.lit(value=False))
    odd = _odd(lines, form)
    blank = lines.starts == lines.ends
    if np.count_nonzero(odd & ~blank) > _MOST_ODD:
        raise DataError(
            f"lines with {len(form.names)} fields, separated by {form.delimiter!r}",
            f"more than {_MOST_ODD} others, one after the other",
            "supply the file again; if these are rows, name their columns in the first line",
        )
    plain = _plain(lines, form, wanted, ~odd & ~blank)
    if plain is None:
        odd, plain = ~blank, _no_rows(wanted)
    numbers = np.flatnonzero(~odd & ~blank)
    found = [plain.with_columns(row=pl.Series(numbers), unreadable=pl.lit(value=False))]
    if (odd & ~blank).any():
        found.append(_singly(lines, form, wanted, np.flatnonzero(odd & ~blank)))
    frame = pl.concat(found).sort("row") if len(found) > 1 else found[0]
    return frame.with_columns(pl.col("row") + first_row)


def ticks(
    lines: Lines, form: Layout, zone: str, before: int | None, first_row: int
) -> pl.DataFrame:
    """The ticks in lines, as `rows.read` gives them, with the text of those unreadable."""
    found = rows.read(parsed(lines, form, list(form.roles), first_row), zone, before)
    numbers = found.filter("unreadable")["row"]
    if numbers.is_empty():
        return found
    texts = [lines.text(number - first_row) for number in numbers]
    told = pl.DataFrame({"row": numbers, "text": pl.Series(texts, dtype=pl.String)})
    return found.drop("text").join(told, on="row", how="left", maintain_order="left")


def _typed(lines: Lines, form: Layout, wanted: Collection[str]) -> pl.DataFrame | None:
    """The fields of lines of which each can be read at first sight; None if one cannot."""
    content = lines.content
    first = _fields(content[:_HEADER_BYTES].split(b"\n", 1)[0].decode("latin-1"), form.delimiter)
    time = first[form.place("time")].strip() if len(first) == len(form.names) else ""
    kind = next((kind for way, kind in _TIMES.items() if re.fullmatch(way, time)), None)
    if kind is None or "date" in wanted or b'"' in content:
        return None
    places = {role: str(form.place(role)) for role in wanted}
    kinds = {place: pa.string() for place in places.values()}
    kinds |= {places[role]: pa.float64() for role in VALUES if role in wanted}
    names = [str(number) for number in range(len(form.names))]
    try:
        found = arrow_csv.read_csv(
            pa.BufferReader(content),
            # With Arrow's pool of threads, one reading in many thousands failed "for an unknown
            # reason", and of processes that end right after it, one in fifty did so in an abort.
            arrow_csv.ReadOptions(column_names=names, use_threads=False, block_size=len(content)),
            arrow_csv.ParseOptions(delimiter=form.delimiter, quote_char=False),
            arrow_csv.ConvertOptions(
                column_types=kinds | {str(form.place("time")): kind},
                include_columns=list(kinds),
                null_values=[""],
            ),
        )
    except pa.ArrowInvalid:
        return None
    if len(found) != lines.count:
        return None
    return pl.DataFrame(found).select(pl.col(place).alias(role) for role, place in places.items())


def _odd(lines: Lines, form: Layout) -> np.ndarray:
    """Lines that may have another number of fields, and those with a stray quotation mark."""
    letters = np.frombuffer(lines.content, np.uint8)
    odd = _count(letters == ord(form.delimiter), lines) != len(form.names) - 1
    if b'"' in lines.content:
        odd |= _count(letters == _QUOTE, lines) % 2 == 1
    return odd


def _count(found: np.ndarray, lines: Lines) -> np.ndarray:
    return np.diff(np.searchsorted(np.flatnonzero(found), lines.ends), prepend=0)


def _plain(
    lines: Lines, form: Layout, wanted: Collection[str], kept: np.ndarray
) -> pl.DataFrame | None:
    """The fields of the lines kept, all at once; None if they turn out not to be as many."""
    if not kept.any():
        return _no_rows(wanted)
    content = lines.content
    if not kept.all():
        sizes = np.diff(np.append(lines.starts, len(content)))
        content = np.frombuffer(content, np.uint8)[np.repeat(kept, sizes)].tobytes()
    places = {role: f"column_{form.place(role) + 1}" for role in wanted}
    try:
        frame = pl.read_csv(
            io.BytesIO(content),
            has_header=False,
            separator=form.delimiter,
            schema={f"column_{number + 1}": pl.String for number in range(len(form.names))},
            columns=list(dict.fromkeys(places.values())),
            encoding="utf8-lossy",
            truncate_ragged_lines=True,
        )
    except pl.exceptions.ComputeError:
        return None
    if len(frame) != kept.sum():
        return None
    return frame.select(pl.col(place).alias(role) for role, place in places.items())


def _no_rows(wanted: Collection[str]) -> pl.DataFrame:
    return pl.DataFrame(schema=dict.fromkeys(wanted, pl.String))


def _singly(
    lines: Lines, form: Layout, wanted: Collection[str], numbers: np.ndarray
) -> pl.DataFrame:
    """The fields of some lines, one line after the other."""
    frames = [
        _few_singly(lines, form, wanted, numbers[at : at + _AT_ONCE])
        for at in range(0, len(numbers), _AT_ONCE)
    ]
    return pl.concat(frames)


def _few_singly(
    lines: Lines, form: Layout, wanted: Collection[str], numbers: np.ndarray
) -> pl.DataFrame:
    found: list[tuple[str | None, ...]] = []
    whole = []
    for number in numbers:
        fields = _fields(lines.text(number), form.delimiter)
        whole.append(len(fields) == len(form.names))
        known = wanted if whole[-1] else {*wanted} & {"time", "date"}
        found.append(
            tuple(_field(fields, form, role) if role in known else None for role in wanted)
        )
    frame = pl.DataFrame(found, dict.fromkeys(wanted, pl.String), orient="row")
    return frame.with_columns(row=pl.Series(numbers), unreadable=~pl.Series(whole))


def _field(fields: list[str], form: Layout, role: str) -> str | None:
    place = form.place(role)
    return fields[place] if place < len(fields) else None


def _fields(text: str, delimiter: str) -> list[str]:
    """The fields of one line: a stray quotation mark does not swallow the lines after it."""
    try:
        return next(csv.reader([text], delimiter=delimiter), [])
    except csv.Error:
        return [text]
