"""Digests, and one text file out of a zip that nobody vouches for."""

import hashlib
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO
from uuid import uuid4

from ml_assets.ml.errors import DataError
from ml_assets.ml.untrusted import check_regular, open_regular, parsing, unpacked_limit

_BLOCK = 1 << 20
# Of bzip2, a kilobyte may become a gigabyte at once.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)
# Of LZMA, all that comes of the packed bytes asked for is held at once.
_SMALL_BLOCK = 1 << 12


def version(path: Path) -> tuple[int, int]:
    """Size and time of a file: they change when the file does.

    Raises:
        DataError: It is no regular file, or cannot be reached.
    """
    status = check_regular(path)
    return status.st_size, status.st_mtime_ns


def sha256(path: Path) -> str:
    """SHA-256 of a file; computed again only when the file has changed."""
    return _sha256(path, version(path))


@lru_cache(maxsize=1024)
def _sha256(path: Path, _: tuple[int, int]) -> str:
    with open_regular(path) as file:
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
        with open_regular(self.archive, self.remedy) as packed, ExitStack() as opened:
            with self._parsing():
                archive = opened.enter_context(zipfile.ZipFile(packed))
            member = self._member(archive)
            if member.compress_type not in _METHODS:
                raise DataError(
                    f"{self.name} in {self.archive.name} packed by deflate or LZMA",
                    f"method {member.compress_type}",
                    self.remedy,
                )
            with self._parsing():
                file = opened.enter_context(archive.open(member))
            deflated = member.compress_type != zipfile.ZIP_LZMA
            size, limit = 0, unpacked_limit(member.compress_size, self.limit)
            while block := self._block(file, _BLOCK if deflated else _SMALL_BLOCK):
                size += len(block)
                if size > limit:
                    raise DataError(
                        f"at most {limit} bytes of {self.name} in {self.archive.name}",
                        "more",
                        self.remedy,
                    )
                yield block

    def _block(self, file: IO[bytes], size: int) -> bytes:
        with self._parsing():
            return file.read(size)

    def _parsing(self) -> AbstractContextManager[None]:
        return parsing(f"a whole zip with {self.name}: {self.archive.name}", self.remedy)

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
