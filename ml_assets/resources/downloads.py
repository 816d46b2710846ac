"""Downloads, bounded in bytes and in time; their URLs may hold secrets, which nobody is shown."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

import dagster as dg
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from ml_assets.ml.errors import DataError
from ml_assets.ml.untrusted import check_regular
from ml_assets.resources.deadlines import within
from ml_assets.settings import scrubbed, without_credentials

if TYPE_CHECKING:
    import requests

MAX_SECONDS = 3600.0
MAX_BYTES = 1 << 34
_REDIRECTS = 5
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Limits:
    """How much a server may say, and how long it may take.

    Attributes:
        bytes: The most bytes of an answer, which is not unpacked.
        silence_seconds: The longest silence.
        seconds: The longest time in all.
    """

    bytes: int
    silence_seconds: float
    seconds: float = MAX_SECONDS

    def __call__(self, url: str, output: Any, _: object) -> None:
        """Download as one of Pooch's downloaders."""
        download(url, output, self)


@contextmanager
def downloading(url: str) -> Iterator[None]:
    """Report what goes wrong with a download.

    Raises:
        dagster.Failure: The server does not answer, or refuses; it may be tried again.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel(logging.WARNING)  # it would log the whole URL
    try:
        yield
    except requests.RequestException as error:
        # Not raised from the error, whose own message would be shown too.
        raise dg.Failure(
            f"The download of {without_credentials(url)} failed: {scrubbed(str(error))}. Expected: "
            "a server that answers with the file. Remedy: try again later, or correct the URL."
        ) from None


def read(url: str, limits: Limits) -> bytes:
    """What a server answers.

    Raises:
        DataError: The answer is too large.
        dagster.Failure: It takes too long.
        requests.RequestException: The server does not answer, or refuses.
    """
    return within(limits.seconds, _what(url), lambda: b"".join(_blocks(url, limits)))


def download(url: str, output: str | Path | IO[bytes], limits: Limits) -> None:
    """Write what a server answers to a file, with a progress bar on a terminal.

    Raises:
        DataError: The answer is too large.
        dagster.Failure: It takes too long.
        requests.RequestException: The server does not answer, or refuses.
    """

    def write() -> None:
        if not isinstance(output, str | Path):
            output.writelines(_shown_blocks(url, limits))
            return
        with Path(output).open("wb") as file:
            file.writelines(_shown_blocks(url, limits))

    within(limits.seconds, _what(url), write)


def check_place(path: Path) -> None:
    """Raise `DataError` if what is where a download is kept is no file."""
    if os.path.lexists(path):
        check_regular(path, "remove it; the file is downloaded again")


def _what(url: str) -> str:
    return f"The download of {without_credentials(url)}"


def _shown_blocks(url: str, limits: Limits) -> Iterator[bytes]:
    """The bytes of the answer as they were sent, counted by a progress bar on a terminal."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        name = Path(urlsplit(without_credentials(url)).path).name
        task = progress.add_task(f"downloading {name}", total=None)
        for block in _blocks(url, limits, lambda total: progress.update(task, total=total)):
            progress.advance(task, len(block))
            yield block


def _blocks(
    url: str, limits: Limits, announced: Callable[[int | None], None] = lambda _: None
) -> Iterator[bytes]:
    """The bytes of the answer as they were sent; `announced` is told how many are to come."""
    import requests
    from urllib3.exceptions import HTTPError

    ends = time.monotonic() + limits.seconds
    with requests.Session() as session:
        session.max_redirects = _REDIRECTS
        # Not packed: a few megabytes of gzip are gigabytes when they are unpacked.
        response = session.get(
            url,
            headers={"Accept-Encoding": "identity"},
            timeout=limits.silence_seconds,
            stream=True,
        )
        with response:
            _require_secure(url, response)
            response.raise_for_status()
            size, expected = 0, _length(response)
            announced(expected)
            while True:
                try:
                    block = response.raw.read1(_BLOCK, decode_content=False)
                except HTTPError as error:
                    raise requests.ConnectionError(error) from error
                if not block:
                    break
                size += len(block)
                if size > limits.bytes:
                    raise DataError(
                        f"at most {limits.bytes} bytes at {without_credentials(url)}",
                        "more",
                        "correct the URL; if it is right, tell those who publish the file",
                    )
                if time.monotonic() > ends:
                    raise requests.Timeout(f"more than {limits.seconds:g} s")
                yield block
            if expected is not None and size != expected:
                raise requests.ConnectionError(f"{size} bytes of {expected}")


def _length(response: "requests.Response") -> int | None:
    """The number of bytes that the server announced, if it did."""
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() else None


def _require_secure(url: str, response: "requests.Response") -> None:
    """Raise unless all redirects of an encrypted connection are encrypted too."""
    import requests

    hops = [hop.headers.get("Location", "") for hop in response.history] + [response.url]
    if url.startswith("https:") and any(hop.startswith("http:") for hop in hops):
        raise requests.exceptions.InvalidURL("a redirect from https to http")
