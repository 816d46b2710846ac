"""One file a day, CSV or Parquet, brought into UCI's form.

The day is the one in the file's name, whatever its lines say. Loaded when a step runs.
"""

import csv
import gzip
import io
import re
import zlib
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ml_assets.ml.days import local_times
from ml_assets.ml.errors import DataError
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
    if lines.is_header(first, form.header):
        return lines.table(io.BytesIO(content), [lines.Run(day, len(first) + 1, len(content), 2)])
    texts = lines.table(io.BytesIO(rest), [lines.Run(day, 0, len(rest), 2)])
    fitted = _from_csv(first, texts["text"].to_pylist(), path, form)
    return texts.set_column(2, "text", pa.array(fitted, pa.string()))


def _content(path: Path, max_bytes: int) -> bytes:
    if not path.name.lower().endswith(".gz"):
        return path.read_bytes()
    try:
        with gzip.open(path) as file:
            content = file.read(max_bytes + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"a whole gzip file {path}", str(error), _DAMAGED) from error
    if len(content) > max_bytes:
        raise DataError(f"at most {max_bytes} unpacked bytes in {path}", "more", _DAMAGED)
    return content


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
    try:
        # A directory named `year=2008` is no column.
        rows = pq.read_table(path, partitioning=None)
        columns = [rows.column(place) for place in _places(rows.column_names, path, form)]
        times, values = columns[:-7], columns[-7:]
        times = _moments(times[0], form.timezone) if len(times) == 1 else _clocks(*times)
        return pc.binary_join_element_wise(*times, *map(_values, values), ";")
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"a whole Parquet file with times and numbers: {path}", str(error), _DAMAGED
        ) from error


def _moments(times: pa.ChunkedArray, timezone: str) -> list[pa.ChunkedArray]:
    """Date and time of each moment, as `_clock` has them."""
    if not pa.types.is_timestamp(times.type):
        zone = ZoneInfo(timezone)
        pairs = [_clock(text, zone) for text in _values(times).to_pylist()]
        return [pa.chunked_array([[pair[part] for pair in pairs]], pa.string()) for part in (0, 1)]
    if times.type.tz:
        times = pa.chunked_array([pa.array(local_times(times, timezone))])
    return _clocks(times, pc.strftime(times, "%H:%M:%S"))


def _clocks(dates: pa.ChunkedArray, times: pa.ChunkedArray) -> list[pa.ChunkedArray]:
    """Dates as `d/m/yyyy`, times with a fraction of a second only where there is one."""
    return [_dates(dates), pc.replace_substring_regex(_values(times), r"\.0+$", "")]


def _dates(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Dates as `d/m/yyyy`; text as it is."""
    if not pa.types.is_temporal(column.type):
        return _values(column)
    parts = [part(column).cast(pa.string()) for part in (pc.day, pc.month, pc.year)]
    return _values(pc.binary_join_element_wise(*parts, "/"))


def _values(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values as text, `?` where there is none."""
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    text = column.cast(pa.string())
    return pc.if_else(pc.equal(text, ""), "?", text).fill_null("?")
