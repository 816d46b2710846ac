import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ml_assets.resources.lakehouse import Lakehouse
from ml_assets_tests.resources.lakehouse.tables import (
    TABLE,
    kill,
    paused,
    process,
    values,
    write,
)

PAUSES = {
    "before its files are written": "pyiceberg.table.Transaction.overwrite",
    "before it commits": "pyiceberg.catalog.sql.SqlCatalog.commit_table",
    "between metadata and catalog": "pyiceberg.catalog.sql.update",
}


@pytest.mark.parametrize("moment", PAUSES)
def test_a_killed_writer_leaves_the_table_as_it_was(lake: Lakehouse, moment: str) -> None:
    before = write(lake, 0, 3, 1.0)
    kill(paused(lake, "write(lake, 0, 2, 2.0)", PAUSES[moment]))
    assert lake.snapshot_id(TABLE) == before.snapshot_id
    assert values(lake, 0, 3) == [1, 1, 1]
    write(lake, 0, 2, 2.0)
    assert values(lake, 0, 3) == [2, 2, 1]
    if moment != "before its files are written":
        assert lake.maintain(TABLE, grace=timedelta(0)).deleted_files > 0
    assert values(lake, 0, 3) == [2, 2, 1]


def test_a_writer_killed_at_any_moment_leaves_all_of_a_write_or_nothing(lake: Lakehouse) -> None:
    write(lake, 0, 3, 0.0)
    endless = "for n in range(1000): write(lake, 0, 3, float(n)); print(n, flush=True)"
    writer = process(lake, endless)
    assert writer.stdout
    done = [writer.stdout.readline() for _ in range(5)]
    done = int([*done, *kill(writer).split()][-1])
    [found] = set(values(lake, 0, 3))
    assert found in {done, done + 1}


def test_a_killed_first_writer_leaves_no_table(lake: Lakehouse) -> None:
    kill(paused(lake, "write(lake, 0, 1)", "pyiceberg.catalog.sql.SqlCatalog._create_table_row"))
    assert lake.tables("power") == []
    write(lake, 0, 1)
    assert lake.tables("power") == [TABLE]
    assert values(lake, 0, 1) == [1]


def test_a_full_disk_leaves_the_table_as_it_was(lake: Lakehouse) -> None:
    before = write(lake, 0, 3, 1.0)
    full = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
        rows = pa.table({
            TIME: pa.array([day(0) + timedelta(seconds=n) for n in range(20_000)],
                           pa.timestamp("us", "UTC")),
            "active_power_kw": pa.array(np.random.default_rng(0).normal(size=20_000)),
        })
        """
    writer = process(lake, "lake.replace(TABLE, rows, TIME, day(0), day(1))", full)
    _, errors = writer.communicate(timeout=120)
    assert writer.returncode == 1
    assert "OSError" in errors
    assert "File too large" in errors
    assert lake.snapshot_id(TABLE) == before.snapshot_id
    assert values(lake, 0, 3) == [1, 1, 1]
    write(lake, 0, 1, 2.0)
    assert values(lake, 0, 3) == [2, 1, 1]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small file system")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_a_disk_that_fills_up_leaves_whole_writes(lake: Lakehouse, small_disk: Path) -> None:
    small = Lakehouse(catalog_uri=lake.catalog_uri, warehouse=str(small_disk))
    done = []

    def write_on() -> None:
        for number in range(1000):
            write(small, 0, 1, float(number))
            done.append(number)

    with pytest.raises(OSError, match="No space left"):
        write_on()
    assert len(done) > 1
    assert values(small, 0, 1) == done[-1:]
    assert small.maintain(TABLE, timedelta(0), timedelta(0)).deleted_files > len(done)
    write(small, 0, 1, 0.5)
    assert values(small, 0, 1) == [0.5]
