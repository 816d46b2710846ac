"""Which catalog a table belongs to: a file beside the table says so, and others keep off.

A warehouse outside the data directory is shared by a copy of its catalog. The copy and the original
would each delete what only the other one's snapshots need. Loaded when a step runs.
"""

import json
import os
from contextlib import suppress

from pyiceberg.catalog.sql import SqlCatalog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from upath import UPath

from ml_assets.ml.archive import write_atomically
from ml_assets.ml.errors import DataError

OWNER = "owner.json"
"""The file, directly below the table's location."""


def claim(catalog: SqlCatalog, table: str, location: str) -> None:
    """Make a table that belongs to nobody this catalog's.

    Raises:
        DataError: It belongs to another catalog.
    """
    own = _names(catalog)
    owner = _owner(location)
    if owner is None:
        with suppress(OSError):  # such as of a full disk, on which upkeep makes room
            take(catalog, location)
    elif not set(owner) & set(own):
        raise DataError(
            f"the table {table} at {location} to belong to this catalog, {own[0]}",
            f"it belongs to {owner[0]}, of which this catalog may be a copy",
            "give the copy a warehouse of its own and copy the files there; or, if that catalog is "
            "gone for good, run python -m ml_assets.relocate --take-over",
        )


def is_owner(catalog: SqlCatalog, location: str) -> bool:
    """Whether a table is known to be this catalog's."""
    return bool(set(_owner(location) or []) & set(_names(catalog)))


def take(catalog: SqlCatalog, location: str) -> None:
    """Make a table this catalog's, whoever it belonged to."""
    write_atomically(UPath(location, OWNER), json.dumps(_names(catalog)).encode())


def _owner(location: str) -> list[str] | None:
    try:
        return list(json.loads(UPath(location, OWNER).read_text()))
    except FileNotFoundError:
        return None


def _names(catalog: SqlCatalog) -> list[str]:
    """What this catalog can be known by; any of them will do.

    A server may be reached by several names; a database restored on another one is another.
    """
    url = catalog.engine.url
    if url.get_backend_name() == "sqlite":
        return [f"sqlite:{os.path.realpath(url.database or '')}"]
    names = [f"{url.get_backend_name()}://{url.host}:{url.port or 5432}/{url.database}"]
    try:
        with catalog.engine.connect() as connection:
            server = connection.execute(text("SELECT system_identifier FROM pg_control_system()"))
            names.append(f"{url.get_backend_name()}:{server.scalar_one()}/{url.database}")
    except DBAPIError:  # not every server tells everybody
        pass
    return names
