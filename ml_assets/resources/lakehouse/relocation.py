"""Tables whose files were moved or copied: the paths in their metadata become those of today.

Iceberg knows all files by their absolute paths. A table is rewritten from below: manifests,
manifest lists, metadata, and last the catalog's row, until which the table is refused as before.
Each file is replaced as a whole and keeps its name, and what is rewritten already stays, so that a
relocation may be interrupted anywhere and done again, also in a copy of what it left. Loaded when
there is something to relocate.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from pyiceberg.avro.file import AvroFile, AvroOutputFile
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.schema import Schema
from pyiceberg.typedef import Record
from pyiceberg.types import StructType
from sqlalchemy import select, update
from sqlalchemy.orm import Session
from upath import UPath

from ml_assets.ml.archive import write_atomically
from ml_assets.ml.errors import DataError
from ml_assets.ml.places import below
from ml_assets.resources.lakehouse.ownership import take

_DELETED = 2
"""The status of an entry whose file a snapshot no longer has."""
_SCHEMA = "avro.schema"


def relocate(
    catalog: SqlCatalog, namespace: str, *, take_over: bool = False
) -> tuple[list[str], list[DataError]]:
    """Make the tables of a namespace those of this catalog and warehouse.

    Args:
        catalog: The catalog.
        namespace: The tables' namespace.
        take_over: Also the tables that are here and belong to another catalog.

    Returns:
        The tables that were relocated, and what stands against the others.
    """
    moved, problems = [], []
    warehouse = catalog.properties["warehouse"].rstrip("/")
    for table, place in _places(catalog, namespace):
        if not below(place, warehouse):
            try:
                _Relocation(table, place, warehouse).run(catalog)
                moved.append(table)
            except DataError as error:
                problems.append(error)
        elif take_over:
            take(catalog, place.rpartition("/metadata/")[0])
    return moved, problems


def _places(catalog: SqlCatalog, namespace: str) -> list[tuple[str, str]]:
    """The tables of a namespace, and where their metadata are."""
    rows = select(IcebergTables.table_name, IcebergTables.metadata_location).where(
        IcebergTables.catalog_name == catalog.name, IcebergTables.table_namespace == namespace
    )
    with Session(catalog.engine) as session:
        return [(f"{namespace}.{name}", place) for name, place in session.execute(rows) if place]


class _Relocation:
    """The relocation of one table."""

    def __init__(self, table: str, metadata: str, warehouse: str) -> None:
        self.table, self.metadata = table, metadata
        before, _, self.file = metadata.rpartition("/metadata/")
        self.tail = "/".join(before.split("/")[-2:])
        """The table's own directory below any warehouse."""
        self.here = f"{warehouse}/{self.tail}"
        root = UPath(self.here)
        self.files = {
            path.path.removeprefix(root.path).strip("/")
            for path in (root.rglob("*") if root.exists() else ())
        }

    def run(self, catalog: SqlCatalog) -> None:
        """Rewrite everything, from below."""
        metadata = {
            name: json.loads(UPath(self.here, name).read_text())
            for name in self._metadata_files()
            if name in self.files
        }
        sizes: dict[str, int] = {}
        # Of the snapshots that metadata of before name besides, nobody needs the files.
        for snapshot in metadata[f"metadata/{self.file}"].get("snapshots", []):
            self._rewrite_list(self._present(snapshot["manifest-list"]), sizes)
        for name, found in sorted(metadata.items()):
            moved = _moved(found, found["location"].rstrip("/"), self.here)
            if moved != found:
                write_atomically(UPath(self.here, name), json.dumps(moved).encode())
        take(catalog, self.here)
        self._point(catalog)

    def _metadata_files(self) -> Iterator[str]:
        """The current metadata and those before, which the current ones name."""
        name = f"metadata/{self.file}"
        if name not in self.files:
            raise DataError(
                f"the files of {self.table}, of which the catalog says {self.metadata}, below "
                f"{self.here}",
                f"no {name} there",
                "copy the whole data directory, or set the warehouse to where the files are",
            )
        yield name
        found = json.loads(UPath(self.here, name).read_text())
        for entry in found.get("metadata-log", []):
            yield self._relative(entry["metadata-file"])

    def _rewrite_list(self, name: str, sizes: dict[str, int]) -> None:
        """Rewrite a manifest list, and before it the manifests it names."""

        def moved(entry: Record, schema: StructType) -> None:
            path = _value(entry, schema, "manifest_path")
            manifest = self._present(path)
            if manifest not in sizes:
                self._rewrite(manifest, self._move_file)
                sizes[manifest] = UPath(self.here, manifest).stat().st_size
            _set(entry, schema, "manifest_path", f"{self.here}/{manifest}")
            _set(entry, schema, "manifest_length", sizes[manifest])

        self._rewrite(name, moved)

    def _move_file(self, entry: Record, schema: StructType) -> None:
        """Rewrite an entry of a manifest."""
        file, fields = _value(entry, schema, "data_file"), _struct(schema, "data_file")
        if _value(file, fields, "content"):
            raise DataError(
                f"{self.table} without files of deletions, which name others from within",
                "such files, written by another engine",
                "compact the table with that engine where it lay before",
            )
        path = _value(file, fields, "file_path")
        live = _value(entry, schema, "status") != _DELETED
        name = self._present(path) if live else self._relative(path)
        _set(file, fields, "file_path", f"{self.here}/{name}")

    def _rewrite(self, name: str, move: Any) -> None:
        """Replace an Avro file by the same with other paths, unless they are right already."""
        path = UPath(self.here, name)
        with TemporaryDirectory() as scratch:
            before, after = Path(scratch) / "before", Path(scratch) / "after"
            before.write_bytes(path.read_bytes())
            files = PyArrowFileIO()
            with AvroFile[Record](files.new_input(str(before))) as file:
                schema: Schema = file.schema
                metadata = dict(file.header.meta)
                entries = list(file)
            unchanged = repr(entries)
            for entry in entries:
                move(entry, schema.as_struct())
            if repr(entries) == unchanged:
                return
            record = json.loads(metadata.pop(_SCHEMA))["name"]
            with AvroOutputFile[Record](
                files.new_output(str(after)), schema, record, metadata=metadata
            ) as output:
                output.write_block(entries)
            write_atomically(path, after.read_bytes())

    def _relative(self, path: str) -> str:
        """The place of a file within the table, wherever the table lay when it was recorded."""
        if path.startswith(f"{self.here}/"):
            return path[len(self.here) + 1 :]
        _, separator, name = path.rpartition(f"/{self.tail}/")
        if not separator:
            raise DataError(
                f"all files of {self.table} in one directory, {self.tail}",
                path,
                "have the engine that put it elsewhere rewrite the table",
            )
        return name

    def _present(self, path: str) -> str:
        """The same of a file that must be there."""
        name = self._relative(path)
        if name not in self.files:
            raise DataError(
                f"all files of {self.table} below {self.here}",
                f"no {name}",
                "copy the whole data directory, and relocate again",
            )
        return name

    def _point(self, catalog: SqlCatalog) -> None:
        """Have the catalog name the metadata where they are now, unless somebody did."""
        namespace, _, name = self.table.partition(".")
        with Session(catalog.engine) as session:
            row = session.get_one(IcebergTables, (catalog.name, namespace, name))
            before = row.previous_metadata_location
            session.execute(
                update(IcebergTables)
                .where(
                    IcebergTables.catalog_name == catalog.name,
                    IcebergTables.table_namespace == namespace,
                    IcebergTables.table_name == name,
                    IcebergTables.metadata_location == self.metadata,
                )
                .values(
                    metadata_location=f"{self.here}/metadata/{self.file}",
                    previous_metadata_location=before
                    and f"{self.here}/metadata/{before.rpartition('/')[2]}",
                )
            )
            session.commit()


def _moved(value: Any, old: str, new: str) -> Any:
    """JSON with a directory in the place of another."""
    if isinstance(value, dict):
        return {key: _moved(entry, old, new) for key, entry in value.items()}
    if isinstance(value, list):
        return [_moved(entry, old, new) for entry in value]
    if isinstance(value, str) and (value == old or value.startswith(f"{old}/")):
        return new + value[len(old) :]
    return value


def _struct(schema: StructType, name: str) -> StructType:
    [found] = [field.field_type for field in schema.fields if field.name == name]
    return cast("StructType", found)


def _value(record: Record, schema: StructType, name: str) -> Any:
    """The value of a field; None if there is no such field."""
    names = [field.name for field in schema.fields]
    return record[names.index(name)] if name in names else None


def _set(record: Record, schema: StructType, name: str, value: Any) -> None:
    record[[field.name for field in schema.fields].index(name)] = value
