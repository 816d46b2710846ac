"""Ticks in files: a directory of yours, and the bundled sample.

Files are CSV, `.csv.gz` or Parquet. What their names say does not matter, the times in them do:
each file is looked through once for the times it holds, and again only when it has changed.
"""

from abc import abstractmethod
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator

from ml_assets.ml.errors import DataError
from ml_assets.resources.archives import sha256, version
from ml_assets.resources.datasets import SAMPLES
from ml_assets.resources.ticks.columns import check_given
from ml_assets.resources.ticks.source import TickSource

if TYPE_CHECKING:
    import pyarrow as pa

    from ml_assets.resources.ticks.index import File
    from ml_assets.resources.ticks.parts import Form


class _TickFiles(TickSource):
    """Files of ticks."""

    def read(self, start: datetime, end: datetime) -> "pa.Table":
        """The ticks from `start` to before `end`, by files in the order of their first times."""
        from ml_assets.resources.ticks import index, rows

        found = index.read(self._files(), self._form(), self._cache(), (start, end))
        return rows.table(found, self._most_rows(start, end))

    def digest(self, start: datetime, end: datetime) -> str:
        """SHA-256 of the digests of the parts of files that may have ticks of the window."""
        from ml_assets.resources.ticks import index

        return index.digest(self._files(), self._form(), self._cache(), (start, end))

    def days(self, timezone: str = "UTC") -> dict[date, str]:
        """The digest of each day that has ticks."""
        from ml_assets.resources.ticks import index

        return index.days(self._files(), self._form(), self._cache(), timezone)

    @abstractmethod
    def _files(self) -> "tuple[File, ...]":
        """The files.

        Raises:
            DataError: There are none.
        """

    @abstractmethod
    def _form(self) -> "Form": ...

    def _cache(self) -> Path | None:
        """Where the times of files are remembered."""
        return None


class FileTicks(_TickFiles):
    """A directory of yours: one or many files a day, or many days a file; trades or quotes.

    The columns are told by their names, of which many spellings are known; with price and size
    they are trades, with bid and ask quotes. Times are ISO 8601, or seconds, milliseconds,
    microseconds or nanoseconds since 1970; several files may overlap.
    """

    directory: str = Field(description="The directory.")
    timezone: str = Field(
        default="UTC", description="The time zone of times that do not say theirs."
    )
    columns: dict[str, str] = Field(
        default={},
        description="Names of columns whose spelling is not known, by what they are, such as "
        "`{'price': 'Kurs'}`.",
    )
    cache_directory: str = Field(
        default="",
        description="Where the times that files hold are remembered from run to run; empty: only "
        "within a process.",
    )
    max_bytes: int = Field(
        default=2**36, gt=0, description="The most bytes that an unpacked `.csv.gz` may have."
    )

    _check_columns = field_validator("columns")(check_given)

    @field_validator("timezone")
    @classmethod
    def _check_timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ValueError, OSError, KeyError) as error:
            raise ValueError(
                f"expected a time zone such as America/New_York; found {value!r}; remedy: "
                "correct it"
            ) from error
        return value

    def describe(self) -> str:
        """Where the ticks come from, for people."""
        return f"files: {self.directory}"

    def _files(self) -> "tuple[File, ...]":
        from ml_assets.resources.ticks import index

        directory = Path(self.directory)
        if directory.is_dir() and (found := index.find(directory)):
            return found
        raise DataError(
            f"in {directory} files such as trades.csv, trades.csv.gz or trades.parquet",
            "none of them" if directory.is_dir() else "no such directory",
            "put them there, or correct the directory",
        )

    def _form(self) -> "Form":
        from ml_assets.resources.ticks.parts import Form

        return Form(self.timezone, tuple(sorted(self.columns.items())), self.max_bytes)

    def _cache(self) -> Path | None:
        return Path(self.cache_directory) if self.cache_directory else None


class SampleTicks(_TickFiles):
    """The sample that is bundled with the project."""

    file_name: str = Field(description="Name of the Parquet file among the samples.")
    sha256: str = Field(description="SHA-256 of the file.")

    def describe(self) -> str:
        """Where the ticks come from, for people."""
        return f"sample: ml_assets/samples/{self.file_name}"

    def _files(self) -> "tuple[File, ...]":
        from ml_assets.resources.ticks.index import File

        path, remedy = SAMPLES / self.file_name, "install the package again"
        if not path.is_file():
            raise DataError(f"the bundled {path}", "no such file", remedy)
        if (found := sha256(path)) != self.sha256:
            raise DataError(f"SHA-256 {self.sha256} of the bundled {path}", found, remedy)
        return (File(str(path), *version(path)),)

    def _form(self) -> "Form":
        from ml_assets.resources.ticks.parts import Form

        return Form("UTC", (), 0)
