"""Where raw data files come from: the bundled sample, a local directory, or a download.

Sample and download are compared with their digests before anybody reads them; the digest of a
local file is recorded. What is in the file is the group's business (its `data.py`).
"""

import hashlib
import logging
import os
from pathlib import Path
from typing import Literal

import dagster as dg
from pydantic import Field

from ml_assets.ml.errors import DataError
from ml_assets.ml.untrusted import check_regular, open_regular
from ml_assets.resources.downloads import MAX_SECONDS, Limits, check_place, downloading
from ml_assets.settings import without_credentials

SAMPLES = Path(__file__).parents[1] / "samples"

_MAX_BYTES = 1 << 31

logger = logging.getLogger(__name__)


class DatasetFile(dg.ConfigurableResource):
    """One raw data file and the three places it can come from."""

    source: Literal["sample", "local", "keras"] = Field(
        description="`sample`: bundled with the project; `local`: a directory of yours; "
        "`keras`: downloaded once from where Keras keeps it."
    )
    file_name: str = Field(description="Name of the file, in all three places.")
    other_name: str = Field(default="", description="For `local`: what else it may be called.")
    sample_sha256: str = Field(description="SHA-256 of the bundled sample.")
    directory: str = Field(description="For `local`: the directory that holds the file.")
    url: str = Field(description="For `keras`: where to download the file.")
    sha256: str = Field(description="For `keras`: SHA-256 of the download.")
    cache_directory: str = Field(description="For `keras`: where the download is kept.")
    timeout_seconds: float = Field(default=60, gt=0, description="For `keras`: silence allowed.")
    total_seconds: float = Field(
        default=MAX_SECONDS, gt=0, description="For `keras`: how long the download may take."
    )

    def fetch(self) -> Path:
        """Path of the file, downloaded first where need be, its digest checked.

        Raises:
            DataError: The file is missing, or its digest is not the expected one.
            dagster.Failure: The download failed; it may be tried again.
        """
        if self.source == "keras":
            return _downloaded(
                self.url,
                f"sha256:{self.sha256}",
                Path(self.cache_directory) / self.file_name,
                Limits(_MAX_BYTES, self.timeout_seconds, self.total_seconds),
                "use the source `local`",
            )
        path = self._path()
        if self.source == "sample" and (found := _sha256(path)) != self.sample_sha256:
            raise DataError(
                f"SHA-256 {self.sample_sha256} of the bundled {path}",
                found,
                "install the package again",
            )
        return path

    def digest(self) -> str:
        """SHA-256 that the fetched file has, known without a download.

        Raises:
            DataError: The file is missing.
        """
        if self.source == "keras":
            return self.sha256
        return _sha256(self._path())

    def describe(self) -> str:
        """Where the file comes from, for people."""
        places = {
            "sample": "ml_assets/samples",
            "local": self.directory,
            "keras": without_credentials(self.url),
        }
        return f"{self.source}: {places[self.source]}"

    def _path(self) -> Path:
        directory, names = SAMPLES, [self.file_name]
        if self.source == "local":
            directory, names = Path(self.directory), [*names, *filter(None, [self.other_name])]
        for name in names:
            # What is no file, or cannot be read, is told when it is opened.
            if os.path.lexists(directory / name):
                check_regular(directory / name)
                return directory / name
        raise DataError(
            f"the file {directory / names[0]}", "no such file", f"put {' or '.join(names)} there"
        )


class PretrainedWeights(dg.ConfigurableResource):
    """Weights that somebody else trained: a file of yours, or a download."""

    path: str = Field(description="A file of yours; empty for the download.")
    url: str = Field(description="Where to download the file.")
    known_hash: str = Field(description="Digest of the download, as `algorithm:hexadecimal`.")
    cache_directory: str = Field(description="Where the download is kept.")
    timeout_seconds: float = Field(default=60, gt=0, description="Silence allowed.")
    total_seconds: float = Field(
        default=MAX_SECONDS, gt=0, description="How long the download may take."
    )

    def fetch(self) -> Path:
        """Path of the file, downloaded first where need be, its digest checked.

        Raises:
            DataError: The file is missing, or its digest is not the expected one.
            dagster.Failure: The download failed; it may be tried again.
        """
        if not self.path:
            return _downloaded(
                self.url,
                self.known_hash,
                Path(self.cache_directory) / self.url.rsplit("/", 1)[-1],
                Limits(_MAX_BYTES, self.timeout_seconds, self.total_seconds),
                "name a file of yours instead",
            )
        path = Path(self.path)
        if os.path.lexists(path):
            check_regular(path)
        else:
            raise DataError(f"weights at {path}", "no such file", "put the file there")
        return path


def _sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _downloaded(url: str, known_hash: str, path: Path, limits: Limits, instead: str) -> Path:
    """The file at `path`, downloaded if it is missing or damaged."""
    import pooch

    algorithm, expected = known_hash.split(":")
    check_place(path)
    if path.is_file() and pooch.file_hash(path, algorithm) != expected:
        logger.warning("downloading again, the cached file is damaged: %s", path)
    try:
        with downloading(url):
            found = pooch.retrieve(
                url,
                known_hash=known_hash,
                fname=path.name,
                path=path.parent,
                downloader=limits,
            )
    except DataError:
        raise
    except ValueError as error:
        raise DataError(
            f"{known_hash} of {without_credentials(url)}",
            str(error),
            "try again later; if it stays so, download the file from a source you trust and "
            + instead,
        ) from error
    return Path(found)
