"""Digests, and one text file out of a zip that nobody vouches for."""

import hashlib
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from uuid import uuid4

from ml_assets.ml.errors import DataError

_BLOCK = 1 << 20


def version(path: Path) -> tuple[int, int]:
    """Size and time of a file: they change when the file does."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def sha256(path: Path) -> str:
    """SHA-256 of a file; computed again only when the file has changed."""
    return _sha256(path, version(path))


@lru_cache(maxsize=1024)
def _sha256(path: Path, _: tuple[int, int]) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class ZippedText:
    """A text file in a zip, whose paths, sizes and contents are not trusted.

    Attributes:
        archive: The zip.
        name: Name of the text file, in whatever folder of the zip; the path is not used.
        limit: The most bytes it may have, whatever the zip says of its size.
        remedy: What the reader of an error can do.
    """

    archive: Path
    name: str
    limit: int
    remedy: str

    def sha256(self) -> str:
        """SHA-256 of the text file; computed again only when the zip has changed.

        Raises:
            DataError: The zip is damaged or encrypted, or does not hold the file once; or the
                file is too large.
        """
        return _text_sha256(self, version(self.archive))

    def unpack(self, target: Path, digest: str) -> None:
        """Put the text file at `target`, where it appears when it is whole and checked.

        Raises:
            DataError: As for `sha256`, or the SHA-256 is not `digest`.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{uuid4().hex}")
        found = hashlib.sha256()
        try:
            with part.open("wb") as file:
                for block in self.blocks():
                    file.write(block)
                    found.update(block)
            if found.hexdigest() != digest:
                raise DataError(
                    f"SHA-256 {digest} of {self.name} in {self.archive.name}",
                    found.hexdigest(),
                    self.remedy,
                )
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def blocks(self) -> Iterator[bytes]:
        """The content of the text file."""
        size = 0
        with (
            self._reported(),
            zipfile.ZipFile(self.archive) as archive,
            archive.open(self._member(archive)) as file,
        ):
            while block := file.read(_BLOCK):
                size += len(block)
                if size > self.limit:
                    raise DataError(
                        f"at most {self.limit} bytes of {self.name} in {self.archive.name}",
                        "more",
                        self.remedy,
                    )
                yield block

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        # An encrypted zip is a RuntimeError, an unknown method of compression a subclass of it.
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError) as error:
            raise DataError(
                f"a whole zip with {self.name}: {self.archive.name}", str(error), self.remedy
            ) from error

    def _member(self, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
        members = archive.infolist()
        found = [one for one in members if PurePosixPath(one.filename).name == self.name]
        if len(found) == 1:
            return found[0]
        raise DataError(
            f"one {self.name} in {self.archive.name}",
            ", ".join(one.filename for one in members[:10]) or "an empty zip",
            self.remedy,
        )


@lru_cache(maxsize=8)
def _text_sha256(text: ZippedText, _: tuple[int, int]) -> str:
    digest = hashlib.sha256()
    for block in text.blocks():
        digest.update(block)
    return digest.hexdigest()
