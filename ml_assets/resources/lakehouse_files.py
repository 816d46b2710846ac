"""Files of the lakehouse on file systems that fsspec knows and PyIceberg does not.

PyIceberg loads this module by its name, when the warehouse is at such a place.
"""

from typing import TYPE_CHECKING

import fsspec
from pyiceberg.io.fsspec import FsspecFileIO  # noqa: TID253 - loaded by PyIceberg alone

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


class AnyFileIO(FsspecFileIO):
    """PyIceberg's access to files, on any file system of fsspec."""

    def _get_fs(self, scheme: str, hostname: str | None = None) -> "AbstractFileSystem":
        if scheme in self._scheme_to_fs:
            return super()._get_fs(scheme, hostname)
        return fsspec.filesystem(scheme)
