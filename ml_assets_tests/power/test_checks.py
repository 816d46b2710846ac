"""Each check is shown passing and failing, on one day and on a range of days."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest

from ml_assets.ml.evaluation import Evaluation
from ml_assets.power import checks
from ml_assets.power.checks import CHECKS, DRIFTING, QUALITY
from ml_assets.power.config import DAYS
from ml_assets.power.data import COLUMNS
from ml_assets.power.model import Forecast
from ml_assets.promotion import Registration
from ml_assets.resources.lakehouse import Lakehouse
from ml_assets_tests.power.group import Days, as_range, midnight

BY_NAME = {spec.name: (check, spec) for check in CHECKS for spec in check.check_specs}

YESTERDAY, DAY, NEXT = "2025-03-09", "2025-03-10", "2025-03-11"
RANGE = (YESTERDAY, NEXT)

Rows = dict[str, np.ndarray]


def evaluate(name: str, day: str, resources: dict[str, Any]) -> dg.AssetCheckEvaluation:
    """Run a check as Dagster does, on a partition."""
    [evaluation] = evaluations(name, day, resources)
    return evaluation


def evaluations(name: str, days: Days, resources: dict[str, Any]) -> list[dg.AssetCheckEvaluation]:
    """Run a check as Dagster does, on a partition or a range of them."""
    check, spec = BY_NAME[name]
    job = dg.Definitions(
        assets=[dg.AssetSpec(spec.asset_key, partitions_def=DAYS)],
        asset_checks=[check],
        resources=resources,
        jobs=[
            dg.define_asset_job("checks", dg.AssetSelection.all_asset_checks(), partitions_def=DAYS)
        ],
    ).resolve_job_def("checks")
    result = job.execute_in_process(
        # Dagster looks for a partition key among the assets of a job, and here are none.
        tags={"dagster/partition": days} if isinstance(days, str) else as_range(days),
        raise_on_error=False,
    )
    return list(result.get_asset_check_evaluations())


def minutes() -> np.ndarray:
    """The minutes of the three days."""
    return np.arange(YESTERDAY, "2025-03-12", dtype="datetime64[m]").astype("datetime64[us]")


def raw_rows() -> Rows:
    days = minutes().astype("datetime64[D]").astype("datetime64[us]")
    return {"partition_time_utc": days, "line": np.arange(len(days))}


def reading_rows() -> Rows:
    times = minutes()
    middle = {name: np.full(len(times), sum(bounds) / 2) for name, bounds in COLUMNS.items()}
    return {"event_time_utc": times, **middle, "is_gap": np.zeros(len(times), bool)}


def feature_rows() -> Rows:
    times = np.arange("2025-01-10", "2025-03-12", dtype="datetime64[h]").astype("datetime64[us]")
    values = np.arange(len(times)) % 24.0
    return {"event_time_utc": times, **dict.fromkeys(DRIFTING[1:], values)}


def on_day(rows: Rows) -> np.ndarray:
    """Whether a row belongs to DAY."""
    return next(iter(rows.values())).astype("datetime64[D]") == np.datetime64(DAY)


def one_of_day(rows: Rows) -> int:
    return int(np.flatnonzero(on_day(rows))[700])


def without(rows: Rows, left_out: np.ndarray) -> Rows:
    return {name: values[~left_out] for name, values in rows.items()}


def a_line_twice(rows: Rows) -> Rows:
    rows["line"][one_of_day(rows)] += 1
    return rows


def a_float_of_32_bits(rows: Rows) -> Rows:
    return rows | {"voltage_v": rows["voltage_v"].astype(np.float32)}


def an_impossible_voltage(rows: Rows) -> Rows:
    rows["voltage_v"][one_of_day(rows)] = 400.0
    return rows


def a_minute_gone(rows: Rows) -> Rows:
    return without(rows, np.arange(len(rows["is_gap"])) == one_of_day(rows))


def seven_silent_hours_at_noon(rows: Rows) -> Rows:
    rows["is_gap"][np.flatnonzero(on_day(rows))[600 : 600 + 7 * 60]] = True
    return rows


def seven_silent_hours_at_the_end(rows: Rows) -> Rows:
    rows["is_gap"] = np.arange(len(rows["is_gap"])) % 1440 >= 17 * 60
    return rows


def a_day_gone(rows: Rows) -> Rows:
    return without(rows, on_day(rows))


def a_month_of_other_values(rows: Rows) -> Rows:
    late = rows["event_time_utc"] >= np.datetime64("2025-02-12")
    return rows | {name: rows[name] + 100 * late for name in DRIFTING[1:]}


# For each check of a table: sound rows, what is done to them, and the day that fails then.
TABLES: dict[str, tuple[Callable[[], Rows], Callable[[Rows], Rows], str]] = {
    "lines_are_unique": (raw_rows, a_line_twice, DAY),
    "columns_are_typed": (reading_rows, a_float_of_32_bits, DAY),
    "values_are_possible": (reading_rows, an_impossible_voltage, DAY),
    "every_minute_is_there_once": (reading_rows, a_minute_gone, DAY),
    "few_minutes_are_missing": (reading_rows, seven_silent_hours_at_noon, DAY),
    "readings_are_fresh": (reading_rows, seven_silent_hours_at_the_end, DAY),
    "no_missing_days": (feature_rows, a_day_gone, NEXT),
    "inputs_have_not_drifted": (feature_rows, a_month_of_other_values, DAY),
}
# Those that fail of one day alone, while the days around it pass.
OF_A_DAY = [
    "lines_are_unique",
    "values_are_possible",
    "every_minute_is_there_once",
    "few_minutes_are_missing",
]

EVALUATION = Evaluation(
    "t1", "f1", "d1", {"mae": 0.5}, {"best_naive": 0.7}, np.zeros((1, 3)), np.zeros(1)
)
FORECAST = Forecast(
    predictions=np.tile([0.5, 1.0, 1.5], (24, 1)),
    metrics={
        "hours_compared": 24.0,
        "hours_inside": 19.0,
        "coverage": 19 / 24,
        "claimed_coverage": 0.8,
    },
)
REGISTRATION = Registration(
    promote=False, regressed=False, reason="a tie", name="household_power_lightgbm", version="2"
)
VALUES = {
    "mae_below_ceiling": (EVALUATION, {"metrics": {"mae": QUALITY.limit + 0.01}}),
    "beats_best_naive": (EVALUATION, {"baselines": {"best_naive": 0.5}}),
    "no_regression_against_champion": (REGISTRATION, {"regressed": True}),
    "forecast_is_complete": (FORECAST, {"predictions": FORECAST.predictions[:, ::-1]}),
    "interval_covers_as_claimed": (
        FORECAST,
        {"metrics": FORECAST.metrics | {"hours_inside": 12.0, "coverage": 0.5}},
    ),
}


@pytest.fixture
def keep(tmp_path: Path) -> Callable[[str, Rows], dict[str, Any]]:
    """Writes the rows as the table that a check looks at; the check's resources."""

    def write(name: str, rows: Rows) -> dict[str, Any]:
        lakehouse = Lakehouse(
            catalog_uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=str(tmp_path / "warehouse")
        )
        table = ".".join(BY_NAME[name][1].asset_key.path)
        time, *_ = rows
        stamps = pa.array(rows[time]).cast(pa.timestamp("us", "UTC"))
        written = pa.table({time: stamps, **{key: rows[key] for key in [*rows][1:]}})
        lakehouse.replace(table, written, time, midnight("2025-01-01"), midnight("2025-04-01"))
        return {"power_lakehouse": lakehouse}

    return write


def given(value: Any) -> dict[str, Any]:
    """The resources of a check whose asset has this value."""

    class Given(dg.IOManager):
        def load_input(self, _: dg.InputContext) -> Any:
            return value

        def handle_output(self, _: dg.OutputContext, obj: Any) -> None:
            pass

    return {"io_manager": Given()}


def test_every_check_has_its_case() -> None:
    assert {*TABLES, *VALUES} == set(BY_NAME)


@pytest.mark.parametrize("name", TABLES)
def test_a_check_of_a_table_passes(name: str, keep: Any) -> None:
    rows, *_ = TABLES[name]
    resources = keep(name, rows())
    for days in (DAY, RANGE):
        for evaluation in evaluations(name, days, resources):
            assert evaluation.passed
            assert evaluation.metadata


@pytest.mark.parametrize("name", TABLES)
def test_a_check_of_a_table_fails(name: str, keep: Any) -> None:
    rows, doctored, failing = TABLES[name]
    resources = keep(name, doctored(rows()))
    evaluation = evaluate(name, failing, resources)
    assert not evaluation.passed
    assert evaluation.metadata
    found = evaluations(name, RANGE, resources)
    bad = [evaluation for evaluation in found if not evaluation.passed]
    assert all(evaluation.metadata for evaluation in bad)
    if name in OF_A_DAY:
        assert {evaluation.partition for evaluation in found} == {YESTERDAY, DAY, NEXT}
        assert [evaluation.partition for evaluation in bad] == [DAY]
    else:
        assert bad[-1].partition == NEXT


@pytest.mark.parametrize("name", OF_A_DAY)
def test_a_check_looks_at_its_partition_only(name: str, keep: Any) -> None:
    rows, doctored, _ = TABLES[name]
    resources = keep(name, doctored(rows()))
    assert evaluate(name, YESTERDAY, resources).passed
    assert evaluate(name, NEXT, resources).passed


@pytest.mark.parametrize("name", TABLES)
def test_a_check_passes_where_its_partition_is_the_only_one(name: str, keep: Any) -> None:
    rows = TABLES[name][0]()
    assert evaluate(name, DAY, keep(name, without(rows, ~on_day(rows)))).passed


@pytest.mark.parametrize(
    "name", ["every_minute_is_there_once", "few_minutes_are_missing", "readings_are_fresh"]
)
def test_a_check_of_a_day_without_rows_fails(name: str, keep: Any) -> None:
    rows = TABLES[name][0]()
    assert not evaluate(name, DAY, keep(name, a_day_gone(rows))).passed


def test_a_gap_at_midnight_counts_as_part_of_its_local_day(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In Paris a day begins at 23:00 UTC: half of that hour is not half of a day."""
    monkeypatch.setattr(checks, "TIMEZONE", "Europe/Paris")
    times = np.arange("2025-03-09T23:00", "2025-03-10T23:00", dtype="datetime64[m]")
    rows = pa.table(
        {
            "event_time_utc": pa.array(times.astype("datetime64[us]")),
            "is_gap": np.arange(len(times)) < 30,
        }
    )
    finding = checks.few_minutes_are_missing(rows, midnight(DAY), midnight(NEXT))
    assert finding.passed
    assert finding.metadata["largest_share_of_a_day"] == pytest.approx(30 / 1440)


@pytest.mark.parametrize("name", VALUES)
def test_a_check_of_a_value_passes(name: str) -> None:
    evaluation = evaluate(name, DAY, given(VALUES[name][0]))
    assert evaluation.passed
    assert evaluation.metadata


@pytest.mark.parametrize("name", VALUES)
def test_a_check_of_a_value_fails(name: str) -> None:
    value, change = VALUES[name]
    evaluation = evaluate(name, DAY, given(dataclasses.replace(value, **change)))
    assert not evaluation.passed
    assert evaluation.metadata


def test_a_forecast_that_is_not_a_number_is_not_complete() -> None:
    predictions = FORECAST.predictions.copy()
    predictions[3, 1] = np.nan
    broken = dataclasses.replace(FORECAST, predictions=predictions)
    assert not evaluate("forecast_is_complete", DAY, given(broken)).passed


def test_the_first_forecast_has_nothing_to_be_compared_with() -> None:
    first = dataclasses.replace(FORECAST, metrics={"hours_compared": 0.0, "hours_inside": 0.0})
    evaluation = evaluate("interval_covers_as_claimed", DAY, given(first))
    assert evaluation.passed
    assert evaluation.metadata["note"].value == "there was no forecast of this day"


def test_what_is_wrong_with_data_blocks_what_follows() -> None:
    blocking = {name for name, (_, spec) in BY_NAME.items() if spec.blocking}
    assert blocking == {
        "lines_are_unique",
        "columns_are_typed",
        "values_are_possible",
        "every_minute_is_there_once",
    }


@pytest.mark.parametrize("name", ["inputs_have_not_drifted", "interval_covers_as_claimed"])
def test_what_goes_by_chance_or_season_is_advice(name: str, keep: Any) -> None:
    if name in TABLES:
        rows, doctored, _ = TABLES[name]
        evaluation = evaluate(name, DAY, keep(name, doctored(rows())))
    else:
        value, change = VALUES[name]
        evaluation = evaluate(name, DAY, given(dataclasses.replace(value, **change)))
    assert evaluation.severity == dg.AssetCheckSeverity.WARN
