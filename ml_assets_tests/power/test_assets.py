"""The group from end to end, twice, in ranges, and what is left of it when something fails."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest
from mlflow import MlflowClient

from ml_assets.ml import archive
from ml_assets.ml.boosting import TrainedForecaster, boosters_digest
from ml_assets.power import assets, model
from ml_assets.power.model import Tuning
from ml_assets.promotion import Registration, keep_later
from ml_assets.reporting import FINGERPRINT
from ml_assets.resources.mlflow import MlflowResource
from ml_assets_tests.power.group import (
    FIRST,
    TABLES,
    TODAY,
    TOMORROW,
    AlteredReadings,
    Group,
    Prepared,
    midnight,
)

ROOT = Path(__file__).parents[2]
NAME = "household_power_lightgbm"
LOGGED = "key:power/mlflow_run or key:power/registered_model"


def metadata(result: dg.ExecuteInProcessResult, name: str) -> dict[str, Any]:
    """What a run says of an asset: of the last of its partitions, and of all of them."""
    *_, event = result.asset_materializations_for_node(f"power__{name}")
    return {key: entry.value for key, entry in event.metadata.items()}


def failures(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    return {
        str(event.step_key): str(event.step_failure_data.user_failure_data)
        for event in result.get_step_failure_events()
    }


def retries(result: dg.ExecuteInProcessResult) -> int:
    return len([event for event in result.all_events if event.is_step_up_for_retry])


def aliases(resource: MlflowResource) -> dict[str, dict[str, str]]:
    """The aliases of every registered model."""
    found = MlflowClient(resource.tracking_uri).search_registered_models()
    return {
        entry.name: {alias: str(version) for alias, version in entry.aliases.items()}
        for entry in found
    }


def kept(group: Group, name: str, kind: type, day: str = TODAY) -> Any:
    """What an asset left behind."""
    [path] = (group.home / "artifacts" / "power" / name).glob(f"{day}*")
    return archive.load(kind, path)


def equal(one: pa.Table, two: pa.Table) -> bool:
    """All rows are the same; NaN is NaN."""
    return one.schema == two.schema and one.to_pandas().equals(two.to_pandas())


def days_of(rows: pa.Table) -> list[str]:
    time = "event_time_utc" if "event_time_utc" in rows.column_names else "partition_time_utc"
    found = rows[time].to_numpy().astype("datetime64[D]")
    return [str(day) for day in np.unique(found)]


# One day, and the next.


def test_one_day_from_raw_readings_to_the_forecast(with_training: Prepared, trained: Group) -> None:
    result = with_training.result
    checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert len(checks) == 13
    advice = {name for name, check in checks.items() if not check.passed}
    assert advice <= {"inputs_have_not_drifted"}  # the sample begins in the winter before
    assert aliases(trained.mlflow) == {NAME: {"champion": "1"}}

    for name, pictures in {
        "tuning": ["search_history"],
        "model": ["learning_curves", "feature_importance"],
        "evaluation": ["forecast_against_actual", "residuals"],
        "forecast": ["forecast_and_actual"],
    }.items():
        for picture in pictures:
            assert metadata(result, name)[picture].startswith("![](data:image/png;base64,")
    assert metadata(result, "raw_readings")["rows"] == 1440
    assert metadata(result, "readings")["rows"] == 1440
    assert metadata(result, "features")["rows"] == 24
    tuning, evaluation = metadata(result, "tuning"), metadata(result, "evaluation")
    assert tuning["trials"] == 3
    assert (tuning["first_day"], tuning["last_day"]) == (FIRST, TODAY)
    assert metadata(result, "model")["train_wall_seconds"] > 0
    assert metadata(result, "model")["peak_memory_mb"] > 100
    assert evaluation["test_days"] == 7
    assert evaluation["mae"] < evaluation["mae_of_best_naive"]
    assert {"rmse", "r2", "mse", "skill_best_naive", "mae_of_random_forest"} <= set(evaluation)
    registration = metadata(result, "registered_model")
    assert registration["role"] == "champion"
    assert registration["value"] == evaluation["mae"]
    assert len(registration[FINGERPRINT]) == 64

    made = trained.read("forecast")
    assert len(made) == 24
    assert made["event_time_utc"][0].as_py() == midnight(TOMORROW)
    assert days_of(made) == [TOMORROW]
    lower, point, upper = (made[name].to_numpy() for name in model.BOUNDS)
    assert ((point > 0) & (point < 10)).all()
    assert ((lower <= point) & (point <= upper)).all()
    assert set(made["model_version"].to_pylist()) == {"1"}
    assert metadata(result, "forecast")["hours_compared"] == 0


def test_the_training_is_in_mlflow(with_training: Prepared, trained: Group) -> None:
    result = with_training.result
    client = MlflowClient(trained.mlflow.tracking_uri)
    tracked = client.get_run(metadata(result, "mlflow_run")["run_id"])
    assert tracked.info.status == "FINISHED"
    assert tracked.data.tags["dagster_run_id"] == result.run_id
    assert tracked.data.tags["partition"] == TODAY
    snapshot = metadata(result, "tuning")["rows_snapshot_id"]
    assert tracked.data.tags["rows_snapshot_id"] == snapshot
    # The very table that was trained on can be read again.
    assert len(
        trained.lakehouse.read(
            "power.features", midnight(TODAY), midnight(TODAY, 1), snapshot_id=int(snapshot)
        )
    )
    assert tracked.data.params["horizon"] == "day_ahead"
    assert tracked.data.metrics["test_mae"] == metadata(result, "evaluation")["mae"]
    rounds = client.get_metric_history(tracked.info.run_id, "val_l1")
    assert len(rounds) >= metadata(result, "model")["trees"]
    pictures = {file.path for file in client.list_artifacts(tracked.info.run_id, "pictures")}
    assert pictures == {
        f"pictures/{name}.png"
        for name in (
            "feature_importance",
            "forecast_against_actual",
            "residuals",
            "search_history",
        )
    }


def test_the_next_day_sees_what_became_of_the_forecast(trained: Group) -> None:
    result = trained.run(days=TOMORROW)
    assert result.success
    forecast = metadata(result, "forecast")
    assert forecast["hours_compared"] == 24
    assert 0 <= forecast["hours_inside"] <= 24
    assert forecast["coverage"] == forecast["hours_inside"] / 24
    earlier = trained.read("forecast", TOMORROW, TOMORROW)["forecast_kw"].to_numpy()
    actual = trained.read("features", TOMORROW, TOMORROW)["active_power_kw"].to_numpy()
    assert forecast["mae_kw"] == pytest.approx(np.abs(earlier - actual).mean())
    assert days_of(trained.read("forecast")) == [TOMORROW, "2025-04-22"]

    registration = kept(trained, "registered_model", Registration, TOMORROW)
    assert registration.version == "2"
    assert registration.gain_low <= registration.gain <= registration.gain_high
    expected = {"champion": "2"} if registration.promote else {"champion": "1", "challenger": "2"}
    assert aliases(trained.mlflow) == {NAME: expected}

    # The search began where that of the day before had ended.
    with_best = kept(trained, "tuning", Tuning)
    assert first_trial(trained, TOMORROW) == with_best.boosting


# The same again.


def test_the_same_day_again_leaves_the_same_rows(tables: Group) -> None:
    names = ["raw_readings", "readings", "features"]
    before = {name: tables.read(name) for name in names}
    first, second = (tables.run(TABLES, "2025-03-05", checks=False) for _ in range(2))
    for name in names:
        assert equal(tables.read(name), before[name])
        one, two = metadata(first, name), metadata(second, name)
        assert (one["rows"], one["rows_sha256"]) == (two["rows"], two["rows_sha256"])
        assert one["snapshot_id"] != two["snapshot_id"]


def test_a_range_longer_than_a_piece_is_whole(with_tables: Prepared, tables: Group) -> None:
    days = 110  # more than a quarter of a year, which is read and written at a time
    for name, rows in {"raw_readings": 1440, "readings": 1440, "features": 24}.items():
        events = with_tables.result.asset_materializations_for_node(f"power__{name}")
        assert [event.metadata["rows"].value for event in events] == [rows] * days
        assert len(tables.read(name)) == days * rows
        assert len(days_of(tables.read(name))) == days
    counts = metadata(with_tables.result, "readings")
    assert counts["lines"] == 1440
    assert all(
        check.passed
        for check in with_tables.result.get_asset_check_evaluations()
        if check.severity == dg.AssetCheckSeverity.ERROR
    )


def test_the_same_range_again_leaves_the_same_rows(tables: Group) -> None:
    names, days = ["raw_readings", "readings", "features"], ("2025-03-01", "2025-03-10")
    before = {name: tables.read(name) for name in names}
    first, second = (tables.run(TABLES, days, checks=False) for _ in range(2))
    for name in names:
        assert equal(tables.read(name), before[name])
        one, two = metadata(first, name), metadata(second, name)
        assert one["rows"] == two["rows"]
        assert one["rows_sha256"] == two["rows_sha256"]


def test_a_range_equals_its_days_and_its_pieces(
    empty: Group, tables: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "PIECE_DAYS", 3)
    result = empty.run(TABLES, (FIRST, "2025-01-07"), checks=False)
    assert result.success
    assert metadata(result, "readings")["rows"] == 1440
    assert metadata(result, "readings")["lines"] == 1440
    for day in ("2025-01-08", "2025-01-09"):
        assert empty.run(TABLES, day, checks=False).success
    for name in ("raw_readings", "readings", "features"):
        written, whole = empty.read(name), tables.read(name, FIRST, "2025-01-09")
        assert equal(written, whole), name


def test_one_day_recomputed_leaves_the_others_alone(tables: Group) -> None:
    day, around = "2025-03-05", [("2025-01-01", "2025-03-04"), ("2025-03-06", TODAY)]
    source = AlteredReadings(day=day, added=["5/3/2025;12:00"])
    names = ["raw_readings", "readings", "features"]
    before = {name: [tables.read(name, *days) for days in around] for name in names}
    assert tables.run(TABLES, day, checks=False, power_source=source).success
    assert len(tables.read("raw_readings", day, day)) == 1441
    for name in names:
        after = [tables.read(name, *days) for days in around]
        assert all(equal(one, two) for one, two in zip(before[name], after, strict=True))


def test_a_run_that_fails_in_the_middle_leaves_whole_days_and_says_which_are_missing(
    empty: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "PIECE_DAYS", 2)
    days, whole = (FIRST, "2025-01-08"), [f"2025-01-0{day}" for day in range(1, 5)]
    broken = AlteredReadings(broken=["2025-01-06"])
    result = empty.run("key:power/raw_readings", days, checks=False, power_source=broken)
    assert not result.success
    assert retries(result) == 2  # a disk may be mended
    assert days_of(empty.read("raw_readings")) == whole
    assert len(empty.read("raw_readings")) == 4 * 1440

    result = empty.run("key:power/readings", days, checks=False)
    message = failures(result)["power__readings"]
    assert (
        "power/readings, partition 2025-01-01 to 2025-01-08: 4 of 8 days could not be made: "
        "2025-01-05, 2025-01-06, 2025-01-07, 2025-01-08" in message
    )
    assert "power/readings, partition 2025-01-06: expected lines of all 1 days" in message
    assert days_of(empty.read("readings")) == whole
    assert len(empty.read("readings")) == 4 * 1440

    assert empty.run(TABLES, days, checks=False).success
    assert len(empty.read("readings")) == 8 * 1440


# Odd lines.

VALUES = "0.05;240.0;5.0;0;0;0"
ODD = {
    "20/4/2025;12:00": "truncated",
    f"20/4/2025;12:00:00;much;{VALUES}": "wrong_type",
    f"19/4/2025;12:00:00;1.2;{VALUES}": "wrong_type",
    f"20/4/2025;12:00:00;99;{VALUES}": "impossible_value",
    f"20/4/2025;12:00:00;1.2;{VALUES}": "duplicate",
}


def test_odd_lines_are_counted_and_quarantined(tables: Group) -> None:
    sound = tables.read("readings")
    source = AlteredReadings(added=list(ODD))
    result = tables.run("key:power/raw_readings or key:power/readings", power_source=source)
    assert result.success
    found = metadata(result, "readings")
    assert found["lines"] == 1445
    assert found["truncated"] == 1
    assert found["wrong_type"] == 2
    assert found["impossible_value"] == 1
    assert found["duplicate"] == 1
    assert found["out_of_order"] == found["missing_minutes"] == 0
    assert found["quarantine"] == "power.quarantine"
    odd = tables.read("quarantine", TODAY, TODAY)
    assert dict(zip(odd["text"].to_pylist(), odd["reason"].to_pylist(), strict=True)) == ODD
    assert odd["excluded"].to_pylist() == [True] * 5
    assert equal(tables.read("readings"), sound)

    # Mended and run again, nothing is left of them.
    assert tables.run("key:power/raw_readings or key:power/readings").success
    assert len(tables.read("quarantine", TODAY, TODAY)) == 0


def test_too_many_odd_lines_fail_the_day_and_leave_its_readings(tables: Group) -> None:
    snapshots = {
        name: tables.lakehouse.snapshot_id(f"power.{name}") for name in ("readings", "quarantine")
    }
    source = AlteredReadings(added=[f"20/4/2025;12:{minute}" for minute in range(100)])
    result = tables.run("key:power/raw_readings or key:power/readings", power_source=source)
    assert set(failures(result)) == {"power__readings"}
    message = failures(result)["power__readings"]
    assert f"power/readings, partition {TODAY}: expected at most 5.0% of a day's lines" in message
    assert f"1 of 1 days with more: {TODAY} 6.5%" in message
    for label in ("expected", "found", "remedy"):
        assert f"'{label}'" in message
    assert retries(result) == 0
    assert snapshots == {name: tables.lakehouse.snapshot_id(f"power.{name}") for name in snapshots}


def test_a_day_without_lines_fails_at_once_and_leaves_what_was_there(tables: Group) -> None:
    before = tables.lakehouse.snapshot_id("power.raw_readings")
    result = tables.run("key:power/raw_readings", power_source=AlteredReadings(absent=[TODAY]))
    message = failures(result)["power__raw_readings"]
    assert f"power/raw_readings, partition {TODAY}: expected lines of all 1 days" in message
    assert f"none of 1 days: {TODAY}" in message
    assert "see that these days have arrived" in message
    assert retries(result) == 0
    assert tables.lakehouse.snapshot_id("power.raw_readings") == before


def test_an_asset_without_the_one_before_says_what_to_materialize(empty: Group) -> None:
    for name, table in {"readings": "raw_readings", "features": "readings"}.items():
        result = empty.run(f"key:power/{name}", checks=False)
        message = failures(result)[f"power__{name}"]
        assert f"power/{name}, partition {TODAY}: expected the table power.{table}" in message
        assert "materialize the asset that writes it" in message
        assert retries(result) == 0


# Every minute of a day with the same power.
ANOTHER_DAY = [
    f"5/3/2025;{minute // 60:02}:{minute % 60:02}:00;1.0;{VALUES}" for minute in range(1440)
]


# The search.


def trials(group: Group) -> dict[str, list[Any]]:
    """The trials of each study, by the day."""
    import optuna

    storage = optuna.storages.RDBStorage(group.studies.storage_url)
    return {
        study.study_name.split("/")[2]: storage.get_all_trials(study._study_id)
        for study in storage.get_all_studies()
    }


def first_trial(group: Group, day: str) -> dict[str, Any]:
    """The parameters of the first trial of a day that was finished."""
    return next(trial for trial in trials(group)[day] if trial.state.name == "COMPLETE").params


def test_a_replay_is_searched_less_far_back_than_it_repeats(trained: Group) -> None:
    found = kept(trained, "tuning", Tuning)
    window_days = 182 - found.parameters["test_days"]
    assert found.parameters["window_days"] == window_days
    assert found.rows["start"] == midnight(TODAY, 1 - window_days).isoformat()
    assert found.rows["end"] == midnight(TOMORROW).isoformat()


def test_an_unchanged_day_is_not_searched_again(trained: Group) -> None:
    before, done = kept(trained, "tuning", Tuning), len(trials(trained)[TODAY])
    result = trained.run("key:power/tuning")
    assert result.success
    again = kept(trained, "tuning", Tuning)
    assert len(trials(trained)[TODAY]) == done == 3
    assert again.boosting == before.boosting
    assert list(again.losses) == list(before.losses)
    assert again.wall_seconds == before.wall_seconds


# It searches in a process of its own and is killed there in the middle of the third trial.
KILLED = """
import os, signal, sys
from pathlib import Path
import dagster as dg
from ml_assets.power import model
from ml_assets_tests.power.group import build

undisturbed = model._validation_loss

def killed(trial, **given):
    if trial.number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return undisturbed(trial, **given)

model._validation_loss = killed
with dg.DagsterInstance.ephemeral() as instance:
    build(Path(sys.argv[1]), Path(sys.argv[2]), instance).run("key:power/tuning")
"""


def test_a_killed_search_goes_on_where_it_stopped(
    tables: Group, files: Path, trained: Group
) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tables.home), str(files)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -9
    assert [trial.state.name for trial in trials(tables)[TODAY]] == [
        "COMPLETE",
        "COMPLETE",
        "RUNNING",
    ]

    result = tables.run("key:power/tuning")
    assert result.success
    assert [trial.state.name for trial in trials(tables)[TODAY]] == [
        "COMPLETE",
        "COMPLETE",
        "FAIL",
        "COMPLETE",
    ]
    resumed, undisturbed = (kept(group, "tuning", Tuning) for group in (tables, trained))
    assert resumed.boosting == undisturbed.boosting
    assert list(resumed.losses) == list(undisturbed.losses)
    assert resumed.data_digest == undisturbed.data_digest


def test_a_search_that_fails_at_its_first_trial_still_starts_from_the_day_before(
    trained: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, calls = model._validation_loss, []

    def fails_once(trial: Any, **given: Any) -> float:
        calls.append(trial.number)
        if len(calls) == 1:
            raise OSError("no memory")
        return undisturbed(trial, **given)

    monkeypatch.setattr(model, "_validation_loss", fails_once)
    assert trained.run(TABLES, TOMORROW, checks=False).success
    result = trained.run("key:power/tuning", TOMORROW, tuning={"trials": 1})
    assert result.success
    assert retries(result) == 1
    assert first_trial(trained, TOMORROW) == kept(trained, "tuning", Tuning).boosting


def test_too_few_days_say_how_many_are_needed(tables: Group) -> None:
    result = tables.run("key:power/tuning", tuning={"window_days": 60, "test_days": 28, "folds": 3})
    message = failures(result)["power__tuning"]
    assert f"power/tuning, partition {TODAY}: expected 79 days with readings" in message
    assert f"found 60 days until {TODAY}" in message
    assert "a range takes one run" in message
    assert retries(result) == 0


def test_a_day_without_features_says_what_to_materialize(tables: Group) -> None:
    result = tables.run("key:power/tuning", "2026-01-01")
    message = failures(result)["power__tuning"]
    assert "power/tuning, partition 2026-01-01: expected rows with a target" in message
    assert "materialize raw_readings, readings and features of these days first" in message


def test_a_step_without_the_value_before_it_says_what_to_materialize(tables: Group) -> None:
    result = tables.run("key:power/model")
    message = failures(result)["power__model"]
    assert "power/tuning: expected its value at" in message
    assert f"{TODAY}.zip; found nothing there" in message
    assert "materialize power/tuning first" in message
    assert retries(result) == 0


# MLflow and the registry.


def test_with_mlflow_down_nothing_is_trained_twice(trained: Group, empty_home: Path) -> None:
    """The day is trained again with a registry that is down, and logged when it is up."""
    (trained.home / "mlflow.db").write_bytes((empty_home / "mlflow.db").read_bytes())
    down = MlflowResource(**trained.mlflow.model_dump() | {"tracking_uri": "http://127.0.0.1:9"})
    result = trained.run(
        f"key:power/tuning or key:power/model or key:power/evaluation or {LOGGED}",
        power_mlflow=down,
    )
    assert set(failures(result)) == {"power__mlflow_run"}
    assert "start it, or set POWER_MLFLOW_TRACKING_URI" in failures(result)["power__mlflow_run"]
    assert retries(result) == 2
    digest = metadata(result, "model")["weights_sha256"]
    assert metadata(result, "evaluation")["mae"] < 0.8

    result = trained.run(f"{LOGGED} or key:power/forecast")
    assert result.success
    assert aliases(trained.mlflow) == {NAME: {"champion": "1"}}
    run = MlflowClient(trained.mlflow.tracking_uri).get_run(
        metadata(result, "mlflow_run")["run_id"]
    )
    assert run.data.tags["weights_sha256"] == digest


def test_a_bad_model_is_not_registered(
    trained: Group, empty_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (trained.home / "mlflow.db").write_bytes((empty_home / "mlflow.db").read_bytes())
    whole = assets.evaluate

    def poor(*given: Any) -> Any:
        found = whole(*given)
        return dataclasses.replace(found, metrics=found.metrics | {"mae": 0.9})

    monkeypatch.setattr(assets, "evaluate", poor)
    result = trained.run(f"key:power/evaluation or {LOGGED}")
    checks = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert not checks["mae_below_ceiling"]
    assert not checks["beats_best_naive"]
    assert set(failures(result)) == {"power__registered_model"}
    message = failures(result)["power__registered_model"]
    assert f"power/registered_model, partition {TODAY}: expected a test mae no worse" in message
    assert "the registry was left untouched" in message
    assert retries(result) == 0
    assert aliases(trained.mlflow) == {}


def test_the_next_hour_has_a_registered_model_of_its_own(trained: Group) -> None:
    result = trained.run(
        "key:power/tuning or key:power/model or key:power/evaluation or key:power/mlflow_run "
        "or key:power/registered_model or key:power/forecast",
        tuning={"horizon": "next_hour", "trials": 1},
    )
    assert result.success
    assert metadata(result, "registered_model")["model"] == f"{NAME}_next_hour"
    assert aliases(trained.mlflow) == {
        NAME: {"champion": "1"},
        f"{NAME}_next_hour": {"champion": "1"},
    }
    found = kept(trained, "tuning", Tuning)
    assert found.parameters["horizon"] == "next_hour"
    # The forecast is still that of the day-ahead champion.
    assert f"/models/{NAME}/versions/1" in metadata(result, "forecast")["model_version"]


def test_a_forecast_without_a_registered_model_says_what_to_do(tables: Group) -> None:
    result = tables.run("key:power/forecast")
    message = failures(result)["power__forecast"]
    assert "power/registered_model" in message
    assert "remedy" in message
    assert retries(result) == 0


def test_a_day_of_the_past_neither_challenges_nor_hears_a_champion_that_knows_it(
    trained: Group,
) -> None:
    past = "2025-04-08"
    result = trained.run(days=past)
    assert result.success
    registration = kept(trained, "registered_model", Registration, past)
    assert (registration.version, registration.role) == ("2", "challenger")
    assert "knows the test days" in registration.reason
    assert registration.gain is None
    made = trained.read("forecast", "2025-04-09", "2025-04-09")
    assert set(made["model_version"].to_pylist()) == {"2"}


def test_what_is_not_good_enough_leaves_the_forecast_to_the_champion(
    trained: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "QUALITY", dataclasses.replace(assets.QUALITY, limit=0.0))
    after = "key:power/registered_model or key:power/forecast or key:power/shadow"
    result = trained.run(after)
    assert result.success
    registration = metadata(result, "registered_model")
    assert (registration["role"], registration["version"]) == ("refused", "")
    assert registration[FINGERPRINT] == ""
    assert "model_version" not in registration
    assert aliases(trained.mlflow) == {NAME: {"champion": "1"}}
    assert f"/models/{NAME}/versions/1" in metadata(result, "forecast")["model_version"]

    # Of a past day, which the champion knows, there is no forecast then.
    message = failures(trained.run(days="2025-04-08"))["power__forecast"]
    assert f"the day's own model is {NAME}, refused" in message


def test_the_champion_of_a_replay_is_relieved_when_the_days_come_again(trained: Group) -> None:
    champion = kept(trained, "model", TrainedForecaster).parameters
    later = champion | {"trained_until": "2026-04-01"}
    assert keep_later(champion, later).promote
    assert not keep_later(later, champion).promote
    assert not keep_later(champion, champion).promote


def test_no_features_without_readings_and_no_forecast_without_the_last_day(trained: Group) -> None:
    for name in ("features", "forecast"):
        result = trained.run(f"key:power/{name}", "2025-05-20")
        message = failures(result)[f"power__{name}"]
        assert "remedy" in message
        assert retries(result) == 0


def test_a_champion_that_needs_other_features_is_refused(
    trained: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = assets.gold.compute
    monkeypatch.setattr(
        assets.gold, "compute", lambda *given: compute(*given).drop_columns(["midnight_lag_24h"])
    )
    before = trained.read("forecast")
    result = trained.run("key:power/forecast")
    message = failures(result)["power__forecast"]
    assert "the features midnight_lag_24h, which the champion was trained on" in message
    assert "roll the champion back" in message
    assert retries(result) == 0
    assert equal(trained.read("forecast"), before)


def test_the_forecast_again_is_the_same(trained: Group) -> None:
    before = trained.read("forecast")
    assert trained.run("key:power/forecast").success
    assert equal(trained.read("forecast"), before)


def test_a_training_reads_the_rows_of_its_search_although_they_were_replaced(
    trained: Group,
) -> None:
    """A backfill between the steps of a run does not mix two states of the table."""
    before = kept(trained, "model", TrainedForecaster)
    # Half of a day's lines say something else now.
    source = AlteredReadings(day="2025-03-05", absent=["2025-03-05"], added=ANOTHER_DAY)
    assert trained.run(TABLES, "2025-03-05", checks=False, power_source=source).success
    assert not equal(
        trained.read("features"),
        trained.lakehouse.read(
            "power.features",
            midnight(FIRST),
            midnight(TODAY, 1),
            snapshot_id=int(kept(trained, "tuning", Tuning).rows["snapshot_id"]),
        ),
    )
    assert trained.run("key:power/model", checks=False).success
    after = kept(trained, "model", TrainedForecaster)
    assert after.data_digest == before.data_digest
    assert boosters_digest(after) == boosters_digest(before)
