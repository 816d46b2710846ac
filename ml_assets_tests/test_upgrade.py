"""The state that an earlier release left behind is opened in another place, and work goes on.

How the bundle was made, `upgrade/README.md` says. What is asked here is what people rely on, and
not how it is kept: the next release has to do the same.
"""

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from ml_assets_tests.upgrade.make import BUNDLE, POWER, SEED, TICK

ROOT = Path(__file__).parents[1]
NEXT_DAY = "2025-02-21"
SEARCH = {"folds": 1, "validation_days": 7, "test_days": 7}
MODELS = {
    "cifar10": "cifar10_cnn",
    "mnist": "mnist_cnn",
    "power": "household_power_lightgbm",
    "tick": "tick_gru",
}


def environment(data: Path) -> dict[str, str]:
    return os.environ | {
        "ML_ASSETS_DATA_DIR": str(data),
        "DAGSTER_HOME": str(data / "dagster"),
        "ML_ASSETS_ALERTS_FILE": str(ROOT / "alerts.yaml"),
        "TICK_SOURCE": "files",
        "TICK_DIRECTORY": str(data / "inbox"),
    }


def execute(data: Path, *arguments: str) -> str:
    """What a command of this release prints; it must be a success."""
    result = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=environment(data),
        capture_output=True,
        text=True,
        check=False,
    )
    output = result.stdout + result.stderr
    assert result.returncode == 0, output[-4000:]
    return output


def ask(data: Path, program: str) -> Any:
    """What a program prints as JSON, in a process that knows the directory by its environment."""
    *_, answer = execute(data, "ml_assets_tests.upgrade.ask", program).splitlines()
    return json.loads(answer)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory, unpacked in another place and prepared as `make install` does."""
    place = tmp_path_factory.mktemp("another place")
    with tarfile.open(BUNDLE) as archive:
        archive.extractall(place, filter="tar")  # with its dagster.yaml, a link
    output = execute(place / "data", "ml_assets.prepare")
    assert "not relocated" not in output
    again = execute(place / "data", "ml_assets.prepare")
    assert "relocated" not in again
    return place / "data"


@pytest.fixture
def instance(data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("DAGSTER_HOME", str(data / "dagster"))
    with dg.DagsterInstance.get() as found:
        yield found


def metadata(instance: dg.DagsterInstance, group: str, asset: str) -> dict[str, Any]:
    event = instance.get_latest_materialization_event(dg.AssetKey([group, asset]))
    assert event
    assert event.asset_materialization
    return {name: entry.value for name, entry in event.asset_materialization.metadata.items()}


def test_the_history_of_runs_can_be_read(instance: dg.DagsterInstance) -> None:
    runs = instance.get_runs()
    assert {"mnist_weekly", "cifar10_weekly", "power_daily", "tick_daily"} <= {
        run.job_name for run in runs
    }
    assert all(instance.all_logs(run.run_id) for run in runs)
    for group, model in MODELS.items():
        assert metadata(instance, group, "registered_model")["model"] == model


def test_the_rows_that_a_training_saw_can_be_read(data: Path, instance: dg.DagsterInstance) -> None:
    from ml_assets.resources.lakehouse import Lakehouse

    lake = Lakehouse(
        catalog_uri=f"sqlite:///{data}/lakehouse/catalog.db",
        warehouse=str(data / "lakehouse" / "warehouse"),
    )
    start, end = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    seen = metadata(instance, "power", "tuning")
    then = lake.read(seen["rows_table"], start, end, snapshot_id=int(seen["rows_snapshot_id"]))
    assert len(then) == seen["rows"]
    for table in (*lake.tables("power"), *lake.tables("tick")):
        lake.read(table, start, end)
        lake.maintain(table)


def test_the_champions_load(data: Path) -> None:
    champions = ask(
        data,
        f"""
        from ml_assets.build import mlflow_resource
        answer = dict()
        for group, model in {MODELS!r}.items():
            with mlflow_resource(group).registry(model) as registry:
                version, content = registry.champion_file()
                answer[group] = [version, len(content) > 10_000]
        """,
    )
    assert champions == {group: ["1", True] for group in MODELS}


def run(data: Path, group: str, *arguments: str, config: dict[str, Any] | None = None) -> str:
    """What `dagster` prints of a command on a group's code location."""
    first = [*arguments[:2], "-m", f"ml_assets.{group}.definitions", *arguments[2:]]
    ops = {f"{group}__{name}": {"config": values} for name, values in (config or {}).items()}
    return execute(
        data, "dagster", *first, *(["--config-json", json.dumps({"ops": ops})] if ops else [])
    )


def test_the_champion_is_compared(data: Path, instance: dg.DagsterInstance) -> None:
    """By a step whose input an earlier release stored."""
    chosen = "key:mnist/raw_images or key:mnist/images or key:mnist/registered_model"
    run(data, "mnist", "asset", "materialize", "--select", chosen)
    assert metadata(instance, "mnist", "registered_model")["role"] == "champion"


def test_the_next_day_is_made_on_top_and_can_be_rolled_back(
    data: Path, instance: dg.DagsterInstance
) -> None:
    run(
        data,
        *("power", "asset", "materialize", "--select", "group:power", "--partition", NEXT_DAY),
        config={"tuning": SEARCH | {"trials": 2}},
    )
    registered = metadata(instance, "power", "registered_model")
    assert registered["version"] == "2"
    if registered["role"] != "champion":
        run(data, "power", "job", "execute", "-j", "power_promote")
    run(data, "power", "job", "execute", "-j", "power_rollback")
    answer = ask(
        data,
        f"""
        from ml_assets.build import mlflow_resource
        with mlflow_resource("power").registry({MODELS["power"]!r}) as registry:
            answer = [registry.champion(), registry.tags("2").get("stage")]
        """,
    )
    assert answer == ["1", "Archived"]


def test_a_killed_search_goes_on(data: Path, instance: dg.DagsterInstance) -> None:
    """Or begins anew, if what is searched has changed since."""
    chosen = ("--select", "key:power/tuning", "--partition", POWER[-1])
    search = SEARCH | {"trials": 20, "seed": SEED}
    run(data, "power", "asset", "materialize", *chosen, config={"tuning": search})
    assert metadata(instance, "power", "tuning")["trials"] >= 20


def test_a_killed_training_goes_on_or_says_why_not(
    data: Path, instance: dg.DagsterInstance
) -> None:
    small = {"architecture": "gru", "units": 4, "batch_size": 512, "epochs": 50, "seed": SEED}
    chosen = ("--select", "key:tick/model", "--partition", TICK[-1])
    output = run(data, "tick", "asset", "materialize", *chosen, config={"model": small})
    resumed = metadata(instance, "tick", "model").get("resumed_after_epochs")
    assert resumed or "starting over" in output


TICK_FILES = """
import dagster as dg
from ml_assets.tick.definitions import defs, tick_files
with dg.DagsterInstance.get() as instance:
    [state] = [s for s in instance.all_instigator_state() if s.instigator_name == "tick_files"]
    context = dg.build_sensor_context(instance=instance, cursor=state.instigator_data.cursor)
    found = tick_files(context, tick_source=defs.resources["tick_source"])
    answer = [request.partition_key for request in found.run_requests or []]
"""


def test_the_sensor_of_files_asks_for_new_days_only(data: Path) -> None:
    assert ask(data, TICK_FILES) == []
    last = pl.read_parquet(data / "inbox" / f"{TICK[-1]}.parquet")
    later = last.with_columns(pl.col("timestamp") + pl.duration(days=3))
    later.write_parquet(data / "inbox" / "new.parquet")
    assert ask(data, TICK_FILES) == ["2025-04-21"]


def test_the_alert_sensor_goes_on_and_repeats_nothing(data: Path) -> None:
    before = (data / "alerts.log").read_text()
    assert "mnist__raw_images" in before
    ask(
        data,
        """
        import dagster as dg
        from ml_assets.monitoring.definitions import alerts
        with dg.DagsterInstance.get() as instance:
            states = instance.all_instigator_state()
            [state] = [found for found in states if found.instigator_name == "alerts"]
            cursor = state.instigator_data.cursor
            answer = []
            for _ in range(2):
                context = dg.build_sensor_context(instance=instance, cursor=cursor)
                cursor = alerts(context).cursor
        """,
    )
    assert (data / "alerts.log").read_text().count("mnist__raw_images") == 1
