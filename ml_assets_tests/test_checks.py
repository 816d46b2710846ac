"""Checks of tables: of a range each day is looked at by itself."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest

from ml_assets.checks import Finding, table_check
from ml_assets.resources.lakehouse import Lakehouse

DAYS = dg.DailyPartitionsDefinition("2024-01-01")
START = datetime(2024, 1, 1, tzinfo=UTC)
RANGE = {
    "dagster/asset_partition_range_start": "2024-01-01",
    "dagster/asset_partition_range_end": "2024-07-18",  # 200 days
}

Evaluate = Callable[..., list[dg.AssetCheckEvaluation]]


@pytest.fixture
def evaluate(tmp_path: Path) -> Evaluate:
    """Make 200 days with one row each and check them; called with what `table_check` takes."""
    lakehouse = Lakehouse(
        catalog_uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=str(tmp_path / "lake")
    )

    @dg.asset(
        key_prefix="group", partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run()
    )
    def rows(context: dg.AssetExecutionContext) -> None:
        times = [START + timedelta(days=day) for day in range(200)]
        table = pa.table({"time": pa.array(times, pa.timestamp("us", "UTC"))})
        lakehouse.replace("group.rows", table, "time", *context.partition_time_window)

    def run(holds: Callable[..., Finding], **arguments: object) -> list[dg.AssetCheckEvaluation]:
        check = table_check(("group", "rows"), DAYS, holds, columns=["time"], **arguments)  # type: ignore[arg-type]
        result = dg.materialize(
            [rows, check], tags=RANGE, resources={"group_lakehouse": lakehouse}, raise_on_error=True
        )
        return list(result.get_asset_check_evaluations())

    return run


def test_of_a_long_range_each_day_is_checked_by_itself_and_reported(evaluate: Evaluate) -> None:
    def has_no_days_after_may(rows: pa.Table, start: datetime, end: datetime) -> Finding:
        assert rows["time"].to_pylist() == [start]
        return Finding(end <= datetime(2024, 6, 1, tzinfo=UTC), {"day": str(start.date())})

    found = evaluate(has_no_days_after_may)
    assert len(found) == 200
    assert all(each.metadata["day"].value == each.partition for each in found)
    assert [each.partition for each in found if each.passed][-1] == "2024-05-31"
    assert next(each.partition for each in found if not each.passed) == "2024-06-01"
    assert len({each.target_materialization_data.storage_id for each in found}) == 200


def test_a_check_of_the_latest_day_sees_no_other(evaluate: Evaluate) -> None:
    def is_one_day(rows: pa.Table, start: datetime, end: datetime) -> Finding:
        return Finding(len(rows) == 1 and end - start == timedelta(days=1))

    [found] = evaluate(is_one_day, latest_day=True)
    assert found.passed
    assert found.partition == "2024-07-18"


def test_a_check_that_looks_back_sees_all_rows_at_once(evaluate: Evaluate) -> None:
    def has_all_days(rows: pa.Table, _start: datetime, _end: datetime) -> Finding:
        return Finding(len(rows) == 200)

    [found] = evaluate(has_all_days, lookback_days=1)
    assert found.passed
    assert found.partition == "2024-07-18"
