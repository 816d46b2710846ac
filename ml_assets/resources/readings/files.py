"""Readings in files: the bundled sample, UCI's download, and files of yours.

Sample and download are compared with their digests before anybody reads them. Text that comes
in a zip is unpacked once and kept in a cache directory, where it is found by its digest.
"""

import hashlib
import logging
import os
import tempfile
from abc import abstractmethod
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from ml_assets.ml.errors import DataError
from ml_assets.resources.archives import ZippedText, sha256
from ml_assets.resources.datasets import SAMPLES
from ml_assets.resources.downloads import MAX_SECONDS, Limits, check_place, download, downloading
from ml_assets.resources.readings.source import ReadingsSource
from ml_assets.settings import without_credentials

if TYPE_CHECKING:
    import pyarrow as pa

    from ml_assets.resources.readings.daily import Form

logger = logging.getLogger(__name__)


class _ReadingsFile(ReadingsSource):
    """One text file in UCI's form that is in a zip, with a digest known beforehand."""

    file_name: str = Field(description="Name of the text file in the zip.")
    header: str = Field(description="The first line of the text file.")
    sha256: str = Field(description="SHA-256 of the text file.")
    cache_directory: str = Field(description="Where the unpacked text file is kept.")
    max_bytes: int = Field(
        default=2**30, gt=0, description="The most bytes that the unpacked text file may have."
    )

    def read(self, start: date, end: date) -> "pa.Table":
        """The lines of the days from `start` to before `end`, as they arrived, in their order.

        Raises:
            DataError: The zip is missing or damaged, or the digest is not the expected one.
            dagster.Failure: The download failed; it may be tried again.
        """
        from ml_assets.resources.readings import lines

        path = _kept(self.cache_directory, self.sha256, self._unpack)
        return lines.read(path, self.header, start, end)

    def digest(self, start: date, end: date) -> str:  # noqa: ARG002 - one file for all days
        """SHA-256 of the whole text file, known without fetching it."""
        return self.sha256

    @abstractmethod
    def _unpack(self, target: Path) -> None:
        """Put the text file where it is kept, its digest checked."""

    def _zipped(self, archive: Path, remedy: str) -> ZippedText:
        return ZippedText(archive, self.file_name, self.max_bytes, remedy)


class SampleReadings(_ReadingsFile):
    """The sample that is bundled with the project."""

    archive_name: str = Field(description="Name of the zip among the samples.")

    def describe(self) -> str:
        """Where the readings come from, for people."""
        return f"sample: ml_assets/samples/{self.archive_name}"

    def _unpack(self, target: Path) -> None:
        archive, remedy = SAMPLES / self.archive_name, "install the package again"
        if not archive.is_file():
            raise DataError(f"the bundled {archive}", "no such file", remedy)
        self._zipped(archive, remedy).unpack(target, self.sha256)


class UciReadings(_ReadingsFile):
    """The full data set, downloaded once from the UCI Machine Learning Repository."""

    url: str = Field(description="Where to download the zip.")
    timeout_seconds: float = Field(default=60, gt=0, description="Silence allowed, in seconds.")
    total_seconds: float = Field(
        default=MAX_SECONDS, gt=0, description="How long the download may take."
    )

    def describe(self) -> str:
        """Where the readings come from, for people."""
        return f"uci: {without_credentials(self.url)}"

    def _unpack(self, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        limits = Limits(self.max_bytes, self.timeout_seconds, self.total_seconds)
        remedy = (
            f"try {without_credentials(self.url)} again later; if it stays so, download the file "
            "from a source you trust and use the source `local`"
        )
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as directory:
            # The zip's own digest is not known: that of the text in it decides.
            archive = Path(directory) / "download.zip"
            with downloading(self.url):
                download(self.url, archive, limits)
            self._zipped(archive, remedy).unpack(target, self.sha256)


class LocalReadings(ReadingsSource):
    """A directory of yours: one text file, or a zip with it, or else one file a day.

    The text file has UCI's form. Files a day are CSV, `.csv.gz` or Parquet, with the day in
    their names as `2008-01-31`, and have UCI's columns or those of `columns`.
    """

    directory: str = Field(description="The directory.")
    file_name: str = Field(description="Name of the text file, also in the zip.")
    archive_name: str = Field(description="Name of the zip.")
    header: str = Field(description="UCI's nine column names, separated by `;`.")
    columns: list[str] = Field(
        description="Other column names for files a day: the time, then the seven values.",
        min_length=8,
        max_length=8,
    )
    timezone: str = Field(description="The time zone of the readings, such as `Europe/Paris`.")
    cache_directory: str = Field(description="Where the text file of a zip is kept, unpacked.")
    max_bytes: int = Field(
        default=2**30, gt=0, description="The most bytes that an unpacked text file may have."
    )

    def read(self, start: date, end: date) -> "pa.Table":
        """The lines of the days from `start` to before `end`, as they arrived, in their order."""
        import pyarrow as pa

        from ml_assets.resources.readings import daily, lines

        if file := self._file():
            return lines.read(file, self.header, start, end)
        form = self._form()
        days = [daily.read(path, day, form) for day, path in self._days(start, end).items()]
        return pa.concat_tables(days) if days else lines.SCHEMA.empty_table()

    def digest(self, start: date, end: date) -> str:
        """SHA-256 of the text file, or of the names and digests of the days' files."""
        if file := self._file():
            return sha256(file)
        days = [f"{path.name} {sha256(path)}\n" for path in self._days(start, end).values()]
        return hashlib.sha256("".join(days).encode()).hexdigest()

    def describe(self) -> str:
        """Where the readings come from, for people."""
        return f"local: {self.directory}"

    def _form(self) -> "Form":
        from ml_assets.resources.readings.daily import Form

        return Form(self.header, tuple(self.columns), self.timezone, self.max_bytes)

    def _file(self) -> Path | None:
        """The one text file, unpacked where need be; None if there are files a day."""
        directory = Path(self.directory)
        # What is no file, or cannot be read, is told when it is opened.
        if os.path.lexists(file := directory / self.file_name):
            return file
        if os.path.lexists(archive := directory / self.archive_name):
            return self._unpacked(archive)
        return None

    def _unpacked(self, archive: Path) -> Path:
        zipped = ZippedText(archive, self.file_name, self.max_bytes, "supply the zip again")
        digest = zipped.sha256()
        return _kept(self.cache_directory, digest, lambda path: zipped.unpack(path, digest))

    def _days(self, start: date, end: date) -> "dict[date, Path]":
        """The files of the days from `start` to before `end`, in order.

        Raises:
            DataError: There are no files at all, or two for a day.
        """
        from ml_assets.resources.readings import daily

        directory = Path(self.directory)
        found = daily.find(directory) if directory.is_dir() else {}
        if found:
            return {day: found[day] for day in sorted(found) if start <= day < end}
        raise DataError(
            f"in {directory} {self.file_name}, {self.archive_name} or files a day such as "
            "2008-01-31.csv, 2008-01-31.csv.gz or 2008-01-31.parquet",
            "none of them" if directory.is_dir() else "no such directory",
            "put them there, or correct the directory",
        )


def _kept(directory: str, digest: str, unpack: Callable[[Path], None]) -> Path:
    """Path of the text file with this SHA-256, unpacked when missing or damaged."""
    path = Path(directory) / f"readings-{digest}.txt"
    check_place(path)
    if path.is_file():
        if sha256(path) == digest:
            return path
        logger.warning("unpacking again, the cached file is damaged: %s", path)
    unpack(path)
    return path
