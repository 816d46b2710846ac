from datetime import timedelta, timezone

import pyarrow as pa
import pytest

from ml_assets.ml.errors import DataError
from ml_assets.resources.lakehouse import Lakehouse
from ml_assets_tests.resources.lakehouse.tables import ROWS, TABLE, TIME, day, hourly, values, write


def test_times_of_other_zones_and_precisions_become_utc_microseconds(lake: Lakehouse) -> None:
    east = timezone(timedelta(hours=1))
    rows = pa.table({TIME: pa.array([day(0)], pa.timestamp("ns", "Europe/Paris"))})
    lake.replace(TABLE, rows, TIME, day(0).astimezone(east), day(1).astimezone(east))
    read = lake.read(TABLE, day(0).astimezone(east), day(1))
    assert read.schema.field(TIME).type == pa.timestamp("us", "UTC")
    assert read[TIME].to_pylist() == [day(0)]


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
