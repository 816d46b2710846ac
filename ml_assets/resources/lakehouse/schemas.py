"""What fits a table: its types, its time column, and windows of it.

Nothing is written here. Loaded when a step runs.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.exceptions import ValidationError
from pyiceberg.expressions import And, BooleanExpression, GreaterThanOrEqual, LessThan
from pyiceberg.io.pyarrow import UnsupportedPyArrowTypeException
from pyiceberg.table import Table

from ml_assets.ml.errors import DataError


def fitted(table: str, rows: pa.Table, column: str, start: datetime, end: datetime) -> pa.Table:
    """The rows in the types that Iceberg keeps, sorted by time.

    Raises:
        DataError: The time column is missing, empty in places, without a time zone or not all
            within the window; or a value cannot be kept.
    """
    check_window(start, end)
    found = rows.schema.field(column).type if column in rows.column_names else None
    if found is None or not pa.types.is_timestamp(found) or found.tz is None:
        raise DataError(
            f"the time column {column} of {table}, a timestamp with a time zone",
            "no such column" if found is None else str(found),
            "convert the column to UTC before writing it",
        )
    try:
        rows = plain(rows)
    except pa.ArrowInvalid as error:
        raise DataError(
            f"values of {table} that can be kept: times in whole microseconds, integers of 64 bits",
            str(error),
            "round the times, or convert the column",
        ) from error
    _check_within(table, column, rows[column], start, end)
    return rows.sort_by(column)


def _check_within(
    table: str, column: str, times: pa.ChunkedArray, start: datetime, end: datetime
) -> None:
    first, last = pc.min_max(times).as_py().values()
    if times.null_count or (len(times) and not (start <= first and last < end)):
        raise DataError(
            f"rows of {table} with {column} from {start.isoformat()} to before {end.isoformat()}",
            f"{len(times)} rows from {first} to {last}, {times.null_count} without a time",
            "filter the rows, or write them to the window they belong to",
        )


def plain(rows: pa.Table) -> pa.Table:
    """The rows in the types that Iceberg keeps, so that all files of a table are alike."""
    return rows.cast(pa.schema([field.with_type(_kept(field.type)) for field in rows.schema]))


def _kept(kind: pa.DataType) -> pa.DataType:
    """The type in which Iceberg keeps values of a type."""
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    if pa.types.is_dictionary(kind):
        return _kept(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_integer(kind):
        return pa.int32() if kind.bit_width < 32 or kind == pa.int32() else pa.int64()
    return pa.float32() if pa.types.is_float16(kind) else kind


def divided(
    rows: pa.Table, times: pa.ChunkedArray, windows: Sequence[tuple[datetime, datetime]]
) -> list[pa.Table]:
    """The rows, in the order of their times, of each of the windows, in memory of their own."""
    edges = [start for start, _ in windows] + [windows[-1][1]]
    micros = pa.array(edges, pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    bounds = np.searchsorted(times.cast(pa.int64()).to_numpy(), micros)
    return [rows.take(pa.array(np.arange(*pair))) for pair in pairwise(bounds)]


def digest(rows: pa.Table) -> str:
    """SHA-256 of the rows: columns, types and values in their order."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema.remove_metadata()) as writer:
        # One batch of buffers of their own: how the rows were put together does not count.
        [batch] = rows.combine_chunks().to_batches() or [
            pa.RecordBatch.from_pylist([], rows.schema)
        ]
        writer.write_batch(batch)
    return hashlib.sha256(sink.getvalue()).hexdigest()


@contextmanager
def fitting(table: str, rows: pa.Table) -> Iterator[None]:
    """Report columns that Iceberg, or the table, cannot take as a `DataError`."""
    try:
        yield
    except (TypeError, ValueError, ValidationError, UnsupportedPyArrowTypeException) as error:
        columns = ", ".join(f"{field.name} {field.type}" for field in rows.schema)
        raise DataError(
            f"columns that fit the table {table}",
            f"{columns}: {error}",
            "give the columns the types they have in the table; new columns need a type too",
        ) from error


def check_window(start: datetime, end: datetime) -> None:
    """Raise a `DataError` unless both times have a time zone and are in order."""
    if start.utcoffset() is None or end.utcoffset() is None or start >= end:
        raise DataError(
            "a window from an earlier to a later time, both with a time zone",
            f"{start.isoformat()} to {end.isoformat()}",
            "pass `datetime`s with `tzinfo`, the earlier one first",
        )


def between(column: str, start: datetime, end: datetime) -> BooleanExpression:
    """The rows from `start` to before `end`."""
    return And(
        GreaterThanOrEqual(column, start.astimezone(UTC).isoformat()),
        LessThan(column, end.astimezone(UTC).isoformat()),
    )


def time_column(table: Table) -> str:
    """The column that a table is partitioned by."""
    [field] = table.spec().fields
    return table.schema().find_field(field.source_id).name


def period(table: Table, partition: int) -> tuple[datetime, datetime]:
    """Start and end of a partition, which Iceberg counts in days or months since 1970."""
    [field] = table.spec().fields
    unit = {"day": "D", "month": "M"}[str(field.transform)]
    edges = np.array([partition, partition + 1], f"datetime64[{unit}]")
    start, end = edges.astype("datetime64[us]").tolist()
    return start.replace(tzinfo=UTC), end.replace(tzinfo=UTC)


def check_columns(table: Table, columns: Sequence[str], snapshot_id: int | None) -> None:
    """Raise a `DataError` if the table, or its snapshot, does not have the columns."""
    name = ".".join(table.name())
    if snapshot_id is not None and table.snapshot_by_id(snapshot_id) is None:
        raise DataError(
            f"the snapshot {snapshot_id} of {name}",
            "no such snapshot",
            "it may have expired: read the present rows, or a younger snapshot",
        )
    known = [field.name for field in table.scan(snapshot_id=snapshot_id).projection().fields]
    if unknown := [column for column in columns if column not in known]:
        raise DataError(
            f"the columns {', '.join(columns)} of {name}",
            f"no {', '.join(unknown)} among {', '.join(known)}",
            "correct the names, or read a snapshot that has the columns",
        )
