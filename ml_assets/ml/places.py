"""Whether something lies below a directory: the question before anything is written or deleted.

A data directory can be copied, and what is recorded in the copy still names the original.
"""

import os
import posixpath


def below(place: str, root: str) -> bool:
    """Whether a file or directory is `root` or lies below it, links followed.

    Args:
        place: A path or a URL.
        root: A path or a URL.

    >>> below("/a/data/tables/x", "/a/data"), below("/a/data2/x", "/a/data")
    (True, False)
    >>> below("file:///a/data/x", "/a/data/"), below("/a/data/../x", "/a/data")
    (True, False)
    >>> below("s3://bucket/lake//x", "s3://bucket/lake"), below("s3://bucket/x", "/bucket")
    (True, False)
    """
    parts, root_parts = _parts(place), _parts(root)
    return parts[: len(root_parts)] == root_parts


def local_path(place: str) -> str | None:
    """The path of a place on this machine's file systems; None of an object store's.

    >>> local_path("file:///a/b"), local_path("/a/b"), local_path("s3://a/b")
    ('/a/b', '/a/b', None)
    """
    scheme, separator, rest = place.partition(":")
    if separator and scheme == "file":
        return "/" + rest.lstrip("/")
    return None if "://" in place or scheme == "mlflow-artifacts" else place


def _parts(place: str) -> list[str]:
    path = local_path(place)
    if path is None:
        scheme, _, rest = place.partition(":")
        return [scheme, *posixpath.normpath("/" + rest.lstrip("/")).split("/")[1:]]
    found = os.path.realpath(path)
    return ["file"] if found == "/" else ["file", *found.split("/")[1:]]
