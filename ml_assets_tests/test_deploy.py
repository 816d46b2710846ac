"""The deployed form without its containers: the very processes of `docker-compose.yaml`.

Commands and environments are those of the file; only names of hosts, ports and directories are
replaced. PostgreSQL is the tests' own server; the reverse proxy is not run.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from ml_assets_tests.postgres import PostgresServer, free_port

ROOT = Path(__file__).parents[1]
COMPOSE = (ROOT / "docker-compose.yaml").read_text()
SERVICES = yaml.safe_load(COMPOSE)["services"]
UV = shutil.which("uv") or ROOT / ".uv" / "bin" / "uv"
GROUPS = ["cifar10", "mnist", "power", "tick"]
CODE = [*GROUPS, "monitoring"]
PYTHON = [*CODE, "mlflow", "webserver", "daemon"]
SECRETS = {
    "POSTGRES_PASSWORD": "of-postgres",
    "MLFLOW_ADMIN_PASSWORD": "of-mlflow-admin",
    "MLFLOW_SECRET_KEY": "of-mlflow-sessions",
    "DAGSTER_USER": "team",
    "DAGSTER_PASSWORD_HASH": "hash",
}
FOREIGN = {
    "mnist": {"lightgbm", "optuna", "ta-lib"},
    "cifar10": {"lightgbm", "optuna", "ta-lib"},
    "tick": {"lightgbm", "optuna"},
    "power": {"tensorflow", "keras", "ta-lib"},
    "server": {"tensorflow", "keras", "lightgbm", "optuna", "ta-lib"},
}
"""What the image of each must not contain."""


def interpolated(text: str, variables: dict[str, str]) -> str:
    """Fill in `${NAME}`, `${NAME:-default}` and `${NAME:?message}` as Compose does."""

    def value(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        if variables.get(name):
            return variables[name]
        if kind == ":-":
            return rest
        raise KeyError(name)

    return re.sub(r"\$\{(\w+)(?:(:-|:\?)([^}]*))?\}", value, text)


class Deployment:
    """All processes, as the file describes them, on loopback."""

    def __init__(self, directory: Path, postgres: PostgresServer) -> None:
        self.directory = directory
        self.ports = {5432: postgres.url.rsplit(":", 1)[1]} | {
            port: str(free_port()) for port in (3000, 5000, 4001, 4002, 4003, 4004, 4005)
        }
        found = yaml.safe_load(self.here(interpolated(COMPOSE, SECRETS)))
        self.services, self.configs = found["services"], found["configs"]
        self.url = f"http://127.0.0.1:{self.ports[3000]}"
        self.mlflow_url = f"http://127.0.0.1:{self.ports[5000]}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.home = directory / "dagster"
        self.home.mkdir()
        for name in ("dagster.yaml", "workspace.yaml"):
            (self.home / name).write_text(self.here((ROOT / "deploy" / name).read_text()))
        shutil.copy(ROOT / "alerts.yaml", self.home)

    def here(self, text: str) -> str:
        """The same on this machine: hosts, ports and directories replaced."""
        text = re.sub(r"/(var/lib|opt/dagster|etc)(?=/|$|\n|\")", rf"{self.directory}/\1", text)
        text = text.replace(f"{self.directory}/opt/dagster", str(self.directory / "dagster"))
        text = re.sub(rf"\b({'|'.join([*CODE, 'mlflow', 'postgres'])})(?=:\d)", "127.0.0.1", text)
        text = re.sub(rf"host: ({'|'.join(CODE)})\b", "host: 127.0.0.1", text)
        text = text.replace("POSTGRES_HOST: postgres", "POSTGRES_HOST: 127.0.0.1")
        text = text.replace("0.0.0.0", "127.0.0.1")
        return re.sub(
            rf"\b({'|'.join(map(str, self.ports))})\b",
            lambda match: self.ports[int(match[1])],
            text,
        )

    def start(self, name: str) -> None:
        service = self.services[name]
        command = service["command"]
        arguments = shlex.split(command) if isinstance(command, str) else command
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.directory),
            # Those of the image.
            "DAGSTER_HOME": str(self.home),
            "ML_ASSETS_DATA_DIR": f"{self.directory}/var/lib/ml_assets",
            **{key: str(value) for key, value in service["environment"].items()},
        }
        if "env_file" in service:  # but on the bundled samples
            environment |= {"MNIST_SOURCE": "sample", "CIFAR10_SOURCE": "sample"}
            environment["ML_ASSETS_RETRY_DELAY_SECONDS"] = "1"
        with (self.directory / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                arguments, cwd=self.home, env=environment, stdout=log, stderr=log
            )

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()

    def ask(self, query: str, **variables: Any) -> Any:
        """Ask the web server by GraphQL."""
        response = requests.post(
            f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=30
        )
        answer = response.json()
        assert "errors" not in answer, answer
        return answer["data"]

    def wait(self, what: Any, seconds: float = 240) -> Any:
        """The first true answer of `what`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for name, process in self.processes.items():
                assert process.poll() is None, (self.directory / f"{name}.log").read_text()[-3000:]
            try:
                if found := what():
                    return found
            except requests.ConnectionError:
                pass
            time.sleep(1)
        raise TimeoutError({name: self.tail(name) for name in self.processes})

    def tail(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()[-1500:]


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer
) -> Iterator[Deployment]:
    postgres_server.execute("CREATE ROLE ml LOGIN SUPERUSER PASSWORD 'of-postgres'")
    statements = re.sub(r"--.*", "", (ROOT / "deploy" / "databases.sql").read_text())
    for statement in filter(str.strip, statements.split(";")):
        postgres_server.execute(statement)
    found = Deployment(tmp_path_factory.mktemp("deployed"), postgres_server)
    auth = Path(found.services["mlflow"]["environment"]["MLFLOW_AUTH_CONFIG_PATH"])
    auth.parent.mkdir(parents=True)
    auth.write_text(found.configs["mlflow_auth"]["content"])
    try:
        found.start("storage")
        assert found.processes.pop("storage").wait(120) == 0, found.tail("storage")
        for name in PYTHON:
            found.start(name)
        yield found
    finally:
        found.stop()


def test_the_file_is_a_compose_file() -> None:
    subprocess.run(
        ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yaml"],
        cwd=ROOT,
        check=True,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )


def test_only_the_proxy_publishes_ports_and_on_loopback_unless_told_otherwise() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"proxy"}
    for port in published["proxy"]:
        assert interpolated(port, {}).startswith("127.0.0.1:")
    assert "basic_auth" in (ROOT / "deploy" / "Caddyfile").read_text()


@pytest.mark.parametrize("missing", SECRETS)
def test_nothing_starts_without_a_secret(missing: str) -> None:
    with pytest.raises(KeyError, match=missing):
        interpolated(COMPOSE, SECRETS | {missing: ""})
    assert f"{missing}=\n" in (ROOT / ".env.example").read_text()


def test_every_service_is_limited_watched_and_started_again() -> None:
    for name, service in SERVICES.items():
        once = name == "storage"
        assert service["restart"] == ("on-failure" if once else "unless-stopped"), name
        assert {"cpus", "memory"} <= set(service["deploy"]["resources"]["limits"]), name
        assert "healthcheck" in service or name == "proxy" or once, name
        assert service["security_opt"] == ["no-new-privileges:true"], name


@pytest.mark.parametrize("name", [*CODE, "webserver", "daemon"])
def test_tables_are_made_before_anybody_looks_for_them(name: str) -> None:
    after = SERVICES[name]["depends_on"]["storage"]
    assert after == {"condition": "service_completed_successfully"}


def test_every_group_has_its_server_and_its_image() -> None:
    served = yaml.safe_load((ROOT / "deploy" / "workspace.yaml").read_text())["load_from"]
    for entry in served:
        server = entry["grpc_server"]
        name = server["host"]
        assert server["location_name"] == name
        assert f"ml_assets.{name}.definitions" in SERVICES[name]["command"]
        assert f"--port {server['port']}" in SERVICES[name]["command"]
        assert SERVICES[name]["build"]["args"]["GROUP"] == (name if name in GROUPS else "core")
    assert [entry["grpc_server"]["host"] for entry in served] == sorted(CODE)


def test_both_forms_differ_in_their_storage_only() -> None:
    embedded, deployed = (
        yaml.safe_load(path.read_text())
        for path in (ROOT / "dagster.yaml", ROOT / "deploy" / "dagster.yaml")
    )
    del embedded["event_log_storage"]
    for name in ("storage", "compute_logs", "local_artifact_storage"):
        del deployed[name]
    assert deployed == embedded


@pytest.mark.parametrize("extra", FOREIGN)
def test_an_image_has_what_its_group_needs_and_no_more(extra: str) -> None:
    found = subprocess.run(
        [UV, "export", "--frozen", "--quiet", "--no-dev", "--no-hashes", "--extra", extra],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    names = {re.split(r"[=\s;]", line)[0] for line in found.splitlines() if line[:1].isalnum()}
    assert "dagster" in names
    assert not names & FOREIGN[extra]


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_loads_without_the_libraries_of_others(group: str) -> None:
    modules = {name.replace("ta-lib", "talib") for name in FOREIGN[group]}
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({modules}));"
        f"import ml_assets.{group}.definitions as found; found.defs.resolve_all_asset_specs()"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_all_code_locations_are_loaded(deployment: Deployment) -> None:
    query = """{ workspaceOrError { ... on Workspace { locationEntries {
        name loadStatus locationOrLoadError { __typename } } } } }"""

    def loaded() -> set[str]:
        entries = deployment.ask(query)["workspaceOrError"]["locationEntries"]
        return {
            entry["name"]
            for entry in entries
            if (entry["locationOrLoadError"] or {}).get("__typename") == "RepositoryLocation"
        }

    deployment.wait(lambda: loaded() == set(CODE))


def test_mlflow_wants_a_login(deployment: Deployment) -> None:
    deployment.wait(lambda: requests.get(f"{deployment.mlflow_url}/health", timeout=5).ok)
    search = f"{deployment.mlflow_url}/api/2.0/mlflow/experiments/search"
    query = {"max_results": 5}
    assert requests.post(search, json=query, timeout=30).status_code == 401
    for password in ("password1234", "admin", ""):
        wrong = ("admin", password)
        assert requests.post(search, json=query, auth=wrong, timeout=30).status_code == 401
    right = ("admin", SECRETS["MLFLOW_ADMIN_PASSWORD"])
    assert requests.post(search, json=query, auth=right, timeout=30).ok


LAUNCH = """mutation ($selector: JobOrPipelineSelector!) {
    launchRun(executionParams: {selector: $selector, runConfigData: {}}) {
        __typename ... on LaunchRunSuccess { run { runId } }
        ... on PythonError { message } } }"""
STATUS = """query ($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"""


def launched(deployment: Deployment, job: str) -> str:
    """The id of a new run of a job."""
    selector = {
        "repositoryLocationName": job.split("_", maxsplit=1)[0],
        "repositoryName": "__repository__",
        "jobName": job,
    }
    return deployment.ask(LAUNCH, selector=selector)["launchRun"]["run"]["runId"]


def ended(deployment: Deployment, run: str) -> str:
    """How a run ended, if it has."""
    status = deployment.ask(STATUS, run=run)["runOrError"]["status"]
    return status if status in {"SUCCESS", "FAILURE", "CANCELED"} else ""


def test_a_pipeline_runs_to_its_registered_model(deployment: Deployment) -> None:
    run = launched(deployment, "mnist_weekly")
    status = deployment.wait(lambda: ended(deployment, run), 600)
    assert status == "SUCCESS", deployment.tail("mnist")
    models = requests.get(
        f"{deployment.mlflow_url}/api/2.0/mlflow/registered-models/search",
        auth=("admin", SECRETS["MLFLOW_ADMIN_PASSWORD"]),
        timeout=30,
    ).json()["registered_models"]
    assert [model["name"] for model in models] == ["mnist_cnn"]
    assert models[0]["aliases"] == [{"alias": "champion", "version": "1"}]
    stored = deployment.directory / "var/lib"
    assert list((stored / "mlflow").rglob("model.keras"))  # by the server, not by the group
    assert (stored / "ml_assets/artifacts/mnist/model.zip").is_file()


def reexecute(deployment: Deployment, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "ml_assets.reexecute", "--url", deployment.url, *arguments],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return result.stdout.replace("\n", " ")


def test_a_run_that_failed_without_mlflow_is_put_right_by_one_command(
    deployment: Deployment,
) -> None:
    assert "no job's latest run has failed" in reexecute(deployment)
    mlflow = deployment.processes.pop("mlflow")
    mlflow.terminate()
    mlflow.wait(30)
    failed = launched(deployment, "mnist_weekly")
    assert deployment.wait(lambda: ended(deployment, failed), 600) == "FAILURE"

    deployment.start("mlflow")
    deployment.wait(lambda: requests.get(f"{deployment.mlflow_url}/health", timeout=5).ok)
    assert f"{failed}: goes on as" in reexecute(deployment)
    query = """query ($run: ID!) { runOrError(runId: $run) { ... on Run {
        parentRunId stats { ... on RunStatsSnapshot { stepsSucceeded } } } } }"""

    def latest() -> str:
        [newest, *_] = deployment.ask(
            "{ runsOrError(limit: 1) { ... on Runs { results { runId } } } }"
        )["runsOrError"]["results"]
        return newest["runId"]

    assert deployment.wait(lambda: ended(deployment, latest()), 600) == "SUCCESS"
    found = deployment.ask(query, run=latest())["runOrError"]
    assert found["parentRunId"] == failed
    assert found["stats"]["stepsSucceeded"] < 5  # no image and no epoch was done again
    alerts = deployment.directory / "var/lib/ml_assets/alerts.log"

    def told() -> list[bool]:
        lines = alerts.read_text().splitlines() if alerts.exists() else []
        return [json.loads(line)["recovered"] for line in lines]

    deployment.wait(lambda: told() == [False, True])


def test_monitoring_looks_and_the_daemon_is_well(deployment: Deployment) -> None:
    query = """{ instance { daemonHealth { allDaemonStatuses { daemonType healthy required } } }
        sensorOrError(sensorSelector: {repositoryLocationName: "monitoring",
            repositoryName: "__repository__", sensorName: "alerts"}) {
            ... on Sensor { sensorState { ticks(limit: 1) { status } } } } }"""

    def well() -> bool:
        found = deployment.ask(query)
        daemons = found["instance"]["daemonHealth"]["allDaemonStatuses"]
        ticks = found["sensorOrError"]["sensorState"]["ticks"]
        return all(daemon["healthy"] for daemon in daemons if daemon["required"]) and [
            tick["status"] for tick in ticks
        ] == ["SKIPPED"]

    deployment.wait(well)


def test_no_secret_is_in_a_log(deployment: Deployment) -> None:
    logs = "".join(path.read_text() for path in deployment.directory.glob("*.log"))
    for name in ("POSTGRES_PASSWORD", "MLFLOW_ADMIN_PASSWORD", "MLFLOW_SECRET_KEY"):
        assert SECRETS[name] not in logs, name
