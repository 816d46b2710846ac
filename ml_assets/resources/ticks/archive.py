"""Ticks in an exchange's public archive: one zip a UTC day, by URL template.

The digest beside each zip is asked for every time, so that a day that the exchange publishes
again is noticed; the zip itself is downloaded once for each digest.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import ConfigDict, Field, field_validator

from ml_assets.ml.errors import DataError
from ml_assets.resources import downloads
from ml_assets.resources.archives import ZippedText
from ml_assets.resources.downloads import MAX_BYTES, MAX_SECONDS, Limits, check_place, downloading
from ml_assets.resources.ticks.columns import check_names
from ml_assets.resources.ticks.source import TickSource
from ml_assets.settings import without_credentials

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_CHECKSUM_BYTES = 1 << 16


class ArchiveTicks(TickSource):
    """Daily zips, each with one CSV without a header, and a file with its SHA-256 beside it.

    Downloads that fail otherwise than described raise `dagster.Failure`; they may be tried again.
    """

    url: str = Field(
        description="Where the zips are, with `{symbol}` and `{date}` (2026-01-31), such as "
        "`https://data.binance.vision/data/spot/daily/trades/{symbol}/{symbol}-trades-{date}.zip`."
    )
    symbol: str = Field(description="What is traded, as the archive spells it: `BTCUSDT`.")
    column_names: list[str] = Field(
        description="What the columns of the CSV are called, in their order; the names tell what "
        "they are, as those of files do."
    )
    checksum_suffix: str = Field(
        default=".CHECKSUM", description="What the URL of the digest has after that of the zip."
    )
    cache_directory: str = Field(description="Where the zips are kept.")
    max_bytes: int = Field(
        default=2**35, gt=0, description="The most bytes that an unpacked CSV may have."
    )
    timeout_seconds: float = Field(
        default=60, gt=0, description="Silence allowed, and time for the digest, in seconds."
    )
    total_seconds: float = Field(
        default=MAX_SECONDS, gt=0, description="How long the download of a zip may take."
    )

    _check_names = field_validator("column_names")(check_names)

    model_config = ConfigDict(hide_input_in_errors=True)  # it may hold a password

    @field_validator("url", mode="before")
    @classmethod
    def _check_url(cls, value: str) -> str:
        if isinstance(value, dg.EnvVar):  # its value is checked when a run starts
            return value
        value.format(symbol="", date="")
        if "{date}" not in value:
            raise ValueError("expected a URL with {date}; remedy: put it where the day stands")
        return value

    def read(self, start: datetime, end: datetime) -> "pa.Table":
        """The ticks from `start` to before `end`, in the order of the archive.

        Memory: the window.

        Raises:
            DataError: There is no zip for a day, its digest is another, or it is damaged.
        """
        from ml_assets.resources.ticks import rows

        found = (ticks for day in _days(start, end) for ticks in self._ticks(day, (start, end)))
        return rows.table(found, self._most_rows(start, end))

    def digest(self, start: datetime, end: datetime) -> str:
        """Digest of the zips' digests, known without downloading them.

        Raises:
            DataError: There is no zip for a day.
        """
        from ml_assets.resources.ticks.rows import joined_digest

        found = [f"{day} {self._checksum(day)}" for day in _days(start, end)]
        return joined_digest([start, end, self.column_names, *found])

    def describe(self) -> str:
        """Where the ticks come from, for people."""
        return f"archive: {self.symbol} of {without_credentials(self.url)}"

    def _ticks(self, day: date, window: tuple[datetime, datetime]) -> "Iterator[pl.DataFrame]":
        from ml_assets.ml.days import nanoseconds
        from ml_assets.resources.ticks import csv_files

        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        zipped = self._zipped(day)
        yield from csv_files.streamed(
            zipped.blocks(),
            csv_files.named(self.column_names, str(zipped.archive)),
            nanoseconds(midnight),
            (nanoseconds(window[0]), nanoseconds(window[1])),
        )

    def _zipped(self, day: date) -> ZippedText:
        """The CSV of a day, in its zip, which is downloaded unless it is kept already."""
        import pooch

        url, checksum = self._url(day), self._checksum(day)
        name = PurePosixPath(without_credentials(url)).name
        place = hashlib.sha256(url.encode()).hexdigest()[:8]
        check_place(Path(self.cache_directory) / f"{place}-{name}")
        try:
            with downloading(url), _published(day, url):
                path = pooch.retrieve(
                    url,
                    known_hash=f"sha256:{checksum}",
                    fname=f"{place}-{name}",
                    path=self.cache_directory,
                    downloader=Limits(MAX_BYTES, self.timeout_seconds, self.total_seconds),
                )
        except DataError:
            raise
        except ValueError as error:
            raise DataError(
                f"SHA-256 {checksum} of {without_credentials(url)}",
                str(error),
                "try again later: the archive may be about to publish the day",
            ) from error
        remedy = f"delete {path} and try again; if it stays so, tell the archive"
        return ZippedText(
            Path(path), str(PurePosixPath(name).with_suffix(".csv")), self.max_bytes, remedy
        )

    def _checksum(self, day: date) -> str:
        """SHA-256 of a day's zip, as the archive gives it.

        Raises:
            DataError: The archive has none.
        """
        url = f"{self._url(day)}{self.checksum_suffix}"
        limits = Limits(_CHECKSUM_BYTES, self.timeout_seconds, self.timeout_seconds)
        with downloading(url), _published(day, url):
            text = downloads.read(url, limits).decode("utf-8", "replace")
        if found := re.match(r"\s*([0-9a-fA-F]{64})\b", text):
            return found[1].lower()
        raise DataError(
            f"a SHA-256 at {without_credentials(url)}",
            repr(text[:100]),
            "correct the URL or the suffix of the digest",
        )

    def _url(self, day: date) -> str:
        return self.url.format(symbol=self.symbol, date=day.isoformat())


@contextmanager
def _published(day: date, url: str) -> Iterator[None]:
    """Raise `DataError` if the archive has no such file."""
    import requests

    try:
        yield
    except requests.HTTPError as error:
        if error.response.status_code != HTTPStatus.NOT_FOUND:
            raise
        raise DataError(
            f"ticks of {day} at {without_credentials(url)}",
            "404 Not Found",
            "wait until the archive has published the day, or correct URL and symbol",
        ) from None


def _days(start: datetime, end: datetime) -> list[date]:
    """The UTC days that a window touches."""
    first, last = start.astimezone(UTC), end.astimezone(UTC) - timedelta(microseconds=1)
    return [
        first.date() + timedelta(days=number)
        for number in range((last.date() - first.date()).days + 1)
    ]
