"""A copy or a move of a lakehouse: nothing outside of it is touched, and all can be read there."""

import hashlib
import json
import os
import shutil
import sys
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from ml_assets.ml.errors import DataError
from ml_assets.resources.lakehouse import Lakehouse
from ml_assets_tests.resources.lakehouse.tables import (
    TABLE,
    TIME,
    day,
    hourly,
    values,
    write,
)


def at(place: Path) -> Lakehouse:
    return Lakehouse(
        catalog_uri=f"sqlite:///{place}/catalog.db", warehouse=str(place / "warehouse")
    )


def contents(place: Path) -> dict[str, str]:
    return {
        str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in place.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """Two tables, one of which was replaced, compacted and extended; snapshots of all of it."""
    place = tmp_path / "data"
    lake = at(place)
    for number in range(4):
        write(lake, number, number + 1, float(number))
    write(lake, 1, 2, 7.0)
    lake.maintain(TABLE)
    write(lake, 4, 5, 4.0)
    lake.replace("power.features", hourly(0, 1), TIME, day(0), day(1))
    return place


def test_a_copy_touches_nothing_of_the_original(original: Path, tmp_path: Path) -> None:
    before, copy = contents(original), tmp_path / "data2"  # a name that begins with the other's
    shutil.copytree(original, copy)
    lake = at(copy)
    for forbidden in (
        lambda: write(lake, 0, 1, 9.0),
        lambda: lake.maintain(TABLE, timedelta(0), timedelta(0)),
        lambda: values(lake, 0, 4),
    ):
        with pytest.raises(DataError, match=r"remedy: make install, or python -m ml_assets.relo"):
            forbidden()
    assert lake.relocate("power") == (["power.features", TABLE], [])
    write(lake, 0, 1, 9.0)
    lake.maintain(TABLE, timedelta(0), timedelta(0))
    assert values(lake, 0, 5) == [9, 7, 2, 3, 4]
    assert contents(original) == before
    assert values(at(original), 0, 5) == [0, 7, 2, 3, 4]


@pytest.mark.parametrize("way", ["copy", "move"])
def test_every_snapshot_can_be_read_in_the_new_place(
    way: str, original: Path, tmp_path: Path
) -> None:
    lake = at(original)
    with lake._catalog() as catalog:
        snapshots = [snapshot.snapshot_id for snapshot in catalog.load_table(TABLE).snapshots()]
    before = [lake.read(TABLE, day(0), day(9), snapshot_id=number) for number in snapshots]
    place = tmp_path / "deep down" / "other"
    place.parent.mkdir()
    original.rename(place) if way == "move" else shutil.copytree(original, place)
    shutil.rmtree(original, ignore_errors=True)
    lake = at(place)
    assert lake.relocate("power") == (["power.features", TABLE], [])
    assert lake.relocate("power") == ([], [])
    after = [lake.read(TABLE, day(0), day(9), snapshot_id=number) for number in snapshots]
    assert len(after) > 6
    assert after == before
    assert not paths_of(place, str(original))
    assert not lake.maintain(TABLE, grace=timedelta(0)).deleted_files


def paths_of(place: Path, word: str) -> list[Path]:
    """The files of metadata in which a word stands."""
    return [
        path
        for path in place.rglob("*")
        if path.suffix in {".json", ".avro"} and word.encode() in path.read_bytes()
    ]


def test_other_engines_read_the_table_in_the_new_place(original: Path, tmp_path: Path) -> None:
    place = tmp_path / "other"
    original.rename(place)
    lake = at(place)
    lake.relocate("power")
    with lake._catalog() as catalog:
        metadata = catalog.load_table(TABLE).metadata_location
    assert metadata.startswith(str(place))
    assert len(pl.scan_iceberg(metadata).collect()) == 5 * 24


def test_a_copy_of_a_copy_is_relocated_like_any(original: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(original, tmp_path / name)
        original = tmp_path / name
        at(original).relocate("power")
        write(at(original), 5, 6, 5.0)
    assert values(at(original), 0, 6) == [0, 7, 2, 3, 4, 5]


def test_a_link_to_the_directory_is_the_same_place(original: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(original)
    lake = at(tmp_path / "link")
    assert lake.relocate("power") == ([], [])
    write(lake, 0, 1, 9.0)
    lake.maintain(TABLE, timedelta(0), timedelta(0))
    assert values(at(original), 0, 5) == values(lake, 0, 5) == [9, 7, 2, 3, 4]


@pytest.mark.parametrize("lost", ["*.parquet", "*-m0.avro", "snap-*.avro", "*.json"])
def test_a_copy_of_a_part_is_refused_until_it_is_whole(
    lost: str, original: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(original, copy)
    [table] = (copy / "warehouse" / "power").glob("readings-*")
    for path in table.rglob(lost):
        path.unlink()
    lake = at(copy)
    moved, [problem] = lake.relocate("power")
    assert moved == ["power.features"]
    assert "copy the whole data directory" in str(problem)
    with pytest.raises(DataError, match="of which this is a copy"):
        values(lake, 0, 5)
    shutil.copytree(original / "warehouse", copy / "warehouse", dirs_exist_ok=True)
    assert lake.relocate("power") == ([TABLE], [])
    assert values(lake, 0, 5) == [0, 7, 2, 3, 4]


def test_a_relocation_that_is_killed_anywhere_is_finished_by_the_next(
    original: Path, tmp_path: Path
) -> None:
    """Killed before each file that it writes, and before the catalog's row."""
    before, done = contents(original), False
    number = 0
    while not done:
        number += 3  # every third, for the sake of time
        copy = tmp_path / f"copy{number}"
        shutil.copytree(original, copy)
        dying = f"""
            import os, signal
            from ml_assets.resources.lakehouse import ownership, relocation

            left = [{number}]
            def counted(function):
                def call(*args, **kwargs):
                    left[0] -= 1
                    if not left[0]:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return function(*args, **kwargs)
                return call

            relocation.write_atomically = counted(relocation.write_atomically)
            relocation.take = counted(relocation.take)
            relocation._Relocation._point = counted(relocation._Relocation._point)
            """
        # In one process, which forks: a library takes seconds to load.
        done = _forked(copy, dying) == 0
        if number % 4 == 0:  # a copy of what was left
            copy = Path(shutil.copytree(copy, tmp_path / f"copy{number}-again"))
        lake = at(copy)
        lake.relocate("power")
        assert values(lake, 0, 5) == [0, 7, 2, 3, 4]
        assert not paths_of(copy, f"{original}/")
        shutil.rmtree(copy)
    assert number > 20
    assert contents(original) == before


def _forked(place: Path, before: str) -> int:
    """The exit status of a relocation in a child of this process."""
    import textwrap

    child = os.fork()
    if not child:
        try:
            exec(textwrap.dedent(before), {})
            at(place).relocate("power")
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_copied_catalog_keeps_off_a_warehouse_that_is_shared(
    original: Path, tmp_path: Path
) -> None:
    """As in an object store: the tables are where they were, and belong to the other catalog."""
    before = contents(original)
    copy = tmp_path / "copy.db"
    shutil.copy(original / "catalog.db", copy)
    lake = Lakehouse(catalog_uri=f"sqlite:///{copy}", warehouse=str(original / "warehouse"))
    assert values(lake, 0, 5) == [0, 7, 2, 3, 4]
    for forbidden in (lambda: write(lake, 0, 1), lambda: lake.maintain(TABLE, timedelta(0))):
        with pytest.raises(DataError, match="of which this catalog may be a copy"):
            forbidden()
    assert contents(original) == before
    assert lake.relocate("power", take_over=True) == ([], [])
    write(lake, 0, 1, 9.0)
    with pytest.raises(DataError, match="to belong to this catalog"):
        write(at(original), 0, 1)


def test_a_database_restored_beside_the_first_keeps_off_its_tables(
    postgres_server, postgres_url: str, tmp_path: Path
) -> None:
    lake = Lakehouse(catalog_uri=postgres_url, warehouse=str(tmp_path / "warehouse"))
    write(lake, 0, 1)
    name = postgres_url.rpartition("/")[2]
    postgres_server.execute(f"CREATE DATABASE {name}_restored TEMPLATE {name}")
    restored = Lakehouse(catalog_uri=f"{postgres_url}_restored", warehouse=lake.warehouse)
    with pytest.raises(DataError, match="may be a copy"):
        write(restored, 0, 1, 2.0)
    elsewhere = Lakehouse(catalog_uri=f"{postgres_url}_restored", warehouse=f"{tmp_path}/other")
    shutil.copytree(lake.warehouse, elsewhere.warehouse)
    assert elsewhere.relocate("power") == ([TABLE], [])
    write(elsewhere, 0, 1, 2.0)
    assert (values(lake, 0, 1), values(elsewhere, 0, 1)) == ([1], [2])
    # The same server by another name is the same.
    write(
        Lakehouse(
            catalog_uri=postgres_url.replace("127.0.0.1", "localhost"), warehouse=lake.warehouse
        ),
        0,
        1,
        3.0,
    )


def test_tables_of_before_there_were_owners_get_one_with_the_next_write(original: Path) -> None:
    for path in original.rglob("owner.json"):
        path.unlink()
    write(at(original), 0, 1)
    assert [json.loads(path.read_text()) for path in original.rglob("owner.json")] == [
        [f"sqlite:{original}/catalog.db"]
    ]


def test_links_in_a_table_are_not_followed(original: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.parquet").write_text("rows")
    [table] = (original / "warehouse" / "power").glob("readings-*")
    (table / "data" / "link").symlink_to(outside)
    (table / "data" / "file.parquet").symlink_to(outside / "precious.parquet")
    at(original).maintain(TABLE, timedelta(0), timedelta(0))
    assert (outside / "precious.parquet").exists()


def test_pyiceberg_itself_deletes_nothing_outside_the_warehouse(
    original: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "precious.json"
    outside.touch()
    with at(original)._catalog() as catalog:
        files = catalog.load_table(TABLE).io
        with pytest.raises(PermissionError, match="is not below"):
            files.delete(str(outside))
    assert outside.exists()
