"""All state is saved while it is in use, and restored as it was."""

import hashlib
import io
import sqlite3
import tarfile
import threading
from contextlib import closing
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

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
    assert not data.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"lost", "backup.tar.gz"}
    assert not (tmp_path.parent / "evil").exists()


def test_a_restore_overwrites_nothing_and_keeps_to_its_place(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar.gz"
    save(data, file)
    with pytest.raises(DataError, match="an empty directory"):
        restore(file, data)
    with pytest.raises(DataError, match="where the backup is from"):
        restore(file, tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


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
    assert "move it away" in capsys.readouterr().out.replace("\n", " ")
    data.rename(tmp_path / "lost")
    assert main() == 0
    assert contents(data) == contents(tmp_path / "lost")
    monkeypatch.setattr("sys.argv", ["backup", "save", str(data / "inside.tar.gz")])
    assert main() == 1
