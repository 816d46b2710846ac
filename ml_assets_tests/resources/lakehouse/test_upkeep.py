from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from ml_assets.ml.errors import DataError
from ml_assets.resources.lakehouse import Lakehouse
from ml_assets_tests.resources.lakehouse.tables import TABLE, data_files, day, values, write


def test_maintenance_compacts_expires_and_deletes_what_nobody_needs(lake: Lakehouse) -> None:
    for number in range(4):
        last = write(lake, number, number + 1, float(number))
    rows = lake.read(TABLE, day(0), day(4))
    upkeep = lake.maintain(TABLE)
    assert upkeep.table == TABLE
    assert (upkeep.compacted_partitions, upkeep.data_files) == (2, (4, 2))
    assert (upkeep.expired_snapshots, upkeep.deleted_files) == (0, 0)
    assert lake.read(TABLE, day(0), day(4), snapshot_id=last.snapshot_id).equals(rows)

    upkeep = lake.maintain(TABLE, keep=timedelta(0), grace=timedelta(0))
    assert upkeep.compacted_partitions == 0
    assert upkeep.expired_snapshots > 4
    assert upkeep.deleted_files > 4
    assert upkeep.deleted_bytes > 1000
    assert len(data_files(lake)) == 2
    assert lake.read(TABLE, day(0), day(4)).equals(rows)
    with pytest.raises(DataError, match="may have expired"):
        lake.read(TABLE, day(0), day(4), snapshot_id=last.snapshot_id)
    write(lake, 2, 3, 9.0)
    assert values(lake, 0, 4) == [0, 1, 9, 3]


def test_maintenance_leaves_the_tables_of_other_catalogs_alone(
    lake: Lakehouse, tmp_path: Path
) -> None:
    write(lake, 0, 1)
    other = Lakehouse(catalog_uri=f"sqlite:///{tmp_path}/other.db", warehouse=lake.warehouse)
    write(other, 0, 1)
    other.maintain(TABLE, timedelta(0), timedelta(0))
    assert values(lake, 0, 1) == [1]


def test_maintenance_of_a_tidy_table_changes_nothing(lake: Lakehouse) -> None:
    before = write(lake, 0, 3)
    upkeep = lake.maintain(TABLE)
    assert (upkeep.compacted_partitions, upkeep.expired_snapshots, upkeep.deleted_files) == (
        0,
        0,
        0,
    )
    assert lake.snapshot_id(TABLE) == before.snapshot_id


def test_maintenance_runs_while_others_write(lake: Lakehouse) -> None:
    for number in range(6):
        write(lake, number, number + 1, 0.0)

    def work(number: int) -> None:
        if number == 0:
            lake.maintain(TABLE, keep=timedelta(0))
        else:
            write(lake, number, number + 1, float(number))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert values(lake, 0, 6) == list(range(6))
