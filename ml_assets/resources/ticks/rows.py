"""Rows as they arrived, as the ticks that every source gives.

Loaded when a step runs.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ml_assets.ml.errors import DataError
from ml_assets.resources.ticks import times
from ml_assets.resources.ticks.columns import VALUES

SCHEMA = pa.schema(
    [
        ("event_time_ns", pa.int64()),
        *((name, pa.float64()) for name in VALUES),
        ("side", pa.int8()),
        ("suspicious", pa.bool_()),
        ("row", pa.int64()),
        ("text", pa.string()),
    ]
)
"""The columns of ticks."""

SIDES = {
    **dict.fromkeys(("buy", "b", "buyer", "1", "+1", "1.0", "+"), 1),
    **dict.fromkeys(("sell", "s", "seller", "-1", "2", "-1.0", "-"), -1),
    **dict.fromkeys(
        ("", "0", "0.0", "n", "u", "none", "null", "nan", "na", "n/a", "unknown"), None
    ),
}
"""How feeds write who was the aggressor; FIX has 1 and 2."""

_YES, _NO, _MISSING = (
    ("true", "t", "1", "1.0", "yes", "y"),
    ("false", "f", "0", "0.0", "no", "n"),
    ("", "nan", "-nan", "null", "none", "na", "n/a"),
)
FLAGS = {
    **dict.fromkeys(_YES, 1),
    **dict.fromkeys(_NO, 0),
    **dict.fromkeys(_MISSING, None),
}
"""How feeds write yes and no."""

MAKERS = {
    **dict.fromkeys(_YES, -1),
    **dict.fromkeys(_NO, 1),
    **dict.fromkeys(_MISSING, None),
}
"""The side by whether the buyer was the maker."""

UNREADABLE = "unreadable"
_ROW_BYTES, _FREE_BYTES = 128, 1 << 26
_REMEDY = (
    "see whether the source is damaged; if there are that many, raise TICK_MAX_ROWS_PER_DAY, for "
    "which the machine needs some 100 bytes of memory a tick"
)
CODES = {"side": SIDES, "buyer_maker": MAKERS, "suspicious": FLAGS}
_TYPES = {
    "event_time_ns": pl.Int64,
    **dict.fromkeys(VALUES, pl.Float64),
    "side": pl.Int8,
    "suspicious": pl.Boolean,
    "row": pl.Int64,
    "text": pl.String,
}


def read(frame: pl.DataFrame, zone: str, before: int | None) -> pl.DataFrame:
    """The ticks in some rows, and what the source has to know about them.

    Args:
        frame: Columns by what they are, as `columns.recognised` has it, in any type; and `row`.
        zone: The time zone of times that do not say theirs.
        before: The last time read before these rows, in nanoseconds; None if there is none.

    Returns:
        The columns of `SCHEMA`, `text` empty; `place_ns`, the time by which a row belongs to a
        window, null before the first readable time; and `unreadable`, whether something in the
        row cannot be read.
    """
    stamps = time_of(frame, zone, before)
    known = decoded(frame.drop("time", "date", strict=False)).with_columns(event_time_ns=stamps)
    found = shaped(known)
    return found.with_columns(_unreadable(frame, known), place_ns=place(stamps, before))


def decoded(frame: pl.DataFrame) -> pl.DataFrame:
    """Numbers and codes, from however a feed has them; null where they cannot be read."""
    return frame.with_columns(
        *(_number(frame[name]) for name in VALUES if name in frame.columns),
        *(_decoded(frame[name], codes) for name, codes in CODES.items() if name in frame.columns),
    )


def shaped(frame: pl.DataFrame) -> pl.DataFrame:
    """The columns of `SCHEMA`, from those that there are; the price of quotes is the middle."""
    if "bid" in frame.columns:
        frame = frame.with_columns(price=(pl.col("bid") + pl.col("ask")) / 2)
    if "buyer_maker" in frame.columns and "side" not in frame.columns:
        frame = frame.rename({"buyer_maker": "side"})
    return frame.select(
        (pl.col(name) if name in frame.columns else pl.lit(None).alias(name)).cast(kind)
        for name, kind in _TYPES.items()
    )


def empty() -> pl.DataFrame:
    """No ticks."""
    return pl.DataFrame(schema=_TYPES)


def place(stamps: pl.Series, before: int | None) -> pl.Series:
    """The time by which each row belongs to a window: its own, or else that of the row before."""
    if not stamps.null_count():
        return stamps
    return pl.select(pl.coalesce(stamps.fill_null(strategy="forward"), pl.lit(before))).to_series()


def time_of(frame: pl.DataFrame, zone: str, before: int | None) -> pl.Series:
    """The times of rows in nanoseconds since 1970."""
    stamps = frame["time"]
    if "date" in frame.columns:
        stamps = times.of_days(frame["date"], stamps)
    return times.utc(stamps, zone, before)


def table(parts: Iterable[pl.DataFrame], most: int) -> pa.Table:
    """The ticks in what `read` gave, one after the other.

    Raises:
        DataError: There are more than so many, or their texts take more memory than so many do.
    """
    tables, count, size = [], 0, 0
    for part in parts:
        found = part.select(SCHEMA.names).to_arrow().cast(SCHEMA)
        count, size = count + len(found), size + found.nbytes
        check_count(count, most)
        if size > _FREE_BYTES + most * _ROW_BYTES:
            raise DataError(
                f"at most {most} ticks of some {_ROW_BYTES} bytes",
                f"{count} ticks with {size} bytes, most of them text that cannot be read",
                _REMEDY,
            )
        tables.append(found)
    return pa.concat_tables(tables) if tables else SCHEMA.empty_table()


def check_count(count: int, most: int) -> None:
    """Raise `DataError` if there are more ticks than a window may have."""
    if count > most:
        raise DataError(f"at most {most} ticks in the days that are read at once", "more", _REMEDY)


def joined_digest(parts: Iterable[object]) -> str:
    """SHA-256 of some lines."""
    return hashlib.sha256("".join(f"{part}\n" for part in parts).encode()).hexdigest()


def _number(values: pl.Series) -> pl.Series:
    """Numbers as float64, null where there is none or it cannot be read."""
    if isinstance(values.dtype, pl.Categorical | pl.Enum):
        values = values.cast(pl.String)
    if values.dtype == pl.String:
        numbers = values.str.strip_chars().cast(pl.Float64, strict=False)
    else:
        numbers = values.cast(pl.Float64, strict=False)
    return numbers.fill_nan(None) if numbers.is_nan().any() else numbers


def _decoded(values: pl.Series, codes: Mapping[str, int | None]) -> pl.Series:
    # There are few different ones: each is looked at once.
    known = values.unique()
    found = _plain(known).replace_strict(codes, default=None, return_dtype=pl.Int8)
    return values.replace_strict(known, found, return_dtype=pl.Int8)


def _plain(values: pl.Series) -> pl.Series:
    """Values as feeds write them, in lower case."""
    return values.cast(pl.String, strict=False).str.strip_chars().str.to_lowercase()


def _unreadable(frame: pl.DataFrame, known: pl.DataFrame) -> pl.Series:
    """Rows without a time, or with something else that cannot be read."""
    found = known["event_time_ns"].is_null()
    if UNREADABLE in frame.columns:
        found |= frame[UNREADABLE]
    for name in (*VALUES, *CODES):
        if name not in frame.columns or (name in VALUES and frame[name].dtype.is_float()):
            continue
        given = frame[name].fill_nan(None) if frame[name].dtype.is_float() else frame[name]
        if known[name].null_count() == given.null_count():
            continue
        lost = known[name].is_null() & given.is_not_null()
        found |= lost & ~_plain(given).is_in(CODES.get(name, _MISSING)).fill_null(value=True)
    return found.alias(UNREADABLE)


def moved(found: pa.Table, shift: timedelta) -> pa.Table:
    """Ticks some time later."""
    later = pc.add(found["event_time_ns"], shift // timedelta(microseconds=1) * 1000)
    return found.set_column(0, "event_time_ns", later)


def order(roles: Collection[str]) -> list[str]:
    """The columns by which the rows of a table are sorted."""
    ties = ("order",) if "order" in roles else (*VALUES, *CODES)
    return ["time", *(role for role in ties if role in roles)]


def numbered(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows in the order of time, with the number of each in its UTC day as `row`."""
    day = pl.col("event_time_ns") // times.DAY_NS
    return frame.with_columns(pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over(day).alias("row"))
