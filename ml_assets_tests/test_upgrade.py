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
import pytest

from ml_assets_tests.upgrade.make import BUNDLE

ROOT = Path(__file__).parents[1]
NEXT_DAY = "2025-02-21"
HOLDS_FOR_GROUPS = ("cifar10", "mnist", "power", "tick")
MODELS = {
    "cifar10": "cifar10_resnet",
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
    for group in HOLDS_FOR_GROUPS:
        assert metadata(instance, group, "registered_model")["model"] == MODELS[group]


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


@pytest.mark.parametrize("group", HOLDS_FOR_GROUPS)
def test_the_champion_loads(group: str, data: Path) -> None:
    version, size = ask(
        data,
        f"""
        from ml_assets.build import mlflow_resource
        with mlflow_resource({group!r}).registry({MODELS[group]!r}) as registry:
            version, content = registry.champion_file()
        answer = [version, len(content)]
        """,
    )
    assert version == "1"
    assert size > 10_000


def test_the_next_day_is_made_on_top_and_can_be_rolled_back(
    data: Path, instance: dg.DagsterInstance
) -> None:
    tuning = {"trials": 2, "folds": 1, "validation_days": 7, "test_days": 7}
    execute(
        data,
        *("dagster", "asset", "materialize", "-m", "ml_assets.power.definitions"),
        *("--select", "group:power", "--partition", NEXT_DAY),
        *("--config-json", json.dumps({"ops": {"power__tuning": {"config": tuning}}})),
    )
    registered = metadata(instance, "power", "registered_model")
    assert registered["version"] == "2"
    # The replayed record repeats: the one with the later readings is kept.
    target = {"mnist": "power_move_champion", "promote": "power_make_champion"}
    if registered["role"] != "champion":
        execute(
            data,
            *("dagster", "job", "execute", "-m", "ml_assets.power.definitions"),
            *("-j", "power_promote"),
        )
    execute(
        data,
        *("dagster", "job", "execute", "-m", "ml_assets.power.definitions"),
        *("-j", "power_rollback"),
    )
    assert target
    assert ask(
        data,
        f"""
        from ml_assets.build import mlflow_resource
        with mlflow_resource("power").registry({MODELS["power"]!r}) as registry:
            answer = [registry.champion(), registry.tags("2").get("stage")]
        """,
    ) == ["1", "Archived"]
