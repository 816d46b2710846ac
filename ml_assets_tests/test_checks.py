"""Checks of tables: a long range is looked at piece by piece."""

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

Evaluate = Callable[..., dg.AssetCheckEvaluation]


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

    def run(holds: Callable[..., Finding], **arguments: object) -> dg.AssetCheckEvaluation:
        check = table_check(("group", "rows"), DAYS, holds, columns=["time"], **arguments)  # type: ignore[arg-type]
        result = dg.materialize(
            [rows, check], tags=RANGE, resources={"group_lakehouse": lakehouse}, raise_on_error=True
        )
        [evaluation] = result.get_asset_check_evaluations()
        return evaluation

    return run


def test_a_long_range_is_checked_in_pieces_and_the_first_that_fails_is_reported(
    evaluate: Evaluate,
) -> None:
    seen = []

    def has_no_days_after_may(rows: pa.Table, _start: datetime, end: datetime) -> Finding:
        seen.append(len(rows))
        return Finding(end <= datetime(2024, 6, 1, tzinfo=UTC), {"rows": len(rows)})

    found = evaluate(has_no_days_after_may)
    assert seen == [92, 92]
    assert not found.passed
    assert "2024-04-02" in str(found.metadata["piece"].value)


def test_a_check_of_the_latest_day_sees_no_other(evaluate: Evaluate) -> None:
    def is_one_day(rows: pa.Table, start: datetime, end: datetime) -> Finding:
        return Finding(len(rows) == 1 and end - start == timedelta(days=1))

    assert evaluate(is_one_day, latest_day=True).passed


def test_a_check_that_looks_back_sees_all_rows_at_once(evaluate: Evaluate) -> None:
    def has_all_days(rows: pa.Table, _start: datetime, _end: datetime) -> Finding:
        return Finding(len(rows) == 200)

    assert evaluate(has_all_days, lookback_days=1).passed
