"""Small texts in UCI's form, and sources of them."""

import hashlib
import io
import zipfile
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from ml_assets.power import data
from ml_assets.resources.readings import LocalReadings, SampleReadings, UciReadings

COLUMNS = ["event_time", *data.COLUMNS]
TIMEZONE = "Europe/Paris"
DAY = timedelta(days=1)
MONDAY = date(2008, 1, 7)
VALUES = "0.242;0.050;241.600;1.000;0.000;0.000;1.000"
ALWAYS = (date(1, 1, 1), date(9999, 12, 31))


def line(day: date, time: str = "00:00:00", values: str = VALUES) -> str:
    return f"{day.day}/{day.month}/{day.year};{time};{values}"


def text(*lines: str, end: str = "\r\n") -> bytes:
    """A text file with these lines below the header."""
    return "".join(f"{one}{end}" for one in (data.HEADER, *lines)).encode()


THREE_DAYS = text(
    *(line(MONDAY + day * DAY, f"{hour:02}:00:00") for day in range(3) for hour in range(24))
)


def zipped(content: bytes, name: str = data.FILE_NAME) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def local(directory: Path, **changes: Any) -> LocalReadings:
    return LocalReadings(
        **{
            "directory": str(directory),
            "file_name": data.FILE_NAME,
            "archive_name": data.ARCHIVE_NAME,
            "header": data.HEADER,
            "columns": COLUMNS,
            "timezone": TIMEZONE,
            "cache_directory": str(directory / "cache"),
        }
        | changes
    )


def sample(directory: Path, **changes: Any) -> SampleReadings:
    return SampleReadings(
        **{
            "archive_name": data.SAMPLE_NAME,
            "file_name": data.FILE_NAME,
            "header": data.HEADER,
            "sha256": data.SAMPLE_SHA256,
            "cache_directory": str(directory / "cache"),
        }
        | changes
    )


def uci(directory: Path, url: str, content: bytes = THREE_DAYS, **changes: Any) -> UciReadings:
    return UciReadings(
        **{
            "url": url,
            "file_name": data.FILE_NAME,
            "header": data.HEADER,
            "sha256": hashlib.sha256(content).hexdigest(),
            "cache_directory": str(directory / "cache"),
            "timeout_seconds": 2,
        }
        | changes
    )


def rows(table: pa.Table) -> list[tuple[date, int, str]]:
    """The rows of a table that has the columns every source gives."""
    assert table.schema == pa.schema(
        [("day", pa.date32()), ("line", pa.int64()), ("text", pa.string())]
    )
    return [tuple(row.values()) for row in table.to_pylist()]
