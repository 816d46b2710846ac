"""One file a day, CSV or Parquet, brought into UCI's form.

The day is the one in the file's name, whatever its lines say. Loaded when a step runs.
"""

import csv
import gzip
import io
import os
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml_assets.ml.days import local_times
from ml_assets.ml.errors import DataError
from ml_assets.ml.untrusted import Unpacked, open_regular, read_regular, unpacked_limit
from ml_assets.resources import parquet
from ml_assets.resources.readings import lines

SUFFIXES = (".csv", ".csv.gz", ".parquet")
_DAMAGED = "supply the file again"


@dataclass(frozen=True)
class Form:
    """The columns that a file may have, in upper or lower case and any order.

    Attributes:
        header: UCI's nine names, separated by `;`.
        columns: Or else these: the time, then the seven values in UCI's order.
        timezone: Where a clock shows the local time; for times with a time zone.
        max_bytes: The most bytes that an unpacked file may have.
    """

    header: str
    columns: tuple[str, ...]
    timezone: str
    max_bytes: int


def find(directory: Path) -> dict[date, Path]:
    """The files of a directory that have a day in their name, by day.

    Raises:
        DataError: There are two files for a day.
    """
    found: dict[date, Path] = {}
    for path in sorted(directory.iterdir()):
        if not path.name.lower().endswith(SUFFIXES) or not (day := _day(path.name)):
            continue
        if day in found:
            raise DataError(
                f"one file for {day} in {directory}",
                f"{found[day].name} and {path.name}",
                "remove one of them",
            )
        found[day] = path
    return found


def _day(name: str) -> date | None:
    if found := re.search(r"(?<!\d)\d{4}-\d{2}-\d{2}(?!\d)", name):
        try:
            return date.fromisoformat(found.group())
        except ValueError:
            return None
    return None


def read(path: Path, day: date, form: Form) -> pa.Table:
    """The lines of a file; a Parquet file's rows are counted from 1.

    Raises:
        DataError: The file is damaged, or its columns are others.
    """
    if path.name.lower().endswith(".parquet"):
        found = _from_parquet(path, form)
        numbers = np.arange(1, len(found) + 1)
        return pa.table([[day] * len(found), numbers, found], schema=lines.SCHEMA)
    content = _content(path, form.max_bytes)
    first, _, rest = content.partition(b"\n")
    if lines.is_header(first[: lines.MAX_LINE_BYTES], form.header):
        return lines.table(io.BytesIO(content), [lines.Run(day, len(first) + 1, len(content), 2)])
    if len(first) > lines.MAX_LINE_BYTES:
        raise DataError(f"the names of columns in {path}", f"{len(first)} bytes", _DAMAGED)
    texts = lines.table(io.BytesIO(rest), [lines.Run(day, 0, len(rest), 2)])
    fitted = _from_csv(first, texts["text"].to_pylist(), path, form)
    return texts.set_column(2, "text", pa.array(fitted, pa.string()))


def _content(path: Path, max_bytes: int) -> bytes:
    if not path.name.lower().endswith(".gz"):
        return read_regular(path, max_bytes, _DAMAGED)
    with open_regular(path, _DAMAGED) as file:
        limit = unpacked_limit(os.fstat(file.fileno()).st_size, max_bytes)
        with gzip.GzipFile(fileobj=file) as packed:
            return Unpacked(packed, limit, f"a whole gzip file {path}", _DAMAGED).read()


def _places(found: list[str], path: Path, form: Form) -> list[int]:
    """Where UCI's nine columns, or the other eight, are among the columns found.

    Raises:
        DataError: A column is missing.
    """
    names = [name.strip().lower() for name in found]
    wanted = (form.header.split(";"), form.columns)
    for columns in wanted:
        if {name.lower() for name in columns} <= set(names):
            return [names.index(name.lower()) for name in columns]
    raise DataError(
        f"in {path} the columns {', '.join(wanted[0])} or {', '.join(wanted[1])}",
        ", ".join(found)[:300] or "no columns",
        "rename the columns; CSV files have their names in the first line",
    )


def _from_csv(first: bytes, texts: list[str], path: Path, form: Form) -> list[str]:
    """The lines with UCI's columns in UCI's order; lines with more or fewer fields unordered."""
    header = first.decode("utf-8-sig", "replace").strip()
    delimiter = ";" if ";" in header else ","
    names = _fields(header, delimiter)
    places = _places(names, path, form)
    zone = ZoneInfo(form.timezone)
    found = []
    for text in texts:
        fields = _fields(text, delimiter)
        if len(fields) == len(names):
            fields = [fields[place] or "?" for place in places]
            if len(fields) == len(form.columns):
                fields[:1] = _clock(fields[0], zone)
        found.append(";".join(fields))
    return found


def _fields(text: str, delimiter: str) -> list[str]:
    """The fields of one line: a stray quotation mark does not swallow the lines after it."""
    try:
        return next(csv.reader([text], delimiter=delimiter), [])
    except csv.Error:
        return [text]


def _clock(text: str, zone: ZoneInfo) -> tuple[str, str]:
    """Date and time in UCI's form; a time that cannot be read stays in place of the date.

    >>> _clock("2008-03-30T01:30:00Z", ZoneInfo("Europe/Paris"))
    ('30/3/2008', '03:30:00')
    >>> _clock("2008-03-30 01:30", ZoneInfo("Europe/Paris"))
    ('30/3/2008', '01:30:00')
    >>> _clock("noon", ZoneInfo("Europe/Paris"))
    ('noon', '')
    """
    try:
        time = datetime.fromisoformat(text)
        time = time.astimezone(zone) if time.tzinfo else time
    except (ValueError, OverflowError):
        return text, ""
    return f"{time.day}/{time.month}/{time.year}", time.time().isoformat()


def _from_parquet(path: Path, form: Form) -> pa.ChunkedArray:
    """The rows as lines with UCI's columns in UCI's order."""
    with parquet.opened(path) as opened:
        lines.check_count(opened.file.metadata.num_rows, str(path))
        names = opened.file.schema_arrow.names
        chosen = [names[place] for place in _places(names, path, form)]
        groups = range(opened.file.num_row_groups)
        found = [
            _lines(batch.select(chosen).columns, path, form)
            for batch in opened.batches(list(dict.fromkeys(chosen)), groups)
        ]
    return pa.chunked_array([chunk for lines in found for chunk in lines.chunks], pa.string())


def _lines(columns: list[pa.ChunkedArray], path: Path, form: Form) -> pa.ChunkedArray:
    times, values = columns[:-7], columns[-7:]
    try:
        times = _moments(times[0], form.timezone) if len(times) == 1 else _clocks(*times)
        return pc.binary_join_element_wise(*times, *map(_values, values), ";")
    except pa.ArrowException as error:
        raise DataError(
            f"a whole Parquet file with times and numbers: {path}", str(error), _DAMAGED
        ) from error


def _moments(times: pa.ChunkedArray, timezone: str) -> list[pa.ChunkedArray]:
    """Date and time of each moment, as `_clock` has them."""
    if not pa.types.is_timestamp(times.type):
        zone = ZoneInfo(timezone)
        pairs = [_clock(text, zone) for text in _values(times).to_pylist()]
        return [pa.chunked_array([[pair[part] for pair in pairs]], pa.string()) for part in (0, 1)]
    times = _in_calendar(times)
    if times.type.tz:
        times = pa.chunked_array([pa.array(local_times(times, timezone))])
    return _clocks(times, pc.strftime(times, "%H:%M:%S"))


def _clocks(dates: pa.ChunkedArray, times: pa.ChunkedArray) -> list[pa.ChunkedArray]:
    """Dates as `d/m/yyyy`, times with a fraction of a second only where there is one."""
    return [_dates(dates), pc.replace_substring_regex(_values(times), r"\.0+$", "")]


def _in_calendar(times: pa.ChunkedArray) -> pa.ChunkedArray:
    """The times, null beyond the years 1 to 9999, at whose ends a zone's offset has its room."""
    factor = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[times.type.unit]
    first, last = (
        int(datetime(*day, tzinfo=UTC).timestamp()) for day in ((1, 1, 3), (9999, 12, 29))
    )
    counts = times.cast(pa.int64())
    if factor < 10**9:
        inside = pc.and_(pc.greater_equal(counts, first * factor), pc.less(counts, last * factor))
        times = pc.if_else(inside, times, None)
    return times


def _dates(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Dates as `d/m/yyyy`; text as it is."""
    if not pa.types.is_temporal(column.type):
        return _values(column)
    if pa.types.is_date(column.type):
        column = _in_calendar(column.cast(pa.date64()).cast(pa.timestamp("ms")))
    parts = [part(column).cast(pa.string()) for part in (pc.day, pc.month, pc.year)]
    return _values(pc.binary_join_element_wise(*parts, "/"))


def _values(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values as text, `?` where there is none."""
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    text = column.cast(pa.string())
    return pc.if_else(pc.equal(text, ""), "?", text).fill_null("?")
