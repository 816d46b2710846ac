"""The Compose file: what it says, and its processes at work."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import yaml

from ml_assets import run_launcher, run_processes
from ml_assets_tests.deployment import (
    CODE,
    COMPOSE,
    GROUPS,
    ROOT,
    SECRETS,
    Deployment,
    deployed,
    interpolated,
)
from ml_assets_tests.postgres import PostgresServer, running_postgres

SERVICES = yaml.safe_load(COMPOSE)["services"]
UV = shutil.which("uv") or ROOT / ".uv" / "bin" / "uv"
FOREIGN = {
    "mnist": {"lightgbm", "optuna", "ta-lib"},
    "cifar10": {"lightgbm", "optuna", "ta-lib"},
    "tick": {"lightgbm", "optuna"},
    "power": {"tensorflow", "keras", "ta-lib"},
    "server": {"tensorflow", "keras", "lightgbm", "optuna", "ta-lib"},
}
"""What the image of each must not contain."""


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, own_postgres_server: PostgresServer
) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("deployed"), own_postgres_server) as found:
        yield found


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


def test_no_secret_is_on_a_command_line() -> None:
    for name, service in SERVICES.items():
        assert not re.search("PASSWORD|SECRET", str(service.get("command"))), name


def test_each_service_has_a_file_for_secrets_of_its_own_that_git_and_images_never_see() -> None:
    for name in CODE:
        optional = {"path": f"deploy/secrets/{name}.env", "required": False}
        shared = ["deploy/groups.env"] if name in GROUPS else []
        assert SERVICES[name]["env_file"] == [*shared, optional]
    assert "/deploy/secrets/" in (ROOT / ".gitignore").read_text().split()
    assert {".env", "deploy/secrets"} <= set((ROOT / ".dockerignore").read_text().split())


def test_every_service_is_limited_watched_and_started_again() -> None:
    for name, service in SERVICES.items():
        once = name == "storage"
        assert service["restart"] == ("on-failure" if once else "unless-stopped"), name
        assert {"cpus", "memory"} <= set(service["deploy"]["resources"]["limits"]), name
        assert "healthcheck" in service or once, name
        assert service["security_opt"] == ["no-new-privileges:true"], name


@pytest.mark.parametrize("name", GROUPS)
def test_a_stop_reaches_a_training_and_waits_for_it(name: str) -> None:
    assert SERVICES[name]["init"]
    assert SERVICES[name]["environment"]["TINI_KILL_PROCESS_GROUP"]
    seconds = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))
    assert seconds >= run_processes.LAST_PATIENCE + 10


@pytest.mark.parametrize("name", [*CODE, "webserver", "daemon"])
def test_tables_are_made_before_anybody_looks_for_them(name: str) -> None:
    after = SERVICES[name]["depends_on"]["storage"]
    assert after == {"condition": "service_completed_successfully"}


@pytest.mark.parametrize("name", CODE)
def test_nobody_waits_for_mlflow(name: str) -> None:
    assert set(SERVICES[name]["depends_on"]) == {"storage"}


def test_nothing_is_mounted_in_the_data_that_a_restore_wants_to_find_empty() -> None:
    for name, service in SERVICES.items():
        mounts = [mount.split(":")[1] for mount in service.get("volumes", [])]
        assert not [path for path in mounts if path.startswith("/var/lib/ml_assets/")], name


def test_links_and_commands_lead_to_services_that_are_there() -> None:
    ports = {port.rsplit(":", 1)[1] for port in SERVICES["proxy"]["ports"]}
    for name in CODE:
        environment = SERVICES[name]["environment"]
        assert environment["ML_ASSETS_DAGSTER_URL"] == "http://webserver:3000"
        links = [url for variable, url in environment.items() if variable.endswith("_UI_URL")]
        assert links
        assert {interpolated(url, {}).rsplit(":", 1)[1] for url in links} <= ports
    assert "--port 3000" in SERVICES["webserver"]["command"]


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


def test_a_pipeline_runs_to_its_registered_model(deployment: Deployment) -> None:
    run = deployment.launch("mnist_weekly")
    status = deployment.wait(lambda: deployment.ended(run), 600)
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


def test_a_run_that_failed_without_mlflow_is_put_right_by_one_command(
    deployment: Deployment,
) -> None:
    assert "no job's latest run has failed" in deployment.reexecute()
    deployment.stop("mlflow")
    failed = deployment.launch("mnist_weekly")
    assert deployment.wait(lambda: deployment.ended(failed), 600) == "FAILURE"

    deployment.start("mlflow")
    deployment.wait(lambda: requests.get(f"{deployment.mlflow_url}/health", timeout=5).ok)
    assert f"{failed}: goes on as" in deployment.reexecute()
    query = """query ($run: ID!) { runOrError(runId: $run) { ... on Run {
        parentRunId stats { ... on RunStatsSnapshot { stepsSucceeded } } } } }"""

    def latest() -> str:
        [newest, *_] = deployment.ask(
            "{ runsOrError(limit: 1) { ... on Runs { results { runId } } } }"
        )["runsOrError"]["results"]
        return newest["runId"]

    assert deployment.wait(lambda: deployment.ended(latest()), 600) == "SUCCESS"
    found = deployment.ask(query, run=latest())["runOrError"]
    assert found["parentRunId"] == failed
    assert found["stats"]["stepsSucceeded"] < 5  # no image and no epoch was done again
    alerts = deployment.directory / "var/lib/ml_assets/alerts.log"

    def told() -> list[bool]:
        lines = alerts.read_text().splitlines() if alerts.exists() else []
        return [json.loads(line)["recovered"] for line in lines]

    deployment.wait(lambda: told() == [False, True])


def training(deployment: Deployment, **config: object) -> str:
    """A run that has finished an epoch of a training, which `config` describes."""
    settings = {"architecture": "fast", "batch_size": 32, **config}
    run = deployment.launch("mnist_weekly", config={"ops": {"mnist__model": {"config": settings}}})
    deployment.wait(lambda: epochs(deployment, run), 300)
    return run


def epochs(deployment: Deployment, run: str) -> list[str]:
    """The epochs that a run has finished."""
    query = """query ($run: ID!) { logsForRun(runId: $run) { ... on EventConnection { events {
        ... on MessageEvent { message } } } } }"""
    events = deployment.ask(query, run=run)["logsForRun"]["events"]
    return [
        event["message"].split()[1] for event in events if event["message"].startswith("epoch ")
    ]


def reexecution(deployment: Deployment, run: str) -> str:
    """The run that goes on with another."""
    query = """query ($tags: [ExecutionTag!]) { runsOrError(filter: {tags: $tags}) {
        ... on Runs { results { runId } } } }"""
    tags = [{"key": "dagster/parent_run_id", "value": run}]
    found = deployment.ask(query, tags=tags)["runsOrError"]["results"]
    return found[0]["runId"] if found else ""


def test_a_training_goes_on_when_its_container_was_killed(deployment: Deployment) -> None:
    killed = training(deployment, epochs=6)
    deployment.kill("mnist")
    done = epochs(deployment, killed)
    began = time.monotonic()
    deployment.start("mnist")
    again = deployment.wait(lambda: reexecution(deployment, killed), 120)
    print(f"re-executed {time.monotonic() - began:.0f} s after the start")
    assert deployment.wait(lambda: deployment.ended(again), 300) == "SUCCESS"
    assert [*done, *epochs(deployment, again)] == [f"{epoch}/6:" for epoch in range(1, 7)]


def test_a_training_that_lost_its_server_stops_by_itself_and_goes_on(
    deployment: Deployment,
) -> None:
    stopped = training(deployment, epochs=6, seed=1)
    server = deployment.processes.pop("mnist")
    server.kill()
    server.wait()
    deployment.start("mnist")
    again = deployment.wait(lambda: reexecution(deployment, stopped), 120)
    done = epochs(deployment, stopped)
    assert deployment.wait(lambda: deployment.ended(again), 300) == "SUCCESS"
    assert [*done, *epochs(deployment, again)] == [f"{epoch}/6:" for epoch in range(1, 7)]


def test_a_run_whose_process_is_gone_is_terminated_and_goes_on_when_asked_to(
    deployment: Deployment,
) -> None:
    dead = training(deployment, epochs=200, seed=2)
    deployment.stop("daemon")
    deployment.kill("mnist")
    with deployment.instance() as found:
        path = run_launcher.process_file(found, dead)
    deployment.wait(lambda: run_processes.lives(path) is False)  # threads end one after another
    assert terminate(deployment, dead) == "TerminateRunSuccess"
    assert deployment.ended(dead) == "CANCELED"
    deployment.start("mnist")
    deployment.start("daemon")
    deployment.wait(lambda: deployment.healthy("mnist"))
    assert f"{dead}: was cancelled" in deployment.reexecute()
    assert f"{dead}: goes on as" in deployment.reexecute("--cancelled")
    again = reexecution(deployment, dead)
    deployment.wait(lambda: epochs(deployment, again), 300)
    assert epochs(deployment, again)[0] == f"{len(epochs(deployment, dead)) + 1}/200:"
    # One whose process lives ends at once, too, and does not begin anew after a minute.
    assert terminate(deployment, again) == "TerminateRunSuccess"
    assert deployment.wait(lambda: deployment.ended(again), 50) == "CANCELED"


def terminate(deployment: Deployment, run: str) -> str:
    """What the button *Terminate* gets."""
    mutation = """mutation ($run: String!) { terminateRun(runId: $run) {
        __typename ... on TerminateRunFailure { message } } }"""
    answer = deployment.ask(mutation, run=run)["terminateRun"]
    return answer.get("message") or answer["__typename"]


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


def test_what_postgresql_keeps_comes_back_in_an_empty_server(
    deployment: Deployment, own_postgres_server: PostgresServer, tmp_path: Path
) -> None:
    deployment.stop()

    def dump(server: PostgresServer) -> str:
        return subprocess.run(
            ["pg_dumpall", "--dbname", f"{server.url}/postgres"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    saved = dump(own_postgres_server)
    assert "mnist_cnn" in saved
    assert "mnist_weekly" in saved
    (tmp_path / "saved.sql").write_text(saved)
    with running_postgres() as empty:
        command = ["psql", "--quiet", "--dbname", f"{empty.url}/postgres", "--file", "saved.sql"]
        subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
        restored = dump(empty)
    # The guard of a dump is another word each time, conditions are spelled out by and by, and rows
    # have no order.
    left_out = re.compile(r"^(\\(un)?restrict|    CONSTRAINT \w+ CHECK) .*$", re.MULTILINE)
    one, other = (sorted(left_out.sub("", text).splitlines()) for text in (restored, saved))
    assert one == other
