"""Save all state of the embedded form in one file, and restore it.

python -m ml_assets.backup save FILE
python -m ml_assets.backup restore FILE

A restore elsewhere than the backup is from relocates what is known by its path.

State is what lies below the data directory (`ML_ASSETS_DATA_DIR`): Dagster's runs, outputs and
checkpoints, tables, MLflow, searches. Databases are copied first and while they are in use, the
files that they name are looked for after that; so everything may go on running meanwhile. What a
run in progress writes may be in the backup or not: re-execute it from the failure after a restore.
"""

import argparse
import hashlib
import json
import os
import sqlite3
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from contextlib import closing
from io import BytesIO
from pathlib import Path

from rich.console import Console
from rich.progress import track

from ml_assets.ml.errors import DataError
from ml_assets.relocate import relocate
from ml_assets.settings import data_dir

MANIFEST = "manifest.json"
_SQLITE = b"SQLite format 3\0"
_JOURNALS = ("-wal", "-shm", "-journal")


def save(data: Path, file: Path) -> int:
    """Write a backup of the data directory, whole or not at all.

    Args:
        data: The data directory.
        file: The backup, a `.tar.gz`; what was there is replaced.

    Returns:
        The number of files saved.

    Raises:
        DataError: There is no such directory, or the backup would lie in it.
    """
    if not data.is_dir():
        raise DataError(f"the data directory {data}", "none", "set ML_ASSETS_DATA_DIR")
    if file.resolve().is_relative_to(data.resolve()):
        raise DataError(f"a backup outside {data}", str(file), "name another place")
    partial = file.with_name(f".{file.name}.partial")
    digests: dict[str, str] = {}
    try:
        with tempfile.TemporaryDirectory() as scratch, tarfile.open(partial, "w:gz") as archive:
            copy = Path(scratch) / "copy.db"
            databases = [path for path in _files(data) if _is_database(path)]
            for path in track(databases, "databases"):
                _add(archive, path, str(path.relative_to(data)), copy, digests)
            others = sorted(set(_files(data)) - set(databases))
            for path in track(others, "files"):
                _add(archive, path, str(path.relative_to(data)), copy, digests)
            manifest = json.dumps({"data": str(data.resolve()), "sha256": digests}).encode()
            entry = tarfile.TarInfo(MANIFEST)
            entry.size = len(manifest)
            archive.addfile(entry, BytesIO(manifest))
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return len(digests)


def restore(file: Path, data: Path) -> int:
    """Make the data directory what it was when the backup was written.

    Args:
        file: The backup.
        data: The data directory, which must be empty; in another place than before, what is known
            by its path is relocated.

    Returns:
        The number of files restored.

    Raises:
        DataError: The backup is damaged, the directory is not empty, or not all can be relocated.
    """
    if data.exists() and any(data.iterdir()):
        raise DataError(f"an empty directory {data}", "files in it", "move them away")
    data.mkdir(parents=True, exist_ok=True)
    # In the directory itself: as a mount point it cannot be replaced, nor its parent written to.
    with tempfile.TemporaryDirectory(dir=data, prefix=".restoring-") as scratch:
        place = Path(scratch)
        try:
            with tarfile.open(file) as archive:
                archive.extractall(place, filter="data")
            manifest = json.loads((place / MANIFEST).read_text())
        except (tarfile.TarError, OSError, EOFError, ValueError) as error:
            raise DataError(f"a backup in {file}", str(error), "use another backup") from error
        (place / MANIFEST).unlink()
        digests = manifest["sha256"]
        _compare(place, digests)
        for path in list(place.iterdir()):
            path.rename(data / path.name)
    if manifest["data"] != str(data.resolve()):
        _relocate(data)
    return len(digests)


def _relocate(data: Path) -> None:
    """Make what was restored in another place usable there."""
    _, problems = relocate(data)
    if problems:
        raise DataError(
            f"all of {data} to be usable in its new place",
            "; ".join(problems),
            "put that right, and run python -m ml_assets.relocate",
        )


def _files(data: Path) -> list[Path]:
    """The files that are there now; directories may come and go meanwhile."""
    found = (Path(place, name) for place, _, names in os.walk(data) for name in names)
    return sorted(
        path
        for path in found
        if path.is_file() and not path.is_symlink() and not path.name.endswith(_JOURNALS)
    )


def _is_database(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except FileNotFoundError:
        return False


def _copy(database: Path, copy: Path) -> None:
    """The database as it is at one moment, whoever writes to it."""
    copy.unlink(missing_ok=True)
    with (
        closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)


def _add(
    archive: tarfile.TarFile, path: Path, name: str, copy: Path, digests: dict[str, str]
) -> None:
    """Add a file, or a copy of a database; nothing, if it is gone by now."""
    source = path
    try:
        if _is_database(path):
            _copy(path, copy)
            source = copy
        entry = archive.gettarinfo(source, arcname=name)
        content = source.read_bytes()
    except (FileNotFoundError, sqlite3.OperationalError):
        if path.exists():
            raise
        return  # such as a checkpoint, or the log of a run that was deleted
    digests[name] = hashlib.sha256(content).hexdigest()
    entry.size = len(content)
    archive.addfile(entry, BytesIO(content))


def _compare(place: Path, digests: dict[str, str]) -> None:
    found = {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}
    wrong: Iterable[str] = found ^ set(digests)
    wrong = wrong or [
        name
        for name, expected in track(digests.items(), "digests")
        if hashlib.sha256((place / name).read_bytes()).hexdigest() != expected
    ]
    if wrong:
        raise DataError(
            "all files of the backup, unchanged",
            f"other or missing: {', '.join(sorted(wrong)[:5])}",
            "use another backup",
        )


def main() -> int:
    """Save or restore, as the command line says."""
    options = argparse.ArgumentParser(prog="python -m ml_assets.backup", description="Backups.")
    options.add_argument("action", choices=["save", "restore"])
    options.add_argument("file", type=Path, help="the backup, a .tar.gz")
    arguments = options.parse_args()
    console, data = Console(), data_dir()
    try:
        count = {"save": save, "restore": lambda place, file: restore(file, place)}[
            arguments.action
        ](data, arguments.file)
    except DataError as error:
        console.print(f"[red]{error}")
        return 1
    console.print(f"{arguments.action}d: {count} files of {data}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
