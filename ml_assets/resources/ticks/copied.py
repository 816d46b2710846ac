"""Rows of PostgreSQL's binary COPY, a few megabytes at a time.

The query has no nulls, so that all rows are equally long. Loaded when a step runs.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import pyarrow as pa
from psycopg2 import sql

from ml_assets.resources.ticks import rows
from ml_assets.resources.ticks.columns import VALUES

_HEADER_BYTES = 19
_CHUNK_BYTES = 1 << 22
_EPOCH_US = 946_684_800 * 10**6
_UNKNOWN = -128


def expressions(named: Mapping[str, sql.Identifier]) -> list[sql.Composable]:
    """What the query selects: time, numbers with NaN for missing, then codes."""
    return [
        sql.SQL("{}::timestamptz").format(named["time"]),
        *(
            sql.SQL("coalesce({}::float8, 'NaN')").format(named[role])
            for role in VALUES
            if role in named
        ),
        *(_code(named[role], codes) for role, codes in rows.CODES.items() if role in named),
    ]


def _code(column: sql.Identifier, codes: Mapping[str, int | None]) -> sql.Composed:
    """A side or flag as a number."""
    known = {
        code: [text for text, found in codes.items() if found == code]
        for code in sorted({code for code in codes.values() if code is not None})
    }
    cases = [
        sql.SQL("WHEN lower(trim({}::text)) IN ({}) THEN {}").format(
            column, sql.SQL(", ").join(map(sql.Literal, texts)), sql.Literal(code)
        )
        for code, texts in known.items()
    ]
    return sql.SQL("(CASE {} ELSE {} END)::int2").format(
        sql.SQL(" ").join(cases), sql.Literal(_UNKNOWN)
    )


class Copied:
    """A file to which psycopg2 writes the rows, and which keeps them as ticks."""

    def __init__(self, roles: Sequence[str] | Mapping[str, str], most: int) -> None:
        self._count, self._most = 0, most
        self._values = [role for role in VALUES if role in roles]
        self._codes = [role for role in rows.CODES if role in roles]
        kinds = {"time": ">i8", **dict.fromkeys(self._values, ">f8")}
        kinds |= dict.fromkeys(self._codes, ">i2")
        fields = [("fields", ">i2")]
        for name, kind in kinds.items():
            fields += [(f"{name}_bytes", ">i4"), (name, kind)]
        self._row = np.dtype(fields)
        self._held = bytearray()
        self._skipped = 0
        self._frames: list[pl.DataFrame] = []

    def write(self, content: bytes) -> None:
        """Take some more bytes."""
        self._held += content
        if len(self._held) >= _CHUNK_BYTES:
            self._take()

    def table(self) -> pa.Table:
        """The ticks, when all is written."""
        self._take()
        frame = rows.numbered(pl.concat([rows.empty(), *self._frames]))
        self._frames.clear()
        return rows.table([frame], self._most)

    def _take(self) -> None:
        """Make ticks of the whole rows; the end, two bytes, is shorter than any."""
        begin = 0 if self._skipped else min(_HEADER_BYTES, len(self._held))
        self._skipped |= begin
        number = (len(self._held) - begin) // self._row.itemsize
        if number:
            found = np.frombuffer(bytes(self._held[begin:]), self._row, number)
            self._count += number
            rows.check_count(self._count, self._most)
            self._frames.append(self._ticks(found))
        del self._held[: begin + number * self._row.itemsize]

    def _ticks(self, found: np.ndarray) -> pl.DataFrame:
        columns = {"event_time_ns": (found["time"].astype(np.int64) + _EPOCH_US) * 1000}
        columns |= {role: found[role].astype(np.float64) for role in self._values}
        columns |= {role: found[role].astype(np.int16) for role in self._codes}
        frame = pl.DataFrame(columns).with_columns(
            pl.col(self._codes).replace(_UNKNOWN, None), pl.col(self._values).fill_nan(None)
        )
        return rows.shaped(frame)
