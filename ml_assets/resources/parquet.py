"""Parquet files that nobody vouches for: flat columns and short fields, a batch at a time.

A file of a megabyte may hold a hundred million rows, or a batch that is a terabyte as plain text:
what is repeated is written once. Which columns are read, and what is in them, is the sources'
business. Loaded when a step runs.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ml_assets.ml.errors import DataError
from ml_assets.ml.untrusted import check_regular, parsing

BATCH_ROWS = 1 << 18
MAX_FIELD_BYTES = 1 << 10
MAX_ROWS = 1 << 32
"""Of a file. How many are kept at a time has closer bounds."""

_REMEDY = "supply the file again"


@dataclass(frozen=True)
class ParquetInput:
    """An open file.

    Attributes:
        file: The file; its texts come as dictionaries.
        path: Where it is.
    """

    file: pq.ParquetFile
    path: Path

    def batches(self, columns: Sequence[str], groups: Sequence[int]) -> Iterator[pa.Table]:
        """Rows of some row groups, a batch at a time; texts as strings.

        Raises:
            DataError: The file is damaged, a column is not flat, or a field is too long.
        """
        for name in columns:
            self._check_kind(name)
        with self.parsing():
            found = self.file.iter_batches(BATCH_ROWS, list(groups), columns=list(columns))
        while True:
            with self.parsing():
                batch = next(found, None)
            if batch is None:
                return
            yield pa.table([self._plain(column) for column in batch.columns], batch.schema.names)

    def parsing(self) -> AbstractContextManager[None]:
        """Report what Arrow makes of damage."""
        return parsing(f"a whole Parquet file with times and numbers: {self.path}", _REMEDY)

    def _check_kind(self, name: str) -> None:
        with self.parsing():
            kind = self.file.schema_arrow.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        bytes_or_nested = pa.types.is_nested(kind) or pa.types.is_fixed_size_binary(kind)
        if bytes_or_nested or isinstance(kind, pa.BaseExtensionType):
            raise DataError(
                f"a Parquet file with times and numbers: {self.path}",
                f"{kind} in the column {name}",
                "supply the file with numbers, times or texts in that column",
            )

    def _plain(self, column: pa.Array) -> pa.Array:
        """The column, its texts checked before they are repeated."""
        if not pa.types.is_dictionary(column.type):
            return column
        with self.parsing():
            column.validate(full=True)
            longest = 0
            if _is_text(column.type.value_type):
                longest = pc.max(pc.binary_length(column.dictionary)).as_py() or 0
        if longest > MAX_FIELD_BYTES:
            raise DataError(
                f"fields of at most {MAX_FIELD_BYTES} bytes in {self.path}",
                f"one of {longest}",
                _REMEDY,
            )
        with self.parsing():
            return column.dictionary_decode()


@contextmanager
def opened(path: Path) -> Iterator[ParquetInput]:
    """A Parquet file.

    Raises:
        DataError: It is no such file, or damaged.
    """
    check_regular(path, _REMEDY)
    expected = f"a whole Parquet file with times and numbers: {path}"
    with parsing(expected, _REMEDY):
        plain = pq.ParquetFile(path)
        # Memory for what is repeated is needed once, and not as often as it is repeated.
        repeated = [field.name for field in plain.schema_arrow if _is_text(field.type)]
        rows = plain.metadata.num_rows
        if repeated:
            plain.close()
            plain = pq.ParquetFile(path, read_dictionary=repeated)
    with plain as file:
        if rows > MAX_ROWS:
            raise DataError(f"at most {MAX_ROWS} rows in {path}", f"{rows}", _REMEDY)
        yield ParquetInput(file, path)


def _is_text(kind: pa.DataType) -> bool:
    tests = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_binary_view,
    )
    return any(test(kind) for test in tests)
