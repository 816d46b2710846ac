import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from threading import Barrier

import dagster as dg
import numpy as np
import psycopg2
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
import pytest

from ml_assets.ml.errors import DataError
from ml_assets.resources.lakehouse import Lakehouse

TABLE = "power.readings"
TIME = "event_time_utc"
ROOT = Path(__file__).parents[2]
START = datetime(2007, 1, 30, tzinfo=UTC)
DAY = timedelta(days=1)
ROWS = 24


def day(number: int) -> datetime:
    """Midnight of a day; days 0 and 1 lie in January, day 2 is the first of February."""
    return START + number * DAY


def hourly(first: int, last: int, value: float = 1.0) -> pa.Table:
    """Hourly rows of the days from `first` to before `last`."""
    times = [day(first) + timedelta(hours=hour) for hour in range(24 * (last - first))]
    return pa.table(
        {
            TIME: pa.array(times, pa.timestamp("us", "UTC")),
            "active_power_kw": pa.array(np.full(len(times), value)),
            "source": pa.array(["sample"] * len(times), pa.string()),
        }
    )


def write(lake: Lakehouse, first: int, last: int, value: float = 1.0, **options: str):
    rows = hourly(first, last, value)
    return lake.replace(TABLE, rows, TIME, day(first), day(last), **options)


def values(lake: Lakehouse, first: int, last: int) -> list[float]:
    """The value of each day, every one of which must have its 24 equal rows."""
    found = lake.read(TABLE, day(first), day(last))["active_power_kw"].to_pylist()
    days = [found[start : start + ROWS] for start in range(0, len(found), ROWS)]
    assert all(rows == [rows[0]] * ROWS for rows in days)
    return [rows[0] for rows in days]


def data_files(lake: Lakehouse) -> list[Path]:
    return sorted(Path(lake.warehouse).rglob("*.parquet"))


@pytest.fixture(params=["sqlite", "postgres"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lakehouse:
    """An empty lakehouse: every test runs on both catalogs."""
    uri = (
        request.getfixturevalue("postgres_url")
        if request.param == "postgres"
        else f"sqlite:///{tmp_path}/deep/below/catalog.db"
    )
    return Lakehouse(catalog_uri=uri, warehouse=str(tmp_path / "warehouse"))


def test_what_was_written_is_read(lake: Lakehouse) -> None:
    rows = hourly(0, 3)
    shuffled = rows.take(np.random.default_rng(0).permutation(len(rows)))
    result = lake.replace(TABLE, shuffled, TIME, day(0), day(3))
    assert lake.read(TABLE, day(0), day(3)).equals(rows)
    assert result.snapshot_id == lake.snapshot_id(TABLE)
    assert result.metadata() == {
        "dagster/partition_row_count": 72,
        "table": TABLE,
        "snapshot_id": str(result.snapshot_id),
        "window": "2007-01-30T00:00:00+00:00 to 2007-02-02T00:00:00+00:00",
    }


def test_a_window_leaves_out_its_end_and_the_columns_come_in_the_order_asked(
    lake: Lakehouse,
) -> None:
    write(lake, 0, 3)
    read = lake.read(TABLE, day(1), day(1) + timedelta(hours=2), ["source", TIME])
    assert read.column_names == ["source", TIME]
    assert read[TIME].to_pylist() == [day(1), day(1) + timedelta(hours=1)]
    assert lake.read(TABLE, day(7), day(8)).equals(hourly(0, 0))


def test_times_of_other_zones_and_precisions_become_utc_microseconds(lake: Lakehouse) -> None:
    east = timezone(timedelta(hours=1))
    rows = pa.table({TIME: pa.array([day(0)], pa.timestamp("ns", "Europe/Paris"))})
    lake.replace(TABLE, rows, TIME, day(0).astimezone(east), day(1).astimezone(east))
    read = lake.read(TABLE, day(0).astimezone(east), day(1))
    assert read.schema.field(TIME).type == pa.timestamp("us", "UTC")
    assert read[TIME].to_pylist() == [day(0)]


@pytest.mark.parametrize("partition_by", ["day", "month"])
def test_the_same_partition_twice_leaves_the_same_rows(lake: Lakehouse, partition_by: str) -> None:
    write(lake, 0, 4, partition_by=partition_by)
    before = lake.read(TABLE, day(0), day(4))
    first, second = (write(lake, 1, 2) for _ in range(2))
    assert first.snapshot_id != second.snapshot_id
    assert lake.read(TABLE, day(0), day(4)).equals(before)


@pytest.mark.parametrize("partition_by", ["day", "month"])
def test_a_range_of_partitions_is_replaced_in_one_commit(
    lake: Lakehouse, partition_by: str
) -> None:
    first = write(lake, 0, 5, 1.0, partition_by=partition_by)
    write(lake, 1, 4, 2.0)
    assert values(lake, 0, 5) == [1, 2, 2, 2, 1]
    read = lake.read(TABLE, day(0), day(5), snapshot_id=first.snapshot_id)
    assert read.equals(hourly(0, 5, 1.0))


def test_fewer_rows_replace_more_and_none_empties_the_window(lake: Lakehouse) -> None:
    write(lake, 0, 2)
    lake.replace(TABLE, hourly(0, 1).slice(0, 3), TIME, day(0), day(1))
    assert len(lake.read(TABLE, day(0), day(2))) == 3 + ROWS
    assert lake.replace(TABLE, hourly(0, 0), TIME, day(0), day(1)).rows == 0
    assert lake.read(TABLE, day(0), day(2)).equals(hourly(1, 2))


def test_an_empty_table_can_be_created_and_filled(lake: Lakehouse) -> None:
    lake.replace(TABLE, hourly(0, 0), TIME, day(0), day(1))
    assert lake.read(TABLE, day(0), day(1)).equals(hourly(0, 0))
    write(lake, 0, 1)
    assert values(lake, 0, 1) == [1]


def test_a_table_can_be_read_as_of_a_snapshot(lake: Lakehouse) -> None:
    first = write(lake, 0, 1, 1.0)
    write(lake, 0, 1, 2.0)
    old = lake.read(TABLE, day(0), day(1), snapshot_id=first.snapshot_id)
    assert old.equals(hourly(0, 1, 1.0))
    assert values(lake, 0, 1) == [2]


def test_new_columns_are_added_and_old_rows_have_them_empty(lake: Lakehouse) -> None:
    first = write(lake, 0, 1)
    wider = hourly(1, 2).append_column("voltage_v", pa.array([230.0] * ROWS))
    lake.replace(TABLE, wider, TIME, day(1), day(2))
    read = lake.read(TABLE, day(0), day(2))
    assert read["voltage_v"].to_pylist() == [None] * ROWS + [230.0] * ROWS
    assert (
        "voltage_v"
        not in lake.read(TABLE, day(0), day(2), snapshot_id=first.snapshot_id).column_names
    )
    write(lake, 1, 2)  # by a writer that does not know the new column
    assert lake.read(TABLE, day(1), day(2))["voltage_v"].null_count == ROWS


def test_only_the_files_and_columns_asked_for_are_read(
    lake: Lakehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyiceberg.io.pyarrow import ArrowScan

    write(lake, 0, 3)
    read = []
    scan = ArrowScan.to_table

    def spy(self: ArrowScan, tasks) -> pa.Table:
        tasks = list(tasks)
        read.append((len(tasks), sorted(field.name for field in self._projected_schema.fields)))
        return scan(self, tasks)

    monkeypatch.setattr(ArrowScan, "to_table", spy)
    assert len(data_files(lake)) == 2
    lake.read(TABLE, day(2), day(3), ["source"])
    assert read == [(1, [TIME, "source"])]


def test_writers_of_different_partitions_all_succeed(lake: Lakehouse) -> None:
    together = Barrier(8)

    def one(number: int) -> None:
        own = Lakehouse(catalog_uri=lake.catalog_uri, warehouse=lake.warehouse)
        together.wait()
        write(own, number, number + 1, float(number))

    # Nothing exists yet: they also race to create catalog, namespace and table.
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(8)))
    assert values(lake, 0, 8) == list(range(8))
    # Now they race for pieces of the same files.
    lake.maintain(TABLE)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(8)))
    assert values(lake, 0, 8) == list(range(8))


def test_writers_of_the_same_partition_leave_the_rows_of_one(lake: Lakehouse) -> None:
    write(lake, 0, 3, 9.0)
    together = Barrier(4)

    def one(number: int) -> None:
        together.wait()
        write(lake, 1, 2, float(number))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(4)))
    first, middle, last = values(lake, 0, 3)
    assert (first, last) == (9, 9)
    assert middle in range(4)


def test_processes_that_create_the_same_table_all_succeed(lake: Lakehouse) -> None:
    writers = [
        process(lake, f"write(lake, {number}, {number + 1}, {number}.0)") for number in range(3)
    ]
    for writer in writers:
        _, errors = writer.communicate(timeout=120)
        assert writer.returncode == 0, errors
    assert values(lake, 0, 3) == [0, 1, 2]


@pytest.fixture
def hanging_writer(lake: Lakehouse) -> Iterator[None]:
    """Somebody who has the turn and does not go on."""
    writer = process(lake, "write(lake, 5, 6)", pause_at("pyiceberg.table.Transaction.append"))
    assert writer.stdout
    assert writer.stdout.readline() == "paused\n", writer.communicate()[1]
    yield
    writer.kill()
    writer.communicate()


def test_a_writer_that_hangs_does_not_stop_the_others(
    lake: Lakehouse, hanging_writer: None, caplog: pytest.LogCaptureFixture
) -> None:
    impatient = lake.model_copy(update={"commit_timeout_seconds": 0.5})
    write(impatient, 0, 1)
    assert values(lake, 0, 1) == [1]
    assert "power.readings: writing without a turn after 0.5 s" in caplog.text
    caplog.clear()
    lake.replace("power.features", hourly(0, 1), TIME, day(0), day(1))
    assert not caplog.text, "the turns of different tables are different"


def test_a_conflict_is_tried_again_for_a_limited_time(
    lake: Lakehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyiceberg.catalog.sql import SqlCatalog
    from pyiceberg.exceptions import CommitFailedException

    write(lake, 0, 1, 1.0)
    tries = []

    def lose(*args: object, **kwargs: object) -> None:
        tries.append(1)
        raise CommitFailedException("somebody was faster")

    impatient = lake.model_copy(update={"commit_timeout_seconds": 0.5})
    monkeypatch.setattr(SqlCatalog, "commit_table", lose)
    with pytest.raises(dg.Failure, match=r"within 0.5 seconds; found CommitFailedException"):
        write(impatient, 0, 1, 2.0)
    assert len(tries) > 1
    monkeypatch.undo()
    assert values(lake, 0, 1) == [1]


def test_a_write_whose_success_went_unheard_is_not_written_twice(
    lake: Lakehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyiceberg.catalog.sql import SqlCatalog
    from sqlalchemy.exc import OperationalError

    write(lake, 0, 1, 1.0)
    commit, tries = SqlCatalog.commit_table, []

    def unheard(*args: object, **kwargs: object) -> object:
        response = commit(*args, **kwargs)
        tries.append(1)
        if len(tries) == 1:
            raise OperationalError("COMMIT", None, Exception("the connection broke"))
        return response

    monkeypatch.setattr(SqlCatalog, "commit_table", unheard)
    write(lake, 0, 1, 2.0)
    assert values(lake, 0, 1) == [2]


def write_aloud(lake: Lakehouse, number: int) -> None:
    write(lake, 0, 3, float(number))
    print(number, flush=True)


PAUSES = {
    "before its files are written": "pyiceberg.table.Transaction.overwrite",
    "before it commits": "pyiceberg.catalog.sql.SqlCatalog.commit_table",
    "between metadata and catalog": "pyiceberg.catalog.sql.update",
}


def process(lake: Lakehouse, statement: str, before: str = "") -> subprocess.Popen[str]:
    """A process that runs a statement on the lakehouse."""
    program = (
        "from ml_assets_tests.resources.test_lakehouse import *\n"
        f"lake = Lakehouse(catalog_uri={lake.catalog_uri!r}, warehouse={lake.warehouse!r})\n"
        f"{textwrap.dedent(before)}\n{statement}"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_when_paused(writer: subprocess.Popen[str]) -> None:
    assert writer.stdout
    assert writer.stdout.readline() == "paused\n", writer.communicate()[1]
    writer.send_signal(signal.SIGKILL)
    writer.communicate()


def pause_at(target: str) -> str:
    """Makes a process say that it got to `target`, and stay there."""
    return f"""
        import time
        from unittest import mock

        def pause(*args, **kwargs):
            print("paused", flush=True)
            time.sleep(600)

        mock.patch({target!r}, pause).start()
        """


@pytest.mark.parametrize("moment", PAUSES)
def test_a_killed_writer_leaves_the_table_as_it_was(lake: Lakehouse, moment: str) -> None:
    before = write(lake, 0, 3, 1.0)
    kill_when_paused(process(lake, "write(lake, 0, 2, 2.0)", pause_at(PAUSES[moment])))
    assert lake.snapshot_id(TABLE) == before.snapshot_id
    assert values(lake, 0, 3) == [1, 1, 1]
    write(lake, 0, 2, 2.0)
    assert values(lake, 0, 3) == [2, 2, 1]
    if moment != "before its files are written":
        assert lake.maintain(TABLE, grace=timedelta(0)).deleted_files > 0
    assert values(lake, 0, 3) == [2, 2, 1]


def test_a_writer_killed_at_any_moment_leaves_all_of_a_write_or_nothing(lake: Lakehouse) -> None:
    write(lake, 0, 3, 0.0)
    writer = process(lake, "for number in range(1000): write_aloud(lake, number)")
    assert writer.stdout
    done = [int(writer.stdout.readline()) for _ in range(5)][-1]
    writer.send_signal(signal.SIGKILL)
    done = int((writer.communicate()[0].split() or [done])[-1])
    [found] = set(values(lake, 0, 3))
    assert found in {done, done + 1}


def test_a_killed_first_writer_leaves_no_table(lake: Lakehouse) -> None:
    creating = pause_at("pyiceberg.catalog.sql.SqlCatalog._create_table_row")
    kill_when_paused(process(lake, "write(lake, 0, 1)", creating))
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


def test_tables_are_listed_by_namespace(lake: Lakehouse) -> None:
    assert lake.tables("power") == []
    for table in ("power.readings", "power.features", "tick.bars"):
        lake.replace(table, hourly(0, 1), TIME, day(0), day(1))
    assert lake.tables("power") == ["power.features", "power.readings"]
    assert lake.tables("tick") == ["tick.bars"]


def test_rows_outside_the_window_are_refused(lake: Lakehouse) -> None:
    for start, end in [(day(0), day(1)), (day(1), day(2))]:
        with pytest.raises(DataError, match=r"48 rows from 2007-01-30 .* filter the rows"):
            lake.replace(TABLE, hourly(0, 2), TIME, start, end)
    timeless = pa.table({TIME: pa.array([None, day(0)], pa.timestamp("us", "UTC"))})
    with pytest.raises(DataError, match="1 without a time"):
        lake.replace(TABLE, timeless, TIME, day(0), day(1))
    assert lake.tables("power") == []


def test_times_without_a_zone_are_refused(lake: Lakehouse) -> None:
    naive = hourly(0, 1).set_column(
        0, TIME, pc.cast(hourly(0, 1)[TIME], pa.timestamp("us")).combine_chunks()
    )
    with pytest.raises(DataError, match="a timestamp with a time zone; found timestamp"):
        lake.replace(TABLE, naive, TIME, day(0), day(1))
    with pytest.raises(DataError, match="found no such column"):
        lake.replace(TABLE, hourly(0, 1), "time", day(0), day(1))
    with pytest.raises(DataError, match="both with a time zone"):
        lake.replace(TABLE, hourly(0, 1), TIME, day(0).replace(tzinfo=None), day(1))
    with pytest.raises(DataError, match="from an earlier to a later time"):
        lake.read(TABLE, day(1), day(0))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (pa.array(["a", "b"] * 12).dictionary_encode(), pa.string()),
        (pa.array(["a", "b"] * 12, pa.large_string()), pa.string()),
        (pa.array(["a", "b"] * 12, pa.string_view()), pa.string()),
        (pa.array(range(24), pa.uint8()), pa.int32()),
        (pa.array(range(24), pa.uint64()), pa.int64()),
        (pa.array([True, False] * 12), pa.bool_()),
        (pa.array([1.5, None] * 12, pa.float16()), pa.float32()),
        (pa.array([day(0).replace(tzinfo=None)] * 24, pa.timestamp("ns")), pa.timestamp("us")),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_every_file_of_a_table_has_the_same_types(
    lake: Lakehouse, given: pa.Array, kept: pa.DataType
) -> None:
    for number, column in enumerate([given, given.cast(kept)]):
        rows = hourly(number, number + 1).append_column("extra", column)
        lake.replace(TABLE, rows, TIME, day(number), day(number + 1))
    extra = lake.read(TABLE, day(0), day(2))["extra"]
    assert extra.type == kept
    assert extra.to_pylist() == 2 * given.to_pylist()


def test_times_finer_than_microseconds_are_refused(lake: Lakehouse) -> None:
    fine = pa.table({TIME: pa.array([1_170_115_200_000_000_001], pa.timestamp("ns", "UTC"))})
    with pytest.raises(DataError, match="times in whole microseconds"):
        lake.replace(TABLE, fine, TIME, day(0), day(1))


def changed(rows: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, column)


def test_columns_that_do_not_fit_are_refused(lake: Lakehouse) -> None:
    before = write(lake, 0, 1)
    texts = changed(hourly(0, 1), "active_power_kw", pa.array(["much"] * ROWS))
    with pytest.raises(DataError, match=r"columns that fit the table power.readings"):
        lake.replace(TABLE, texts, TIME, day(0), day(1))
    untyped = hourly(0, 1).append_column("voltage_v", pa.nulls(ROWS))
    with pytest.raises(DataError, match="new columns need a type"):
        lake.replace(TABLE, untyped, TIME, day(0), day(1))
    with pytest.raises(DataError, match=r"columns that fit the table power.features"):
        lake.replace("power.features", untyped, TIME, day(0), day(1))
    other = hourly(0, 1).append_column("other_time", hourly(0, 1)[TIME])
    with pytest.raises(DataError, match="write the table by that column"):
        lake.replace(TABLE, other, "other_time", day(0), day(1))
    assert lake.snapshot_id(TABLE) == before.snapshot_id


def test_narrower_numbers_fit_a_wider_column_and_wider_ones_widen_it(lake: Lakehouse) -> None:
    for number, kind in enumerate([pa.float32(), pa.float64(), pa.float32()]):
        rows = hourly(number, number + 1)
        rows = changed(rows, "active_power_kw", rows["active_power_kw"].cast(kind))
        lake.replace(TABLE, rows, TIME, day(number), day(number + 1))
    assert values(lake, 0, 3) == [1, 1, 1]
    assert lake.read(TABLE, day(0), day(3)).schema.field("active_power_kw").type == pa.float64()


def test_what_does_not_exist_is_named(lake: Lakehouse) -> None:
    with pytest.raises(DataError, match=r"the table power.readings; found no such table"):
        lake.read(TABLE, day(0), day(1))
    with pytest.raises(DataError, match="no such table"):
        lake.snapshot_id(TABLE)
    with pytest.raises(DataError, match="no such table"):
        lake.maintain(TABLE)
    write(lake, 0, 1)
    with pytest.raises(DataError, match="found no volts among event_time_utc, active_power_kw"):
        lake.read(TABLE, day(0), day(1), ["volts", TIME])
    with pytest.raises(DataError, match=r"the snapshot 7 of power.readings"):
        lake.read(TABLE, day(0), day(1), snapshot_id=7)


@pytest.mark.parametrize("name", ["readings", "power/x.readings", "power...readings", "Power.x"])
def test_other_names_are_refused(lake: Lakehouse, name: str) -> None:
    with pytest.raises(DataError, match=r"group.name"):
        lake.replace(name, hourly(0, 1), TIME, day(0), day(1))
    with pytest.raises(DataError, match=r"group.name"):
        lake.read(name, day(0), day(1))


def test_any_file_system_of_fsspec_will_do(tmp_path: Path) -> None:
    lake = Lakehouse(
        catalog_uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"memory://{tmp_path.name}/lake"
    )
    for number in range(2):
        write(lake, number, number + 1, float(number))
    assert lake.maintain(TABLE, timedelta(0), timedelta(0)).deleted_files > 0
    write(lake, 1, 2, 5.0)
    assert values(lake, 0, 2) == [0, 5]
    assert not data_files(lake)


def test_a_relative_warehouse_does_not_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lake = Lakehouse(catalog_uri=f"sqlite:///{tmp_path}/catalog.db", warehouse="warehouse")
    write(lake, 0, 1)
    monkeypatch.chdir("/")
    assert values(lake, 0, 1) == [1]


def test_the_catalog_may_be_named_by_an_environment_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_URI", f"sqlite:///{tmp_path}/catalog.db")

    @dg.asset
    def readings(lakehouse: Lakehouse) -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata=write(lakehouse, 0, 1).metadata())

    lake = Lakehouse(catalog_uri=dg.EnvVar("LAKEHOUSE_URI"), warehouse=str(tmp_path / "warehouse"))
    result = dg.materialize([readings], resources={"lakehouse": lake})
    [found] = result.asset_materializations_for_node("readings")
    assert found.metadata["dagster/partition_row_count"].value == ROWS


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_every_way_to_write_postgresql_is_understood(postgres_url: str, scheme: str) -> None:
    uri = postgres_url.replace("postgresql", scheme, 1).replace("@", ":p%40ss%25word@")
    assert Lakehouse(catalog_uri=uri, warehouse="memory://nothing").tables("power") == []


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://someone:secret@127.0.0.1:9/lake",
        "postgresql://someone@127.0.0.1:9/lake?password=secret",
        "postgresql://someone:se@secret:x@127.0.0.1:9/lake",
        "mysql://someone:secret@127.0.0.1:9/lake",
        "secret",
    ],
)
def test_an_error_never_shows_a_password(uri: str, tmp_path: Path) -> None:
    lake = Lakehouse(catalog_uri=uri, warehouse=str(tmp_path))
    with pytest.raises(dg.Failure, match="Remedy") as failure:
        lake.tables("power")
    shown, error = [], failure.value
    while error:
        shown.append(f"{error} {getattr(error, 'description', '')}")
        error = error.__cause__
    assert "secret" not in " ".join(shown)


def test_a_server_that_goes_away_fails_the_step_and_comes_back(
    postgres_server, postgres_url: str, tmp_path: Path
) -> None:
    lake = Lakehouse(catalog_uri=postgres_url, warehouse=str(tmp_path), commit_timeout_seconds=0.5)
    write(lake, 0, 1)
    name = postgres_url.rpartition("/")[2]
    postgres_server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    with pytest.raises(dg.Failure, match="Expected: a database that answers"):
        write(lake, 0, 1, 2.0)
    postgres_server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    assert values(lake, 0, 1) == [1]
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(postgres_url.replace(name, "nothing"))
