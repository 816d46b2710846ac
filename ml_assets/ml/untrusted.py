"""The boundary where foreign bytes enter: what may be opened, and what a parser may raise.

What is in the bytes, and how much of it is too much, is the readers' business.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Protocol

import numpy as np

from ml_assets.ml.errors import DataError

MAX_RATIO = 250
"""The most bytes that one packed byte may become; text that people keep packs 5 to 20 times."""

_FREE_BYTES = 1 << 26
_SHOWN = 300
_TRANSIENT = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE, errno.ENOSPC}
"""Faults of the machine, not of the file: trying again may help."""
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Stream(Protocol):
    """What is read of a binary file."""

    def read(self, size: int = -1, /) -> bytes:  # noqa: D102
        ...

    def seek(self, place: int, whence: int = 0, /) -> int:  # noqa: D102
        ...

    def tell(self) -> int:  # noqa: D102
        ...


@contextmanager
def parsing(expected: str, remedy: str) -> Iterator[None]:
    """Report whatever a parser makes of foreign bytes as a `DataError`.

    Parsers that are not ours raise nearly anything at damaged bytes: `TokenError`, `KeyError`,
    `RecursionError`, a panic of Rust that is no `Exception`. So the net is wide, and nothing may
    stand in it but the parser's own call: a mistake in our code would be reported as damage.

    Raises:
        DataError: The parser failed. A lack of memory and faults of the machine pass through.
    """
    try:
        yield
    except (DataError, MemoryError):
        raise
    except BaseException as error:
        panic = type(error).__name__ == "PanicException"
        if _is_transient(error) or not (panic or isinstance(error, Exception)):
            raise
        raise DataError(expected, _in_one_line(error), remedy) from error


def check_regular(path: Path, remedy: str = "put a file there that can be read") -> os.stat_result:
    """The status of a regular file.

    Raises:
        DataError: It is a directory, a pipe or the like, cannot be reached, or is not there.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise _unreadable(path, error, remedy) from error
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise DataError(f"a regular file: {path}", kind, remedy)
    return status


def open_regular(path: Path, remedy: str = "put a file there that can be read") -> BufferedReader:
    """Open a regular file to read its bytes; a pipe is not waited for.

    Raises:
        DataError: It is no regular file, or cannot be read.
    """
    check_regular(path, remedy)
    try:
        # Should a pipe take its place this very moment: it is not waited for either.
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")
    except OSError as error:
        raise _unreadable(path, error, remedy) from error


def read_regular(path: Path, max_bytes: int, remedy: str = "supply the file again") -> bytes:
    """The bytes of a regular file.

    Raises:
        DataError: It is no regular file, cannot be read, or is larger.
    """
    with open_regular(path, remedy) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise DataError(f"at most {max_bytes} bytes in {path}", "more", remedy)
    return content


def unpacked_limit(packed_bytes: int, max_bytes: int) -> int:
    """The most bytes that may come of so many packed ones."""
    return min(max_bytes, _FREE_BYTES + MAX_RATIO * packed_bytes)


class Unpacked:
    """A stream that is unpacked while it is read, as far as a limit.

    Args:
        stream: What unpacks, such as a `gzip.GzipFile`.
        limit: The most bytes that it may give.
        expected: What it is, for errors: `a whole gzip file PATH`.
        remedy: What the reader of an error can do.
    """

    def __init__(self, stream: Stream, limit: int, expected: str, remedy: str) -> None:
        self._stream, self._limit = stream, limit
        self._expected, self._remedy = expected, remedy

    def read(self, size: int = -1, /) -> bytes:
        """Some more bytes, or all that are left."""
        left = max(self._limit - self.tell(), 0)
        with self._parsing():
            found = self._stream.read(left + 1 if size < 0 else min(size, left + 1))
        return self._checked(found)

    def readline(self, size: int, /) -> bytes:
        """A line, or as much of it."""
        with self._parsing():
            found = self._stream.readline(size)  # type: ignore[attr-defined]
        return self._checked(found)

    def seek(self, place: int, whence: int = 0, /) -> int:
        """Go on somewhere else."""
        if whence == os.SEEK_SET and place > self._limit:
            raise self._too_much()
        with self._parsing():
            return self._stream.seek(place, whence)

    def tell(self) -> int:
        """How many bytes are before the next one."""
        return self._stream.tell()

    def _parsing(self) -> AbstractContextManager[None]:
        return parsing(self._expected, self._remedy)

    def _checked(self, found: bytes) -> bytes:
        if self.tell() > self._limit:
            raise self._too_much()
        return found

    def _too_much(self) -> DataError:
        return DataError(
            f"at most {self._limit} unpacked bytes in {self._expected}", "more", self._remedy
        )


def read_array(stream: Stream, size: int) -> np.ndarray:
    """The array of a `.npy` file of so many bytes.

    NumPy makes room for as much as the header says before it looks for it.

    Raises:
        ValueError: The header promises more or fewer bytes than there are, or objects. NumPy
            raises other errors at damaged headers: `parsing` has to stand around.
    """
    from numpy.lib import format as npy

    version = npy.read_magic(stream)
    header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
    shape, _, kind = header(stream)
    expected = kind.itemsize
    for length in shape:
        expected *= length
    found = size - stream.tell()
    if kind.hasobject or expected != found or min(shape, default=0) < 0:
        raise ValueError(f"an array {shape} of {kind} in {found} bytes")
    stream.seek(0)
    return npy.read_array(stream, allow_pickle=False)


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in _TRANSIENT


def _unreadable(path: Path, error: OSError, remedy: str) -> Exception:
    if _is_transient(error):
        return error
    return DataError(f"a file that can be read: {path}", (error.strerror or "").lower(), remedy)


def _in_one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or "no more than that"
    return f"{type(error).__name__}: {text[:_SHOWN]}"
