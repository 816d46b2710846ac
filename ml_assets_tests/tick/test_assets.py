"""The group from end to end, twice, in ranges, and what is left of it when something fails."""

import dataclasses
from contextlib import nullcontext
from typing import Any

import dagster as dg
import numpy as np
import pytest
from mlflow import MlflowClient

from ml_assets.build import FINGERPRINT
from ml_assets.ml.series import random_walk
from ml_assets.ml.training import TrainedModel, weights_digest
from ml_assets.ml.windows import Windows, windowed
from ml_assets.promotion import Registration
from ml_assets.resources.mlflow import MlflowResource
from ml_assets.resources.ticks import FileTicks, TickSource
from ml_assets.tick import assets
from ml_assets.tick.definitions import ASSETS, CHECKS, tick_daily
from ml_assets_tests.tick.conftest import Copy
from ml_assets_tests.tick.group import (
    FIRST,
    FRIDAY,
    MODEL,
    NAMES,
    QUICK,
    REPLAY,
    SUNDAY,
    TABLES,
    TRAINING,
    AlteredTicks,
    Group,
    Prepared,
    aliases,
    days_of,
    equal,
    failures,
    kept,
    metadata,
    midnight,
    retries,
)

MONDAY, WEDNESDAY = "2025-04-21", "2025-04-16"


def failed_checks(result: dg.ExecuteInProcessResult) -> set[str]:
    checks = result.get_asset_check_evaluations()
    return {check.check_name for check in checks if not check.passed}


# One day, a day without trade, and the next.


def test_one_day_from_raw_ticks_to_the_forecast(
    replayed_training: Prepared, replayed: Group
) -> None:
    result = replayed_training.result
    assert len(result.get_asset_check_evaluations()) == 17
    assert failed_checks(result) == set()
    assert aliases(replayed) == {MODEL: {"champion": "1"}}

    for name, pictures in {
        "bars": ["last_day"],
        "model": ["learning_curves"],
        "evaluation": ["forecast_against_actual", "residuals"],
        "forecast": ["forecast_and_actual"],
    }.items():
        for picture in pictures:
            assert metadata(result, name)[picture].startswith("![](data:image/png;base64,")
    raw, ticks = metadata(result, "raw_ticks"), metadata(result, "ticks")
    assert raw["rows"] == ticks["raw_rows"] == ticks["rows"] + ticks["outlier"]
    assert raw["source"].startswith("replay of 1 weeks from 2013-10-07: sample")
    assert len(raw["sha256"]) == 64
    bars, features = metadata(result, "bars"), metadata(result, "features")
    assert bars["rows"] == features["rows"] > 390
    assert bars["bar_type"] == "time 60"
    assert len(features["features"]) == 17
    model, evaluation = metadata(result, "model"), metadata(result, "evaluation")
    assert model["parameters"]["warm_start"] == "none"
    assert model["resumed_after_epochs"] == []
    assert model["train_wall_seconds"] > 0
    assert evaluation["test_windows"] > 300
    assert {"mse_bp2_of_zero_return", "mse_bp2_of_ridge", "skill_best_naive"} <= set(evaluation)
    registration = metadata(result, "registered_model")
    assert (registration["role"], registration["model"]) == ("champion", MODEL)
    assert registration["value"] == evaluation["mse_bp2"]
    assert len(registration[FINGERPRINT]) == 64

    windows = kept(replayed, "windows", Windows)
    made = replayed.read("forecast")
    assert days_of(made) == [FRIDAY]
    assert len(made) == bars["rows"] == metadata(result, "forecast")["bars"]
    assert made["event_time_utc"][-1].as_py() == windows.times[-1].astype(
        "datetime64[us]"
    ).item().replace(tzinfo=made["event_time_utc"][0].as_py().tzinfo)
    # Of the last bar it is not known yet what comes after it.
    assert made["actual"][-1].as_py() is None
    assert np.isfinite(made["actual"].to_numpy()[:-1]).sum() > 380
    assert np.isfinite(made["forecast"].to_numpy()).all()
    assert set(made["model_version"].to_pylist()) == {f"{MODEL} 1"}
    assert set(made["target"].to_pylist()) == {"log_return"}


def test_the_training_is_in_mlflow(replayed_training: Prepared, replayed: Group) -> None:
    result = replayed_training.result
    client = MlflowClient(replayed.mlflow.tracking_uri)
    tracked = client.get_run(metadata(result, "mlflow_run")["run_id"])
    assert tracked.info.status == "FINISHED"
    assert tracked.data.tags["dagster_run_id"] == result.run_id
    assert tracked.data.tags["partition"] == FRIDAY
    assert tracked.data.params["architecture"] == "gru"
    assert tracked.data.params["bar_type"] == "time 60"
    evaluation = metadata(result, "evaluation")
    assert tracked.data.metrics["test_mse_bp2"] == evaluation["mse_bp2"]
    assert tracked.data.metrics["baseline_best_naive"] == evaluation["mse_bp2_of_best_naive"]
    assert len(client.get_metric_history(tracked.info.run_id, "val_loss")) == 1
    pictures = {file.path for file in client.list_artifacts(tracked.info.run_id, "pictures")}
    assert pictures == {
        f"pictures/{name}.png"
        for name in ("forecast_against_actual", "learning_curves", "residuals")
    }
    # The version says by itself what it knows and what it reads.
    with replayed.mlflow.registry(MODEL) as registry:
        tags = registry.tags("1")
    windows = kept(replayed, "windows", Windows)
    assert tags["reads"].startswith(f"{windows.reads}; replay of 1 weeks")
    assert tags["network"] == "gru of 4 units"
    assert tags["trained_from"] <= tags["trained_until"] < FRIDAY
    assert float(tags["test_mse_bp2"]) == pytest.approx(evaluation["mse_bp2"], abs=1e-4)


def test_a_day_without_trade_passes_and_forecasts_nothing(replayed: Group) -> None:
    result = replayed.run(days=SUNDAY)
    assert result.success
    assert failed_checks(result) == set()
    for name in NAMES:
        assert metadata(result, name)["rows"] == 0
        assert SUNDAY not in days_of(replayed.read(name))
    assert metadata(result, "forecast")["rows"] == 0
    assert days_of(replayed.read("forecast")) == [FRIDAY]
    assert metadata(result, "windows")["last_bar"] == "2025-04-19T00:00:00.000000"  # its end


def test_the_champion_of_a_replay_does_not_help_when_its_days_come_again(replayed: Group) -> None:
    champion = kept(replayed, "model", TrainedModel)
    result = replayed.run(days=MONDAY, checks=False)
    assert result.success
    # Its days are fewer than after which the record repeats, so that no part has seen another.
    windows = kept(replayed, "windows", Windows, MONDAY)
    assert windows.days[0] >= np.datetime64(MONDAY) - 5
    assert metadata(result, "model")["parameters"]["warm_start"] == "none"
    found = kept(replayed, "registered_model", Registration, MONDAY)
    assert found.promote
    assert found.gain is None
    assert champion.parameters["trained_until"] in found.reason
    assert "knows the test days" in found.reason
    made = replayed.read("forecast", MONDAY, MONDAY)
    assert set(made["model_version"].to_pylist()) == {f"{MODEL} 2"}


def test_a_replay_s_champion_gives_no_weights_even_where_its_own_tags_know_no_test_day(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The weights that it went on from may know them."""

    class Registry:
        def champion(self) -> str:
            return "7"

        def tags(self, _version: str) -> dict[str, str]:
            return {"network": "gru of 4 units"}

        def model_file(self, version: str) -> bytes:
            return version.encode()

    class Mlflow:
        def registry(self, _name: str) -> Any:
            return nullcontext(Registry())

    windows = windowed(
        random_walk(3_000, seed=0), steps=10, validation_fraction=0.1, test_fraction=0.2
    )
    monkeypatch.setattr(assets, "_is_news", lambda *_: True)
    monkeypatch.setattr(assets, "model_from_bytes", bytes.decode)
    parameters = {"architecture": "gru", "units": 4, "target": "log_return"}

    def champion(source: TickSource) -> Any:
        return assets._champion(dg.build_asset_context(), windows, parameters, source, Mlflow())  # type: ignore[arg-type]

    assert champion(FileTicks(directory="")) == "7"
    assert champion(REPLAY) is None


# A feed that does not repeat.


def test_the_next_day_goes_on_from_the_champion_and_meets_it(trained: Group) -> None:
    champion = kept(trained, "model", TrainedModel)
    result = trained.run(days=MONDAY)
    assert result.success
    model = kept(trained, "model", TrainedModel, MONDAY)
    assert model.parameters["warm_start"] == weights_digest(champion.model)
    assert weights_digest(model.model) != weights_digest(champion.model)
    found = kept(trained, "registered_model", Registration, MONDAY)
    assert found.version == "2"
    assert found.gain_low <= found.gain <= found.gain_high
    # The champion of then forecasts the day: if it was relieved, the day's own model.
    expected = {"champion": "2"} if found.promote else {"champion": "1", "challenger": "2"}
    assert aliases(trained) == {MODEL: expected}
    made = trained.read("forecast", MONDAY, MONDAY)
    assert set(made["model_version"].to_pylist()) == {f"{MODEL} {expected['champion']}"}

    # Without the warm start, from scratch.
    assert trained.run(
        "key:tick/model", MONDAY, checks=False, config={"model": {"warm_start": False}}
    ).success
    cold = kept(trained, "model", TrainedModel, MONDAY)
    assert cold.parameters["warm_start"] == "none"


def test_a_champion_of_other_width_gives_no_weights_but_is_met(trained: Group) -> None:
    wider = {"model": {"units": 8}}
    assert trained.run(TABLES, MONDAY, checks=False).success
    result = trained.run(TRAINING, MONDAY, checks=False, config=wider)
    assert result.success
    assert metadata(result, "model")["parameters"]["warm_start"] == "none"
    assert kept(trained, "registered_model", Registration, MONDAY).gain is not None


def test_a_champion_that_reads_other_windows_is_not_compared(trained: Group) -> None:
    result = trained.run(TRAINING, config={"windows": {"steps": 12}})
    assert result.success
    assert metadata(result, "model")["parameters"]["warm_start"] == "none"
    found = kept(trained, "registered_model", Registration)
    assert not found.promote
    assert not found.regressed
    assert found.gain is None
    assert "reads other data, so the two cannot be compared" in found.reason
    assert aliases(trained) == {MODEL: {"champion": "1", "challenger": "2"}}
    # What the champion cannot read, the day's own model forecasts.
    made = trained.read("forecast", FRIDAY, FRIDAY)
    assert set(made["model_version"].to_pylist()) == {f"{MODEL} 2"}

    # Neither the champion nor the registered challenger reads these.
    result = trained.run(
        "key:tick/windows or key:tick/forecast", checks=False, config={"windows": {"steps": 14}}
    )
    message = failures(result)["tick__forecast"]
    assert f"tick/forecast, partition {FRIDAY}: expected a version of {MODEL}" in message
    assert "on windows of 14 bars of time 60" in message
    assert "found neither the champion, version 1, nor the day's own, 2" in message
    assert retries(result) == 0
    assert equal(trained.read("forecast", FRIDAY, FRIDAY), made)


def test_a_day_of_the_past_is_forecast_by_its_own_model(trained: Group) -> None:
    result = trained.run(TRAINING, WEDNESDAY, checks=False)
    assert result.success
    assert metadata(result, "model")["parameters"]["warm_start"] == "none"
    found = kept(trained, "registered_model", Registration, WEDNESDAY)
    assert (found.role, found.version) == ("challenger", "2")
    assert "knows the test days" in found.reason
    made = trained.read("forecast", WEDNESDAY, WEDNESDAY)
    assert set(made["model_version"].to_pylist()) == {f"{MODEL} 2"}
    assert days_of(trained.read("forecast")) == [WEDNESDAY, FRIDAY]


def test_what_is_not_good_enough_leaves_the_forecast_to_the_champion(
    trained: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "QUALITY", dataclasses.replace(assets.QUALITY, limit=0.0))
    after = "key:tick/registered_model or key:tick/forecast or key:tick/shadow"
    result = trained.run(after, checks=False)
    assert result.success
    registration = metadata(result, "registered_model")
    assert (registration["role"], registration["version"]) == ("refused", "")
    assert registration[FINGERPRINT] == ""
    assert aliases(trained) == {MODEL: {"champion": "1"}}
    made = trained.read("forecast", FRIDAY, FRIDAY)
    assert set(made["model_version"].to_pylist()) == {f"{MODEL} 1"}


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "lstm", "target": "volatility"},
        {"architecture": "transformer"},
        {"architecture": "tft", "batch_size": 128, "learning_rate": 0.02},
    ],
)
def test_another_network_is_one_field_away_and_registered_by_itself(
    tables: Group, changes: dict[str, Any]
) -> None:
    result = tables.run(
        TRAINING, config={"windows": {"window_days": 8, "steps": 4}, "model": changes}, checks=False
    )
    assert result.success
    suffix = "_volatility" if "target" in changes else ""
    name = f"tick_{changes['architecture']}{suffix}"
    assert aliases(tables) == {name: {"champion": "1"}}
    made = tables.read("forecast")
    assert set(made["model_version"].to_pylist()) == {f"{name} 1"}
    bounds = made["upper"].null_count, made["lower"].null_count
    assert bounds == ((0, 0) if "tft" in name else (len(made), len(made)))


# The same again.


def test_the_same_day_again_leaves_the_same_rows(tables: Group) -> None:
    before = {name: tables.read(name) for name in NAMES}
    first, second = (tables.run(TABLES, WEDNESDAY, checks=False) for _ in range(2))
    for name in NAMES:
        assert equal(tables.read(name), before[name])
        one, two = metadata(first, name), metadata(second, name)
        assert one["rows"] > 300
        assert (one["rows"], one["rows_sha256"]) == (two["rows"], two["rows_sha256"])
        assert one["snapshot_id"] != two["snapshot_id"]


def test_a_range_equals_its_days_and_its_pieces(
    empty: Group, tables: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "PIECE_DAYS", 2)
    assert empty.run(TABLES, (FIRST, "2025-04-09"), checks=False).success
    for day in ("2025-04-10", "2025-04-11"):
        assert empty.run(TABLES, day, checks=False).success
    for name in NAMES:
        assert equal(empty.read(name), tables.read(name, FIRST, "2025-04-11")), name


def test_a_range_is_whole_and_says_so(replayed_tables: Prepared, copied: Copy) -> None:
    result, group = replayed_tables.result, copied(replayed_tables)
    for name in NAMES:
        rows = group.read(name)
        events = result.asset_materializations_for_node(f"tick__{name}")
        assert sum(event.metadata["rows"].value for event in events) == len(rows)
        assert len(events) == 12
        assert len(days_of(rows)) == 10  # of twelve days, a weekend
    odd = group.read("quarantine")
    events = result.asset_materializations_for_node("tick__ticks")
    outliers = sum(event.metadata["outlier"].value for event in events)
    assert outliers == odd["reason"].to_pylist().count("outlier") > 0
    assert set(days_of(odd)) <= set(days_of(group.read("raw_ticks")))
    assert failed_checks(result) == set()


def test_one_day_recomputed_leaves_the_others_alone(tables: Group) -> None:
    source = AlteredTicks(source=tables.resources["tick_source"], day=FIRST, added=[TRADE])
    others = {name: tables.read(name, "2025-04-08") for name in NAMES}
    assert tables.run(TABLES, FIRST, checks=False, tick_source=source).success
    for name, rows in others.items():
        assert equal(tables.read(name, "2025-04-08"), rows)
    assert len(tables.read("raw_ticks", FIRST, FIRST)) == metadata_rows(tables, FIRST) + 1


# Odd ticks.

NOON = int(midnight(FRIDAY).timestamp() + 16 * 3600) * 10**9
TRADE = {
    "event_time_ns": int(midnight(FIRST).timestamp() + 16 * 3600) * 10**9,
    "price": 13.9,
    "size": 100.0,
    "row": 10_000_000,
}
ODD = {
    "non_positive_price": {"price": -1.0, "size": 100.0},
    "no_size": {"price": 14.0},
    "non_positive_size": {"price": 14.0, "size": 0.0},
    "suspicious": {"price": 14.0, "size": 100.0, "suspicious": True},
    "outlier": {"price": 99.0, "size": 100.0},
    "unreadable": {"text": "14 dollars"},
}


def metadata_rows(group: Group, day: str) -> int:
    """How many rows the source itself has of a day."""
    return len(group.resources["tick_source"].read(midnight(day), midnight(day, 1)))


def odd_ticks(copies: int = 1) -> list[dict[str, Any]]:
    return [
        values | {"event_time_ns": NOON + number * 10**6, "row": 10_000_000 + number}
        for number, values in enumerate(list(ODD.values()) * copies)
    ]


def test_odd_ticks_are_counted_and_quarantined(tables: Group) -> None:
    sound = tables.read("ticks")
    before = tables.read("quarantine", FRIDAY, FRIDAY)
    source = AlteredTicks(source=tables.resources["tick_source"], added=odd_ticks())
    chosen = "key:tick/raw_ticks or key:tick/ticks"
    result = tables.run(chosen, tick_source=source)
    assert result.success
    found = metadata(result, "ticks")
    assert found["quarantine"] == "tick.quarantine"
    assert all(found[reason] >= 1 for reason in ODD)
    odd = tables.read("quarantine", FRIDAY, FRIDAY).to_pylist()
    added = {row["reason"]: row for row in odd if row["row"] >= 10_000_000}
    assert set(added) == set(ODD)
    assert all(row["excluded"] for row in added.values())
    assert added["unreadable"]["text"] == "14 dollars"
    # Numbers of rows aside, the ticks are what they were.
    assert equal(tables.read("ticks"), sound)

    # Mended and run again, nothing is left of them.
    assert tables.run(chosen).success
    assert equal(tables.read("quarantine", FRIDAY, FRIDAY), before)


def test_too_many_odd_ticks_fail_the_day_and_leave_its_ticks(tables: Group) -> None:
    names = ("ticks", "quarantine")
    snapshots = {name: tables.lakehouse.snapshot_id(f"tick.{name}") for name in names}
    source = AlteredTicks(source=tables.resources["tick_source"], added=odd_ticks(200))
    result = tables.run("key:tick/raw_ticks or key:tick/ticks", tick_source=source)
    message = failures(result)["tick__ticks"]
    assert f"tick/ticks, partition {FRIDAY}: expected at most 5.0% of a day's ticks" in message
    assert "raise max_excluded_share" in message
    for label in ("expected", "found", "remedy"):
        assert f"'{label}'" in message
    assert retries(result) == 0
    assert snapshots == {name: tables.lakehouse.snapshot_id(f"tick.{name}") for name in names}

    lenient = {"ticks": {"max_excluded_share": 0.5}}
    assert tables.run("key:tick/ticks", config=lenient).success


# What fails.


def test_a_source_that_fails_leaves_whole_days(empty: Group) -> None:
    days = (FIRST, "2025-04-10")
    source = AlteredTicks(source=empty.resources["tick_source"], broken=["2025-04-09"])
    result = empty.run(TABLES, days, checks=False, tick_source=source)
    assert set(failures(result)) == {"tick__raw_ticks"}
    assert retries(result) == 2  # a disk may be mended
    assert days_of(empty.read("raw_ticks")) == [FIRST, "2025-04-08"]
    for day in (FIRST, "2025-04-08"):
        assert len(empty.read("raw_ticks", day, day)) == metadata_rows(empty, day)

    # Of days that were there before, nothing is lost.
    assert empty.run(TABLES, days, checks=False).success
    before = {name: empty.read(name) for name in NAMES}
    assert not empty.run(TABLES, "2025-04-09", checks=False, tick_source=source).success
    for name in NAMES:
        assert equal(empty.read(name), before[name])


def test_an_asset_without_the_one_before_says_what_to_materialize(empty: Group) -> None:
    for name, table in {"ticks": "raw_ticks", "bars": "ticks", "features": "bars"}.items():
        result = empty.run(f"key:tick/{name}", checks=False)
        message = failures(result)[f"tick__{name}"]
        assert f"tick/{name}, partition {FRIDAY}: expected the table tick.{table}" in message
        assert "materialize the asset that writes it" in message
        assert retries(result) == 0
    message = failures(empty.run("key:tick/model"))["tick__model"]
    assert "tick/windows: expected its value at" in message
    assert "materialize tick/windows first" in message


def test_too_few_days_say_what_is_needed(tables: Group) -> None:
    result = tables.run("key:tick/windows", FIRST)
    message = failures(result)["tick__windows"]
    assert f"tick/windows, partition {FIRST}: expected windows of 11 rows to train" in message
    assert "supply more days" in message
    message = failures(tables.run("key:tick/windows", "2026-01-01"))["tick__windows"]
    assert "expected bars of one kind" in message
    assert "no bars" in message
    assert "materialize raw_ticks, ticks, bars and features of these days" in message


def test_a_training_that_breaks_off_goes_on_from_its_last_epoch(
    trained: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"model": {"epochs": 3, "warm_start": False}}
    assert trained.run("key:tick/model", checks=False, config=config).success
    undisturbed = kept(trained, "model", TrainedModel)
    whole, calls = assets.train, []

    def breaks_off(*given: Any, **chosen: Any) -> TrainedModel:
        calls.append(chosen)
        if len(calls) > 1:
            return whole(*given, **chosen)
        monkeypatch.setattr("ml_assets.ml.training._report", broken)
        try:
            return whole(*given, **chosen)
        finally:
            monkeypatch.undo()
            monkeypatch.setattr(assets, "train", breaks_off)

    def broken(state: TrainedModel) -> None:
        if state.epoch == 2:
            raise OSError("no memory")

    monkeypatch.setattr(assets, "train", breaks_off)
    result = trained.run("key:tick/model", checks=False, config=config)
    assert result.success
    assert retries(result) == 1
    assert metadata(result, "model")["resumed_after_epochs"] == [2]
    resumed = kept(trained, "model", TrainedModel)
    assert weights_digest(resumed.model) == weights_digest(undisturbed.model)
    assert resumed.history == undisturbed.history


# MLflow and the registry.


class Present:
    """The group that a reconstructed job runs in."""

    group: Group


def daily(**resources: Any) -> dg.JobDefinition:
    """The daily job as Dagster finds it again to go on with a run that failed."""
    return dg.Definitions(
        assets=ASSETS,
        asset_checks=CHECKS,
        jobs=[tick_daily],
        resources=Present.group.resources | resources,
        executor=dg.in_process_executor,
    ).resolve_job_def("tick_daily")


def daily_without_mlflow() -> dg.JobDefinition:
    """The same, while nobody answers where MLflow should be."""
    told = Present.group.mlflow.model_dump() | {"tracking_uri": "http://127.0.0.1:9"}
    return daily(tick_mlflow=MlflowResource(**told))


def test_with_mlflow_down_a_run_trains_from_scratch_and_goes_on_when_it_is_up(
    trained: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Present, "group", trained, raising=False)
    config = {f"tick__{name}": {"config": values} for name, values in QUICK.items()}
    first = dg.execute_job(
        dg.reconstructable(daily_without_mlflow),
        instance=trained.instance,
        run_config={"ops": config},
        tags={"dagster/partition": MONDAY},
    )
    assert not first.success
    assert {event.step_key for event in first.get_step_failure_events()} == {"tick__mlflow_run"}
    told = [entry.user_message for entry in trained.instance.all_logs(first.run_id)]
    assert any("training from scratch" in message for message in told)
    model = kept(trained, "model", TrainedModel, MONDAY)
    assert model.parameters["warm_start"] == "none"
    assert aliases(trained) == {MODEL: {"champion": "1"}}

    second = dg.execute_job(
        dg.reconstructable(daily),
        instance=trained.instance,
        run_config={"ops": config},
        tags={"dagster/partition": MONDAY},
        reexecution_options=dg.ReexecutionOptions.from_failure(first.run_id, trained.instance),
    )
    assert second.success
    done = {event.step_key for event in second.all_events if event.is_step_success}
    assert done == {
        "tick__mlflow_run",
        "tick__registered_model",
        "tick__registered_model_no_regression_against_champion",
        "tick__forecast",
        "tick__forecast_forecasts_are_finite",
        "tick__shadow",
    }
    assert kept(trained, "model", TrainedModel, MONDAY).training_id == model.training_id
    assert "2" in aliases(trained)[MODEL].values()


def test_a_bad_model_is_not_registered(trained: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = assets.evaluate

    def poor(*given: Any) -> Any:
        found = whole(*given)
        worse = found.baselines["best_naive"] * 1.06
        return dataclasses.replace(found, metrics=found.metrics | {"mse_bp2": worse})

    monkeypatch.setattr(assets, "evaluate", poor)
    logged = "key:tick/mlflow_run or key:tick/registered_model"
    result = trained.run(f"key:tick/evaluation or {logged}")
    assert result.success
    assert failed_checks(result) == {"not_worse_than_best_naive"}
    reason = metadata(result, "registered_model")["reason"]
    assert "not registered, and the champion stays: expected a test mse_bp2" in reason
    assert "at most 5% worse than best_naive" in reason
    assert aliases(trained) == {MODEL: {"champion": "1"}}


def test_an_evaluation_of_other_windows_is_not_registered(trained: Group) -> None:
    assert trained.run("key:tick/windows", config={"windows": {"steps": 12}}).success
    for name in ("evaluation", "mlflow_run", "registered_model"):
        result = trained.run(f"key:tick/{name}", checks=False)
        message = failures(result)[f"tick__{name}"]
        assert f"tick/{name}, partition {FRIDAY}: expected" in message
        assert "materialize the model" in message
        assert retries(result) == 0


def test_the_same_model_again_is_registered_once(trained: Group) -> None:
    before = trained.read("forecast")
    result = trained.run(
        "key:tick/mlflow_run or key:tick/registered_model or key:tick/forecast", checks=False
    )
    assert result.success
    assert metadata(result, "registered_model")["reason"] == "this version is the champion already"
    assert aliases(trained) == {MODEL: {"champion": "1"}}
    assert equal(trained.read("forecast"), before)


def test_a_training_reads_the_rows_of_its_windows_although_they_were_replaced(
    trained: Group,
) -> None:
    """A backfill between the steps of a run does not mix two states of the table."""
    before = kept(trained, "windows", Windows)
    snapshot = before.source.rsplit(" ", 1)[1]
    source = AlteredTicks(source=trained.resources["tick_source"], absent=[WEDNESDAY])
    assert trained.run(TABLES, WEDNESDAY, checks=False, tick_source=source).success
    old = trained.lakehouse.read(
        "tick.features", midnight(FIRST), midnight(FRIDAY, 1), snapshot_id=int(snapshot)
    )
    assert WEDNESDAY in days_of(old)
    assert WEDNESDAY not in days_of(trained.read("features"))
    assert trained.run("key:tick/evaluation", checks=False).success
    assert trained.run("key:tick/windows", checks=False).success
    assert kept(trained, "windows", Windows).data_digest != before.data_digest
