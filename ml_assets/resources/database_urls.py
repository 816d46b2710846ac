"""URLs of the SQL databases that the project itself keeps things in."""

from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from sqlalchemy import URL


def parsed(url: str, subject: str, *, sqlite: bool = True) -> "URL":
    """The URL with its driver; SQLite's directory is created.

    Args:
        url: `sqlite:///path` or `postgresql://user:password@host:port/name`.
        subject: What the URL is, for the error.
        sqlite: Whether it may be SQLite's.

    Raises:
        dagster.Failure: It is neither.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        found = make_url(url)
        backend = found.get_backend_name()
    except (ArgumentError, ValueError):
        # The error may quote a piece of the password: it is not shown.
        backend = ""
    # With two of them a piece of the password may be the host, which an error would quote.
    if backend == "postgresql" and url.count("@") < 2:
        # A plain postgresql:// is taken for psycopg 3; psycopg 2 is what is installed.
        return found.set(drivername="postgresql+psycopg2")
    if backend == "sqlite" and sqlite:
        Path(found.database or "").parent.mkdir(parents=True, exist_ok=True)
        return found
    raise dg.Failure(
        f"The {subject} cannot be read. Expected: {'`sqlite:///path` or ' * sqlite}"
        "`postgresql://user:password@host:port/name`, special characters in the password "
        "percent-encoded. Remedy: correct the URL; it is not shown, it may hold a password.",
        allow_retries=False,
    )
