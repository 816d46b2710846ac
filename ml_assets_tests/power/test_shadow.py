"""Champion and challenger of the group side by side, day by day, until one of them has won."""

import dataclasses
import shutil
from datetime import date, timedelta
from functools import partial
from typing import Any

import dagster as dg
import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pytest

from ml_assets.ml.boosting import TrainedForecaster
from ml_assets.power import assets, definitions
from ml_assets.promotion import Policy
from ml_assets.resources.mlflow import save_forecaster
from ml_assets.resources.registry import Trial
from ml_assets_tests.power.group import TABLES, TODAY, TOMORROW, Group
from ml_assets_tests.power.test_assets import (
    NAME,
    aliases,
    equal,
    failures,
    kept,
    metadata,
)
from ml_assets_tests.resources.test_mlflow import TRAINING

SHADOW = "key:power/shadow"
BEGAN = date.fromisoformat(TODAY)


def later(days: int) -> str:
    return str(BEGAN + timedelta(days=days))


@pytest.fixture
def shadowed(trained: Group, monkeypatch: pytest.MonkeyPatch) -> Group:
    """Trials of at most a week, and the tables of the ten days after TODAY."""
    monkeypatch.setattr(assets, "PROMOTION", Policy("shadow", 7))
    assert trained.run(TABLES, (TOMORROW, later(10)), checks=False).success
    return trained


def changed(group: Group, trees: int | None, name: str) -> str:
    """Register a version that is TODAY's own, cut down to its first trees."""
    own = kept(group, "model", TrainedForecaster)
    text = own.point.model_to_string(num_iteration=trees)
    model = dataclasses.replace(own, point=lgb.Booster(model_str=text), training_id=name)
    training = dataclasses.replace(TRAINING, training_id=name, weights_sha256=name)
    logged = group.mlflow.log(training, partial(save_forecaster, model))
    with group.mlflow.registry(NAME) as registry:
        return registry.register(logged, {})


def try_out(group: Group, version: str, champion: str = "1") -> None:
    """Put a version on trial since TODAY, beside this champion."""
    with group.mlflow.registry(NAME) as registry:
        if champion != "1":
            registry.promote(champion)
        registry.begin_trial(version, BEGAN)


def compare(group: Group, number: int) -> dict[str, Any]:
    """What `shadow` says on a day, on which nothing else is made again."""
    kept_in = group.home / "artifacts" / "power" / "registered_model"
    shutil.copy(kept_in / f"{TODAY}.zip", kept_in / f"{later(number)}.zip")
    result = group.run(SHADOW, later(number))
    assert result.success, failures(result)
    return metadata(result, "shadow")


def rows(group: Group) -> pa.Table:
    return group.read("shadow")


def test_without_trials_the_asset_says_so_and_there_is_no_table(trained: Group) -> None:
    for policy in (Policy("auto"), Policy("manual"), Policy("shadow", 7)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(assets, "PROMOTION", policy)
            found = metadata(trained.run(SHADOW), "shadow")
        assert (found["trial"], found["policy"]) == ("none", str(policy))
    assert "power.shadow" not in trained.lakehouse.tables("power")


def test_retraining_every_day_does_not_disturb_a_trial(shadowed: Group) -> None:
    result = shadowed.run(days=TOMORROW)
    assert result.success, failures(result)
    assert aliases(shadowed.mlflow) == {NAME: {"champion": "1", "challenger": "2", "shadow": "2"}}
    registration = metadata(result, "registered_model")
    assert registration["role"] == "challenger"
    assert f"on trial from {TOMORROW} on, 7 days at most" in registration["reason"]
    # The day was known when the version was chosen: it counts for neither.
    assert metadata(result, "shadow")["trial"] == "on"
    assert metadata(result, "shadow")["observations"] == 0

    result = shadowed.run(days=later(2))
    assert result.success, failures(result)
    assert aliases(shadowed.mlflow) == {NAME: {"champion": "1", "challenger": "3", "shadow": "2"}}
    found = metadata(result, "shadow")
    assert (found["champion"], found["challenger"], found["since"]) == ("1", "2", TOMORROW)
    assert (found["trial"], found["observations"]) == ("on", 1)
    assert "6 days are left" in found["reason"]
    assert found["running_gain"].startswith("![](data:image/png;base64,")
    [row] = rows(shadowed).to_pylist()
    assert (row["day"], row["rows"]) == (later(2), 24)
    # The champion's loss is that of its own forecast of the day.
    made = shadowed.read("forecast", later(2), later(2))
    actual = shadowed.read("features", later(2), later(2))["active_power_kw"].to_numpy()
    assert set(made["model_version"].to_pylist()) == {"1"}
    assert row["champion_loss"] == pytest.approx(
        np.abs(made["forecast_kw"].to_numpy() - actual).mean()
    )


def test_a_better_challenger_is_promoted_as_soon_as_the_evidence_is_enough(
    shadowed: Group,
) -> None:
    worse, good = changed(shadowed, 1, "worse"), changed(shadowed, None, "good")
    try_out(shadowed, good, champion=worse)
    states = []
    while not states or states[-1] == "on":
        found = compare(shadowed, len(states) + 1)
        states.append(found["trial"])
        assert found["observations"] == len(states)
    assert states[-1] == "promoted"
    assert 4 <= len(states) <= 7
    assert "the challenger is better" in found["reason"]
    assert 0 < found["gain_low"] < found["gain"]
    assert found["challenger_loss"] < found["champion_loss"]
    assert aliases(shadowed.mlflow)[NAME]["champion"] == good
    assert "shadow" not in aliases(shadowed.mlflow)[NAME]
    with shadowed.mlflow.registry(NAME) as registry:
        assert registry.tags(good)["decision_reason"] == found["reason"]

    # The trial is over; a day of it that is made again leaves its rows.
    before = rows(shadowed)
    assert compare(shadowed, 2)["trial"] == "none"
    assert equal(rows(shadowed), before)


def test_a_trial_without_evidence_ends_after_its_days(shadowed: Group) -> None:
    same = changed(shadowed, None, "same")
    try_out(shadowed, same)
    for number in range(1, 7):
        assert compare(shadowed, number)["trial"] == "on"
    found = compare(shadowed, 7)
    assert found["trial"] == "ended"
    assert "the days are over without enough evidence, and the champion stays" in found["reason"]
    assert found["gain"] == 0
    assert found["observations"] == len(rows(shadowed)) == 7
    assert aliases(shadowed.mlflow) == {NAME: {"champion": "1", "challenger": same}}


def test_the_same_day_again_leaves_the_same_rows(shadowed: Group) -> None:
    try_out(shadowed, changed(shadowed, 5, "other"))
    for number in (2, 1, 3):
        compare(shadowed, number)
    before = rows(shadowed)
    assert before["day"].to_pylist() == [later(1), later(2), later(3)]
    for number in (2, 1):
        assert compare(shadowed, number)["observations"] == 3
        assert equal(rows(shadowed), before)


def test_a_day_that_one_of_them_knows_is_no_evidence(shadowed: Group) -> None:
    """The replay of half a year comes again to the days that both learned from."""
    version = changed(shadowed, 5, "other")
    learned = date.fromisoformat(
        kept(shadowed, "model", TrainedForecaster).parameters["trained_from"]
    )
    again = learned + timedelta(days=182)
    with shadowed.mlflow.registry(NAME) as registry:
        registry.begin_trial(version, again - timedelta(days=1))
        assert registry.trial() == Trial("1", version, again - timedelta(days=1))
    found = compare(shadowed, (again - BEGAN).days)
    assert (found["trial"], found["observations"]) == ("on", 0)
    assert "there is nothing to compare on" in found["reason"]
    assert "power.shadow" not in shadowed.lakehouse.tables("power")


def test_with_manual_a_person_promotes(
    trained: Group, empty_home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "PROMOTION", Policy("manual"))
    (trained.home / "mlflow.db").write_bytes((empty_home / "mlflow.db").read_bytes())
    chosen = "key:power/mlflow_run or key:power/registered_model or key:power/forecast"
    result = trained.run(chosen)
    message = failures(result)["power__forecast"]
    assert f"expected a champion of {NAME}; found none" in message
    assert "where promotion is manual, the group's promote job" in message
    assert aliases(trained.mlflow) == {NAME: {"challenger": "1"}}

    job = definitions.defs.resolve_job_def("power_promote")
    resources = {"power_mlflow": trained.mlflow}
    assert job.execute_in_process(resources=resources).success
    assert aliases(trained.mlflow) == {NAME: {"champion": "1"}}
    assert trained.run("key:power/forecast").success
    again = job.execute_in_process(resources=resources, raise_on_error=False)
    assert "other than the champion, 1, to promote" in failures(again)["power_make_champion"]
    other: dict[str, Any] = {"ops": {"power_make_champion": {"config": {"version": "9"}}}}
    refused: dg.ExecuteInProcessResult = job.execute_in_process(
        other, resources=resources, raise_on_error=False
    )
    assert "found version 9 of ['1']" in failures(refused)["power_make_champion"]
