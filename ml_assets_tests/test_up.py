"""`make up` as people use it: the web pages in a browser, a killed run, and Ctrl-C."""

import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster_graphql import DagsterGraphQLClient

from ml_assets.promotion import Decision
from ml_assets.resources.mlflow import MlflowResource
from ml_assets_tests.postgres import free_port
from ml_assets_tests.resources.test_mlflow import TRAINING, save_text

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
STARTUP_SECONDS = 240
RUN_SECONDS = 300
WAITING = {dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED}


@dataclass
class Up:
    """A running `make up` on a data directory of its own."""

    process: subprocess.Popen[bytes]
    dagster_port: int
    mlflow_port: int
    home: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.dagster_port}"

    def submit(self, config: dict[str, Any]) -> str:
        client = DagsterGraphQLClient("127.0.0.1", port_number=self.dagster_port)
        return client.submit_job_execution(
            "mnist_weekly",
            repository_location_name="mnist",
            run_config={"ops": {"mnist__model": {"config": config}}},
        )


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def wait_until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true value of `condition`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.2)
    pytest.fail(f"{what} did not happen within {seconds} seconds")


@contextmanager
def started(data: Path) -> Iterator[Up]:
    """`make up` on a data directory, from its first answer on; killed if it still runs later."""
    ports = free_port(), free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
        "DAGSTER_PORT": str(ports[0]),
        "MLFLOW_PORT": str(ports[1]),
        "ML_ASSETS_DATA_DIR": str(data),
        "DAGSTER_HOME": str(data / "dagster"),
    }
    with (data / "log").open("ab") as log:
        process = subprocess.Popen(
            ["make", "up"],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    running = Up(process, *ports, data / "dagster")
    try:
        for port in ports:
            wait_until(
                lambda port=port: answers(f"http://127.0.0.1:{port}"),
                STARTUP_SECONDS,
                f"an answer; see {data / 'log'}",
            )
        yield running
    finally:
        kill(running)


def processes(up: Up) -> list[int]:
    """What runs on the data directory, by the variable that all of it inherits."""
    variable = f"ML_ASSETS_DATA_DIR={up.home.parent}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # another's, or it has just ended
            if variable in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def kill(up: Up) -> None:
    """All processes at once, as a power cut does."""
    while found := processes(up):
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        up.process.poll()


def stop(up: Up) -> None:
    """Ctrl-C, once."""
    os.killpg(up.process.pid, signal.SIGINT)
    up.process.wait(timeout=60)
    wait_until(lambda: not processes(up), 60, "the end of every process")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with started(tmp_path_factory.mktemp("up")) as running:
        yield running


@pytest.fixture
def instance(up: Up, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("DAGSTER_HOME", str(up.home))
    with dg.DagsterInstance.get() as found:
        yield found


def finished(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRun | None:
    run = instance.get_run_by_id(run_id)
    return run if run and run.is_finished else None


def model_metadata(instance: dg.DagsterInstance, run_id: str) -> dict[str, Any]:
    [found] = [
        event.dagster_event.step_materialization_data.materialization.metadata
        for event in instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        if event.dagster_event and event.dagster_event.asset_key == dg.AssetKey(["mnist", "model"])
    ]
    return {name: entry.value for name, entry in found.items()}


def test_nothing_but_127_0_0_1_is_served(up: Up) -> None:
    for port in (up.dagster_port, up.mlflow_port):
        assert not answers(f"http://127.0.0.2:{port}")


def test_a_tracking_server_does_what_the_database_does(
    up: Up, mlflow_resource: MlflowResource
) -> None:
    url = f"http://127.0.0.1:{up.mlflow_port}"
    server = MlflowResource(
        **mlflow_resource.model_dump() | {"tracking_uri": url, "experiment": "through_the_server"}
    )
    logged = server.log(TRAINING, save_text)
    assert server.log(TRAINING, save_text) == logged
    assert server.run_url(logged).startswith(url)
    with server.registry("through_the_server") as registry:
        version = registry.register(logged, {})
        assert registry.challenge(version, lambda _: Decision(True, False, "first")) is not None
        assert registry.champion() == version
        assert registry.model_file(version) == b"weights"


@pytest.mark.skipif(not CHROMIUM and "CI" not in os.environ, reason="Chromium is not installed")
def test_a_person_materializes_the_group_in_the_browser(
    up: Up, instance: dg.DagsterInstance
) -> None:
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.set_default_timeout(60_000)
        page.goto(f"{up.url}/locations/mnist/asset-groups/mnist")
        expect(page.get_by_text("registered_model")).to_be_visible()
        page.get_by_role("button", name="Materialize all").click()
        expect(page.get_by_text("Launched run")).to_be_visible()

        [run] = wait_until(instance.get_runs, 10, "the run")
        run = wait_until(lambda: finished(instance, run.run_id), RUN_SECONDS, "its end")
        assert run.status == dg.DagsterRunStatus.SUCCESS
        page.goto(f"{up.url}/runs/{run.run_id}")
        expect(page.get_by_text("Success", exact=True).first).to_be_visible()

        page.goto(f"{up.url}/assets/mnist/evaluation")
        page.get_by_text("Show Markdown").first.click()
        picture = page.get_by_role("dialog").locator("img")
        expect(picture).to_be_visible()
        assert picture.evaluate("image => image.naturalWidth") > 300

        page.goto(f"http://127.0.0.1:{up.mlflow_port}/#/models/mnist_cnn")
        expect(page.get_by_text("@ champion")).to_be_visible()
        browser.close()


@pytest.mark.parametrize("killed_after", [1, 3])
def test_a_killed_training_goes_on_and_ends_the_same(
    killed_after: int, up: Up, instance: dg.DagsterInstance
) -> None:
    config = {"architecture": "fast", "epochs": 4, "batch_size": 32, "seed": killed_after}
    undisturbed, killed = up.submit(config), up.submit(config)

    def first_is_over() -> bool:
        """Two trainings never fight for two cores: the second waits in the queue."""
        over = finished(instance, undisturbed) is not None
        waiting = instance.get_run_by_id(killed)
        assert over or (waiting and waiting.status in WAITING)
        return over

    wait_until(first_is_over, RUN_SECONDS, "the end of the run")

    def epochs_done() -> bool:
        messages = [entry.user_message for entry in instance.all_logs(killed)]
        return any(message.startswith(f"epoch {killed_after}/4") for message in messages)

    wait_until(epochs_done, RUN_SECONDS, f"epoch {killed_after}")
    [process] = [
        int(message.split("pid: ")[1].split(")")[0])
        for entry in instance.all_logs(killed)
        if (message := entry.message).startswith("Executing steps in process")
    ]
    os.kill(process, signal.SIGKILL)
    again = wait_until(
        lambda: instance.get_runs(dg.RunsFilter(tags={"dagster/parent_run_id": killed})),
        RUN_SECONDS,
        "the automatic re-execution",
    )[0].run_id
    run = wait_until(lambda: finished(instance, again), RUN_SECONDS, "the end of the re-execution")

    assert run.status == dg.DagsterRunStatus.SUCCESS
    assert "mnist__raw_images" not in run.step_keys_to_execute
    before, after = model_metadata(instance, undisturbed), model_metadata(instance, again)
    # On a busy machine another epoch ends before the kill.
    epochs = {
        message.partition(":")[0]
        for entry in instance.all_logs(killed)
        if (message := entry.user_message).startswith("epoch ")
    }
    assert len(epochs) >= killed_after
    assert after["resumed_after_epochs"] == [len(epochs)]
    assert after["weights_sha256"] == before["weights_sha256"]


def test_one_interrupt_stops_everything(up: Up) -> None:
    stop(up)
    for port in (up.dagster_port, up.mlflow_port):
        assert not answers(f"http://127.0.0.1:{port}")
