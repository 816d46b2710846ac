"""All state is saved while it is in use, and restored as it was."""

import hashlib
import io
import sqlite3
import tarfile
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from ml_assets import backup
from ml_assets.backup import main, restore, save
from ml_assets.ml.errors import DataError


def contents(directory: Path) -> dict[str, str]:
    """What every file holds; of a database, what its tables hold."""
    found = {}
    for path in sorted(directory.rglob("*")):
        if not path.is_file() or path.name.endswith(("-wal", "-shm")):
            continue
        data = path.read_bytes()
        if data.startswith(b"SQLite"):
            with closing(sqlite3.connect(path)) as connection:
                data = "\n".join(connection.iterdump()).encode()
        found[str(path.relative_to(directory))] = hashlib.sha256(data).hexdigest()
    return found


@dg.asset
def numbers() -> int:
    return 1


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with a run of Dagster, and some files."""
    place = tmp_path / "data"
    (place / "dagster").mkdir(parents=True)
    with dg.DagsterInstance.local_temp(str(place / "dagster")) as instance:
        assert dg.materialize([numbers], instance=instance).success
    (place / "artifacts").mkdir()
    np.save(place / "artifacts" / "weights.npy", np.arange(1000))
    return place


def test_what_is_restored_is_what_was_saved(data: Path, tmp_path: Path) -> None:
    before = contents(data)
    assert save(data, tmp_path / "backup.tar.gz") == len(before)
    data.rename(tmp_path / "lost")
    assert restore(tmp_path / "backup.tar.gz", data) == len(before)
    assert contents(data) == before
    with dg.DagsterInstance.local_temp(str(data / "dagster")) as instance:
        [run] = instance.get_runs()
        assert run.is_success
        assert instance.get_latest_materialization_event(dg.AssetKey("numbers"))


def test_a_database_in_use_is_saved_at_one_moment(data: Path, tmp_path: Path) -> None:
    path, ended = data / "ledger.db", threading.Event()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE pairs (side TEXT, number INTEGER)")

    def write() -> None:
        with closing(sqlite3.connect(path)) as connection:
            number = 0
            while not ended.is_set():
                with connection:  # both or none
                    for side in ("left", "right"):
                        connection.execute("INSERT INTO pairs VALUES (?, ?)", (side, number))
                number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        save(data, tmp_path / "backup.tar.gz")
    finally:
        ended.set()
        writer.join()
    data.rename(tmp_path / "lost")
    restore(tmp_path / "backup.tar.gz", data)
    with closing(sqlite3.connect(path)) as connection:
        left, right = (
            connection.execute("SELECT count(*) FROM pairs WHERE side = ?", (side,)).fetchone()
            for side in ("left", "right")
        )
    assert left == right


def test_a_file_that_a_database_names_when_it_is_copied_is_saved(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = data / "catalog.db"
    with closing(sqlite3.connect(catalog)) as connection, connection:
        connection.execute("CREATE TABLE snapshots (file TEXT)")
    copy = backup._copy

    def after_a_commit(database: Path, target: Path) -> None:
        if database == catalog:
            (data / "snapshot.parquet").write_bytes(b"rows")
            with closing(sqlite3.connect(catalog)) as connection, connection:
                connection.execute("INSERT INTO snapshots VALUES ('snapshot.parquet')")
        copy(database, target)

    monkeypatch.setattr(backup, "_copy", after_a_commit)
    save(data, tmp_path / "backup.tar.gz")
    data.rename(tmp_path / "lost")
    restore(tmp_path / "backup.tar.gz", data)
    with closing(sqlite3.connect(catalog)) as connection:
        [(file,)] = connection.execute("SELECT file FROM snapshots")
    assert (data / file).read_bytes() == b"rows"


@pytest.mark.parametrize(
    ("name", "step"), [("epoch.npy", "_add"), ("run.db", "_add"), ("run.db", "_copy")]
)
def test_a_file_that_vanishes_meanwhile_is_left_out(
    name: str, step: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(data)
    gone = data / name
    if name == "run.db":
        with closing(sqlite3.connect(gone)) as connection, connection:
            connection.execute("CREATE TABLE events (message TEXT)")
    else:
        gone.touch()
    done = getattr(backup, step)

    def after_its_end(*arguments: Any) -> None:
        if gone in arguments:
            gone.unlink()
        done(*arguments)

    monkeypatch.setattr(backup, step, after_its_end)
    assert save(data, tmp_path / "backup.tar.gz") == len(before)
    data.rename(tmp_path / "lost")
    restore(tmp_path / "backup.tar.gz", data)
    assert contents(data) == before


def damaged(kind: str, file: Path) -> None:
    content = file.read_bytes()
    if kind == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif kind == "empty":
        file.write_bytes(b"")
    else:
        with tarfile.open(file) as archive:
            members = [(entry, archive.extractfile(entry).read()) for entry in archive]
        with tarfile.open(file, "w:gz") as archive:
            for entry, found in members:
                if kind == "missing" and entry.name.endswith(".npy"):
                    continue
                changed = kind == "changed" and entry.name.endswith(".npy")
                archive.addfile(entry, io.BytesIO(found[::-1] if changed else found))
            if kind == "traversal":
                evil = tarfile.TarInfo("../../evil")
                archive.addfile(evil, io.BytesIO(b""))


@pytest.mark.parametrize("kind", ["truncated", "empty", "missing", "changed", "traversal"])
def test_a_damaged_backup_restores_nothing(kind: str, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar.gz"
    save(data, file)
    damaged(kind, file)
    data.rename(tmp_path / "lost")
    with pytest.raises(DataError, match="use another backup"):
        restore(file, data)
    assert not list(data.iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"lost", "backup.tar.gz", "data"}
    assert not (tmp_path.parent / "evil").exists()


def test_a_restore_overwrites_nothing_and_may_be_elsewhere(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar.gz"
    save(data, file)
    with pytest.raises(DataError, match="an empty directory"):
        restore(file, data)
    restore(file, tmp_path / "elsewhere")
    assert contents(tmp_path / "elsewhere") == contents(data)


def test_a_directory_that_is_there_is_filled_and_not_replaced(data: Path, tmp_path: Path) -> None:
    """It may be a mount point."""
    save(data, tmp_path / "backup.tar.gz")
    before = contents(data)
    data.rename(tmp_path / "lost")
    data.mkdir()
    place = data.stat().st_ino
    restore(tmp_path / "backup.tar.gz", data)
    assert data.stat().st_ino == place
    assert contents(data) == before


def test_a_backup_that_fails_leaves_the_one_before(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "backup.tar.gz"
    save(data, file)
    before = file.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(OSError, match="no space"):
        save(data, file)
    assert file.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"data", "backup.tar.gz"}


def test_the_command(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = str(tmp_path / "backup.tar.gz")
    monkeypatch.setenv("ML_ASSETS_DATA_DIR", str(data))
    monkeypatch.setattr("sys.argv", ["backup", "save", file])
    assert main() == 0
    monkeypatch.setattr("sys.argv", ["backup", "restore", file])
    assert main() == 1
    assert "move them away" in capsys.readouterr().out.replace("\n", " ")
    data.rename(tmp_path / "lost")
    assert main() == 0
    assert contents(data) == contents(tmp_path / "lost")
    monkeypatch.setattr("sys.argv", ["backup", "save", str(data / "inside.tar.gz")])
    assert main() == 1
