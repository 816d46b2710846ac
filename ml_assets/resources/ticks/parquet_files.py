"""Ticks in Parquet files, by row groups.

Loaded when a step runs.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ml_assets.ml.errors import DataError
from ml_assets.resources import parquet
from ml_assets.resources.archives import sha256
from ml_assets.resources.parquet import ParquetInput
from ml_assets.resources.ticks import rows
from ml_assets.resources.ticks.columns import Roles, recognised
from ml_assets.resources.ticks.parts import Form, Part, complete, joined, last_of, times_of, within
from ml_assets.resources.ticks.times import DAY_NS, LAST_NS

_TIME_ROLES = ("date", "time")


def index(path: Path, form: Form) -> list[Part]:
    """The row groups, by their statistics where these say enough, else by their times.

    Raises:
        DataError: The file is damaged, has other columns, or no time in it can be read.
    """
    with _opened(path) as file:
        roles = _roles(file, path, form)
        found = _by_statistics(file, roles, sha256(path))
        return complete(found or _by_times(file, roles, form, sha256(path)), str(path))


def read(
    path: Path, form: Form, parts: Iterable[Part], start: int, end: int
) -> Iterator[pl.DataFrame]:
    """The ticks of some parts, in their order, that belong to a window in nanoseconds.

    Raises:
        DataError: The file is damaged, or has other columns.
    """
    with _opened(path) as file:
        roles = _roles(file, path, form)
        for part in parts:
            before, row = part.before_ns, part.row
            for frame in _frames(file, roles, part):
                numbers = pl.int_range(row, row + len(frame), dtype=pl.Int64, eager=True)
                found = rows.read(frame.with_columns(row=numbers), form.timezone, before)
                before, row = last_of(found["place_ns"], before), row + len(frame)
                yield within(_told(found, frame), part, start, end)


@contextmanager
def _opened(path: Path) -> Iterator[ParquetInput]:
    try:
        with parquet.opened(path) as file:
            yield file
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"a Parquet file with times and numbers: {path}", str(error), "supply the file again"
        ) from error


def _roles(file: ParquetInput, path: Path, form: Form) -> Roles:
    return recognised(file.file.schema_arrow.names, dict(form.columns), str(path))


def _frames(
    file: ParquetInput, roles: Roles, part: Part, wanted: tuple[str, ...] | None = None
) -> Iterator[pl.DataFrame]:
    """Rows of the row groups, a batch at a time, with the columns by what they are."""
    roles = {role: name for role, name in roles.items() if wanted is None or role in wanted}
    for batch in file.batches(list(dict.fromkeys(roles.values())), range(part.start, part.end)):
        frame = pl.DataFrame(batch)
        yield frame.select(pl.col(name).alias(role) for role, name in roles.items())


def _by_statistics(opened: ParquetInput, roles: Roles, digest: str) -> list[Part]:
    """The row groups, if statistics say of each that it lies within one UTC day."""
    with opened.parsing():
        return _parts(opened.file, roles, digest)


def _parts(file: pq.ParquetFile, roles: Roles, digest: str) -> list[Part]:
    kind = file.schema_arrow.field(roles["time"]).type
    if not pa.types.is_timestamp(kind) or not kind.tz:
        return []
    factor = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[kind.unit]
    paths = [file.schema.column(number).path for number in range(len(file.schema))]
    column = paths.index(roles["time"])
    found: list[Part] = []
    row = 1
    for group in range(file.num_row_groups):
        metadata = file.metadata.row_group(group)
        known = metadata.column(column).statistics
        if metadata.num_rows:
            if not known or not known.has_min_max or known.null_count != 0:
                return []
            first, last = known.min_raw * factor, known.max_raw * factor
            if first // DAY_NS != last // DAY_NS or max(-first, last) > LAST_NS:
                return []
            found.append(Part(group, group + 1, row, None, first, last, [first // DAY_NS], digest))
        row += metadata.num_rows
    return found


def _by_times(file: ParquetInput, roles: Roles, form: Form, digest: str) -> Iterator[Part]:
    before, row = None, 1
    for group in range(file.file.num_row_groups):
        part = Part(group, group + 1, row, before, 0, 0, [], digest)
        found = []
        for frame in _frames(file, roles, part, _TIME_ROLES):
            place = rows.place(rows.time_of(frame, form.timezone, before), before)
            before = last_of(place, before)
            found.append(times_of(place))
            row += len(place)
        if found:
            first, last, days = joined(found)
            yield Part(group, group + 1, part.row, part.before_ns, first, last, days, digest)


def _told(found: pl.DataFrame, frame: pl.DataFrame) -> pl.DataFrame:
    """The ticks with the text of those unreadable: their columns, separated by commas."""
    if not found["unreadable"].any():
        return found
    columns = (pl.col(name).cast(pl.String, strict=False).fill_null("") for name in frame.columns)
    text = frame.select(pl.concat_str(list(columns), separator=",")).to_series()
    return found.with_columns(text=pl.when("unreadable").then(text))
