"""`make up` is stopped or killed in the middle of its work, and started again."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from dagster_graphql import DagsterGraphQLClient

from ml_assets_tests.test_up import (
    CHROMIUM,
    ROOT,
    RUN_SECONDS,
    Up,
    finished,
    kill,
    model_metadata,
    started,
    stop,
    wait_until,
)

EPOCHS = 24
CONFIG = {"architecture": "fast", "epochs": EPOCHS, "batch_size": 32}
QUICK = {"architecture": "cnn", "size": "quick", "epochs": 1, "views": "plain"}
MINUTE = 60.0
INTERRUPTED = "mnist_weekly was interrupted, and goes on by itself"


@contextmanager
def instance(data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("DAGSTER_HOME", str(data / "dagster"))
    with dg.DagsterInstance.get() as found:
        yield found


def epochs(instance: dg.DagsterInstance, run: str) -> list[int]:
    """The epochs that a run has finished."""
    messages = [entry.user_message for entry in instance.all_logs(run)]
    return [int(m.split()[1].split("/")[0]) for m in messages if m.startswith("epoch ")]


def reexecution(instance: dg.DagsterInstance, run: str) -> str:
    """The id of the run that goes on with another, if there is one."""
    found = instance.get_runs(dg.RunsFilter(tags={"dagster/parent_run_id": run}))
    return found[0].run_id if found else ""


def status(instance: dg.DagsterInstance, run: str) -> dg.DagsterRunStatus:
    found = instance.get_run_by_id(run)
    assert found
    return found.status


def told(data: Path) -> list[tuple[str, bool]]:
    """Titles of the alerts, and whether they tell of a recovery."""
    path = data / "alerts.log"
    alerts = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [(alert["title"], alert["recovered"]) for alert in alerts]


def wait_for_its_turn(up: Up) -> str:
    """A run of another group that trains: there is one place for the two."""
    return DagsterGraphQLClient("127.0.0.1", port_number=up.dagster_port).submit_job_execution(
        "cifar10_weekly",
        repository_location_name="cifar10",
        run_config={"ops": {"cifar10__model": {"config": QUICK}}},
    )


def train_on_the_command_line(up: Up) -> "subprocess.Popen[bytes]":
    config = {"ops": {"cifar10__model": {"config": QUICK | {"epochs": 100}}}}
    command = [str(Path(sys.executable).parent / "dagster"), "asset", "materialize"]
    command += ["-m", "ml_assets.cifar10.definitions", "--config-json", json.dumps(config)]
    command += ["--select", "key:cifar10/raw_images,key:cifar10/images,key:cifar10/model"]
    environment = os.environ | {
        "DAGSTER_HOME": str(up.home),
        "ML_ASSETS_DATA_DIR": str(up.home.parent),
    }
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)


def test_a_training_survives_a_stop_and_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with started(tmp_path) as up, instance(tmp_path, monkeypatch) as found:
        first = up.submit(CONFIG | {"seed": 1})
        wait_until(lambda: epochs(found, first), RUN_SECONDS, "an epoch")
        waiting = wait_for_its_turn(up)
        stop(up)
        done = epochs(found, first)
        # It stopped between two epochs, by itself.
        assert status(found, first) == dg.DagsterRunStatus.FAILURE
        assert status(found, waiting) == dg.DagsterRunStatus.QUEUED

    began = time.monotonic()
    with started(tmp_path) as up, instance(tmp_path, monkeypatch) as found:
        second = wait_until(lambda: reexecution(found, first), 2 * MINUTE, "the re-execution")
        print(f"stopped: re-executed {time.monotonic() - began:.0f} s after the start")
        wait_until(lambda: epochs(found, second), RUN_SECONDS, "an epoch")
        assert epochs(found, second)[0] == len(done) + 1
        by_hand = train_on_the_command_line(up)
        [lost] = wait_until(
            lambda: [
                run.run_id
                for run in found.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
                if not run.remote_job_origin
            ],
            RUN_SECONDS,
            "the run by hand",
        )
        kill(up)
        by_hand.wait()
        done += epochs(found, second)
        assert status(found, second) == dg.DagsterRunStatus.STARTED

    began = time.monotonic()
    with started(tmp_path) as up, instance(tmp_path, monkeypatch) as found:
        third = wait_until(lambda: reexecution(found, second), 2 * MINUTE, "the re-execution")
        print(f"killed: re-executed {time.monotonic() - began:.0f} s after the start")
        run = wait_until(lambda: finished(found, third), RUN_SECONDS, "its end")
        assert run.status == dg.DagsterRunStatus.SUCCESS
        assert "mnist__raw_images" not in run.step_keys_to_execute
        assert [*done, *epochs(found, third)] == list(range(1, EPOCHS + 1))
        assert len(model_metadata(found, third)["resumed_after_epochs"]) == 2
        assert status(found, lost) == dg.DagsterRunStatus.FAILURE
        wait_until(lambda: finished(found, waiting), RUN_SECONDS, "the end of the queue")
        wait_until(lambda: (INTERRUPTED, True) in told(tmp_path), MINUTE, "the recovery")
        assert (INTERRUPTED, False) in told(tmp_path)
        assert versions(tmp_path) == 1
        take_a_picture(up, third)
        stop(up)


def versions(data: Path) -> int:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{data}/mlflow/mlflow.db")
    return len(client.search_model_versions("name = 'mnist_cnn'"))


def take_a_picture(up: Up, run: str) -> None:
    """The page of all runs as people see it, kept where `RESTART_PICTURE` says."""
    path = os.environ.get("RESTART_PICTURE")
    if not path or not CHROMIUM:
        return
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1600, "height": 700})
        page.set_default_timeout(60_000)
        page.goto(f"{up.url}/runs")
        expect(page.get_by_text(run[:8])).to_be_visible()
        page.screenshot(path=path)
        browser.close()
