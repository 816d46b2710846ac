"""Where the tables are: the catalog's database, and the file system of the warehouse.

What is in the tables is not known here. Loaded when a step runs.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import fsspec
import tenacity
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.io import (
    ARROW_FILE_IO,
    FSSPEC_FILE_IO,
    SCHEMA_TO_FILE_IO,
    FileIO,
    InputFile,
    OutputFile,
)
from pyiceberg.io.fsspec import FsspecFileIO
from pyiceberg.table import Table
from pyiceberg.typedef import EMPTY_DICT, Properties
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from ml_assets.ml.errors import DataError
from ml_assets.ml.places import below
from ml_assets.resources.database_urls import parsed
from ml_assets.resources.lakehouse.ownership import claim, is_owner
from ml_assets.settings import without_credentials

_CODE = {
    "py-io-impl",
    "s3.retry-strategy-impl",
    "write.py-location-provider.impl",
    "auth",
}
"""Properties by which PyIceberg is told what to import and call."""
_ITS_OWN = (ARROW_FILE_IO, FSSPEC_FILE_IO)
"""Values that are no foreign code: some catalogs give them."""


class GuardedCatalog(Catalog):
    """A catalog whose tables name no code."""

    def _load_file_io(
        self, properties: Properties = EMPTY_DICT, location: str | None = None
    ) -> FileIO:
        refuse_code(properties, f"a table at {location}")
        return super()._load_file_io(properties, location)


class _SqlCatalog(GuardedCatalog, SqlCatalog):
    """A SQL catalog whose tables name no code, and whose files are all below its warehouse."""

    def _convert_orm_to_iceberg(self, orm_table: IcebergTables) -> Table:
        """Refuse a table of another data directory, before anything of it is read."""
        name = f"{orm_table.table_namespace}.{orm_table.table_name}"
        place = (orm_table.metadata_location or "").rpartition("/metadata/")[0]
        # Where only the setting has changed, the table can still be read.
        if place and not below(place, self.properties["warehouse"]) and not is_owner(self, place):
            self.require_below(name, place)
        return super()._convert_orm_to_iceberg(orm_table)

    def require_below(self, name: str, place: str) -> None:
        """Raise `DataError` unless a table lies below the warehouse."""
        if not below(place, self.properties["warehouse"]):
            raise DataError(
                f"the table {name} below the warehouse {self.properties['warehouse']}",
                f"{place}, which may belong to another data directory, of which this is a copy",
                "make install, or python -m ml_assets.relocate: after a move, a copy or a restore "
                "elsewhere",
            )

    def _load_file_io(
        self, properties: Properties = EMPTY_DICT, location: str | None = None
    ) -> FileIO:
        """Files none of which are deleted outside the warehouse, whatever names them."""
        files = super()._load_file_io(properties, location)
        delete = files.delete

        def delete_own(file: str | InputFile | OutputFile) -> None:
            place = file if isinstance(file, str) else file.location
            if not below(place, self.properties["warehouse"]):
                raise PermissionError(f"{place} is not below {self.properties['warehouse']}")
            delete(file)

        files.delete = delete_own
        return files


def refuse_code(properties: Properties, place: str) -> None:
    """Raise `DataError` if there are properties that would make PyIceberg run code of others."""
    named = sorted(
        name for name in _CODE.intersection(properties) if properties[name] not in _ITS_OWN
    )
    if named:
        raise DataError(
            f"data, and no code, from {place}",
            f"the properties {', '.join(named)}, which name Python code to run",
            "find out who set them, and have them removed",
        )


class AnyFileIO(FsspecFileIO):
    """Files on file systems that fsspec knows and PyIceberg does not; PyIceberg loads it."""

    def _get_fs(self, scheme: str, *_: object) -> fsspec.AbstractFileSystem:
        return fsspec.filesystem(scheme)


@contextmanager
def opened(
    uri: str, warehouse: str, name: str = "ml_assets", *, create: bool = True
) -> Iterator[SqlCatalog]:
    """The catalog of a name.

    Args:
        uri: Its database.
        warehouse: Where the files are.
        name: Under which its tables are known in the database.
        create: Whether the database tables are created when missing.

    Raises:
        dagster.Failure: The URI cannot be read, or the database does not answer, then or later.
    """
    url = _url(uri)
    # Two processes may create the catalog's tables at once: the slower one fails, and finds
    # them the next time.
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(DBAPIError),
        wait=tenacity.wait_random_exponential(multiplier=0.05, max=1),
        stop=tenacity.stop_after_attempt(5),
        reraise=True,
    )
    properties = {
        "uri": url.render_as_string(hide_password=False),
        "init_catalog_tables": str(create),
        **_files(warehouse),
    }
    try:
        with retrying(_SqlCatalog, name, **properties) as catalog:
            yield catalog
    except DBAPIError as error:
        raise dg.Failure(
            f"The Iceberg catalog at {without_credentials(uri)} failed: {error.orig}. Expected: a "
            "database with a catalog that answers. Remedy: start it, or correct the catalog URI."
        ) from error


def load(catalog: SqlCatalog, table: str) -> Table:
    """The table as it is now.

    Raises:
        DataError: There is no such table.
    """
    namespace(table)
    try:
        return catalog.load_table(table)
    except NoSuchTableError as error:
        raise DataError(
            f"the table {table}", "no such table", "materialize the asset that writes it"
        ) from error


def load_own(catalog: SqlCatalog, table: str) -> Table:
    """The table as it is now, to write to it or to delete from it.

    Raises:
        DataError: There is no such table, or it is another catalog's, or outside the warehouse.
    """
    found = load(catalog, table)
    require_own(catalog, found)
    return found


def require_own(catalog: SqlCatalog, table: Table) -> None:
    """Raise `DataError` unless a table is this catalog's and lies below its warehouse."""
    name, place = ".".join(table.name()), table.location()
    if isinstance(catalog, _SqlCatalog):
        catalog.require_below(name, place)
    claim(catalog, name, place)


def namespace(table: str) -> str:
    """The namespace of a table.

    >>> namespace("power.readings")
    'power'
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*", table):
        raise DataError(
            "a table named `group.name`, in lower case", repr(table), "correct the name"
        )
    return table.partition(".")[0]


def _url(uri: str) -> URL:
    """The catalog's URL with its driver."""
    url = parsed(uri, "lakehouse's catalog URI")
    if url.get_backend_name() == "sqlite":
        return url
    # libpq would wait for a silent host for minutes.
    return url.set(query={"connect_timeout": "10", **url.query})


def _files(warehouse: str) -> dict[str, str]:
    """What PyIceberg has to know about the place of the files."""
    scheme, separator, _ = warehouse.partition("://")
    if not separator:
        # Absolute: the place is kept in each table, and the next process may run elsewhere.
        return {"warehouse": str(Path(warehouse).absolute())}
    if scheme in SCHEMA_TO_FILE_IO:
        return {"warehouse": warehouse}
    return {"warehouse": warehouse, "py-io-impl": f"{__name__}.{AnyFileIO.__name__}"}
