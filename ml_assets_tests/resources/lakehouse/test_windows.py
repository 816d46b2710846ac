from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ml_assets.ml.errors import DataError
from ml_assets.resources.lakehouse import Lakehouse, WriteResult
from ml_assets_tests.resources.lakehouse.tables import (
    ROWS,
    TABLE,
    TIME,
    data_files,
    day,
    hourly,
    values,
    write,
)


def test_what_was_written_is_read(lake: Lakehouse) -> None:
    rows = hourly(0, 3)
    shuffled = rows.take(np.random.default_rng(0).permutation(len(rows)))
    result = lake.replace(TABLE, shuffled, TIME, day(0), day(3))
    assert lake.read(TABLE, day(0), day(3)).equals(rows)
    assert result.snapshot_id == lake.snapshot_id(TABLE)
    assert result.metadata() == {
        "rows": 72,
        "rows_sha256": result.sha256,
        "table": TABLE,
        "snapshot_id": str(result.snapshot_id),
        "window": "2007-01-30T00:00:00+00:00 to 2007-02-02T00:00:00+00:00",
    }


def test_the_same_rows_have_the_same_digest_however_they_come(lake: Lakehouse) -> None:
    rows = hourly(0, 3).append_column("voltage_v", pa.array([230.0, None, None] * 24))
    parts = pa.concat_tables(rows.slice(start, 7) for start in range(0, 72, 7))
    shuffled = parts.take(np.random.default_rng(0).permutation(72))
    under_nulls = pa.array(np.resize([230.0, 7.0, 8.0], 72), mask=np.arange(72) % 3 > 0)
    garbage = rows.set_column(rows.column_names.index("voltage_v"), "voltage_v", under_nulls)
    longer = pa.concat_tables([garbage, garbage]).slice(72)
    given = [rows, parts, shuffled, garbage, longer, lake_s_own(lake, rows)]
    assert len({digest(lake, table) for table in given}) == 1


def test_other_rows_have_another_digest(lake: Lakehouse) -> None:
    rows = hourly(0, 3)
    other = [rows, hourly(0, 3, 1.0 + 1e-12), rows.slice(1), rows.slice(0, 0)]
    renamed = rows.rename_columns([TIME, "power", "source"])
    narrower = rows.set_column(1, "active_power_kw", rows["active_power_kw"].cast(pa.float32()))
    assert len({digest(lake, table) for table in [*other, renamed, narrower]}) == 6


def digest(lake: Lakehouse, rows: pa.Table) -> str:
    """The digest of a write; each to a table of its own, whose columns may differ."""
    table = f"power.t{len(lake.tables('power'))}"
    return lake.replace(table, rows, TIME, day(0), day(3)).sha256


def lake_s_own(lake: Lakehouse, rows: pa.Table) -> pa.Table:
    """The rows as they come back when they were written."""
    lake.replace(TABLE, rows, TIME, day(0), day(3))
    return lake.read(TABLE, day(0), day(3))


def test_writes_of_consecutive_windows_are_reported_as_one(lake: Lakehouse) -> None:
    first, second = write(lake, 0, 1), write(lake, 1, 3)
    joined = WriteResult.joined([first, second])
    assert (joined.table, joined.rows) == (TABLE, 72)
    assert (joined.start, joined.end) == (day(0), day(3))
    assert joined.snapshot_id == second.snapshot_id == lake.snapshot_id(TABLE)
    assert WriteResult.joined([first]) == first
    again = WriteResult.joined([write(lake, 0, 1), write(lake, 1, 3)])
    changed = WriteResult.joined([first, write(lake, 1, 3, 2.0)])
    assert joined.sha256 == again.sha256 != changed.sha256


def test_a_window_leaves_out_its_end_and_the_columns_come_in_the_order_asked(
    lake: Lakehouse,
) -> None:
    write(lake, 0, 3)
    read = lake.read(TABLE, day(1), day(1) + timedelta(hours=2), ["source", TIME])
    assert read.column_names == ["source", TIME]
    assert read[TIME].to_pylist() == [day(1), day(1) + timedelta(hours=1)]
    assert lake.read(TABLE, day(7), day(8)).equals(hourly(0, 0))


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


def test_where_nothing_replaces_nothing_there_is_no_commit(lake: Lakehouse) -> None:
    first = write(lake, 0, 1)
    result = lake.replace(TABLE, hourly(0, 0), TIME, day(40), day(41))
    assert (result.rows, result.snapshot_id) == (0, first.snapshot_id)
    assert lake.snapshot_id(TABLE) == first.snapshot_id
    other = hourly(0, 0).rename_columns([f"other_{TIME}", "power", "source"])
    with pytest.raises(DataError, match="write the table by that column"):
        lake.replace(TABLE, other, f"other_{TIME}", day(40), day(41))


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
