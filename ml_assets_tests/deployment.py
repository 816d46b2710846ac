"""The deployed form without its containers: the very processes of `docker-compose.yaml`.

Commands and environments are those of the file; only names of hosts, ports and directories are
replaced. PostgreSQL is the tests' own server; the reverse proxy has tests of its own.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import requests
import yaml

from ml_assets_tests.postgres import PostgresServer, free_port

ROOT = Path(__file__).parents[1]
COMPOSE = (ROOT / "docker-compose.yaml").read_text()
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
_LAUNCH = """mutation ($selector: JobOrPipelineSelector!, $tags: [ExecutionTag!]!,
            $config: RunConfigData!) {
    launchRun(executionParams: {selector: $selector, runConfigData: $config,
            executionMetadata: {tags: $tags}}) {
        __typename ... on LaunchRunSuccess { run { runId } }
        ... on PythonError { message } } }"""
_STATUS = """query ($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"""
ENDED = {"SUCCESS", "FAILURE", "CANCELED"}


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

    def __init__(self, directory: Path, postgres: PostgresServer, *, small: bool = False) -> None:
        self.directory = directory
        self.small = small
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
        if small:  # small trainings may run two at a time
            settings = self.home / "dagster.yaml"
            settings.write_text(
                settings.read_text().replace("default_limit: 1", "default_limit: 2")
            )
        shutil.copy(ROOT / "alerts.yaml", self.home)

    def here(self, text: str) -> str:
        """The same on this machine: hosts, ports and directories replaced."""
        text = re.sub(r"/(var/lib|opt/dagster|etc)(?=/|$|\n|\")", rf"{self.directory}/\1", text)
        text = text.replace(f"{self.directory}/opt/dagster", str(self.directory / "dagster"))
        hosts = "|".join([*CODE, "mlflow", "postgres", "webserver"])
        text = re.sub(rf"\b({hosts})(?=:\d)", "127.0.0.1", text)
        text = re.sub(rf"host: ({'|'.join(CODE)})\b", "host: 127.0.0.1", text)
        text = text.replace("POSTGRES_HOST: postgres", "POSTGRES_HOST: 127.0.0.1")
        text = text.replace("0.0.0.0", "127.0.0.1")
        return re.sub(
            rf"\b({'|'.join(map(str, self.ports))})\b",
            lambda match: self.ports[int(match[1])],
            text,
        )

    def environment(self, name: str) -> dict[str, str]:
        """The variables of a service, and what the image and the machine add."""
        service = self.services[name]
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.directory),
            # Those of the image.
            "DAGSTER_HOME": str(self.home),
            "ML_ASSETS_DATA_DIR": f"{self.directory}/var/lib/ml_assets",
            **{key: str(value) for key, value in service["environment"].items()},
        }
        if name in GROUPS:  # in place of the files of `env_file`: on the bundled samples
            environment |= {"MNIST_SOURCE": "sample", "CIFAR10_SOURCE": "sample"}
            environment |= {"POWER_SOURCE": "replay", "TICK_SOURCE": "replay"}
            environment["ML_ASSETS_RETRY_DELAY_SECONDS"] = "1"
        return environment

    def start(
        self, name: str, changed: Mapping[str, str] | None = None, within: Sequence[str] = ()
    ) -> None:
        """Start a service.

        Args:
            name: Of the service.
            changed: Variables of its environment that differ from the file's.
            within: A command that runs the service's own.
        """
        command = self.services[name]["command"]
        arguments = shlex.split(command) if isinstance(command, str) else command
        environment = self.environment(name) | dict(changed or {})
        if self.small and name in GROUPS:
            own = f"ml_assets.{name}.definitions"
            arguments = [part.replace(own, "ml_assets_tests.small_location") for part in arguments]
            environment |= {"SMALL_GROUP": name, "ML_ASSETS_SKIP_UNCHANGED": "false"}
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*within, *arguments], cwd=self.home, env=environment, stdout=log, stderr=log
            )

    def stop(self, *names: str) -> None:
        """Stop some services; all of them, if none is named."""
        stopped = [self.processes.pop(name) for name in names or list(self.processes)]
        for process in stopped:
            process.terminate()
        for process in stopped:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def kill(self, name: str) -> None:
        """Kill a service and the runs that it executes, as a container's end does."""
        server = self.processes.pop(name)
        threads = Path(f"/proc/{server.pid}/task").glob("*/children")
        runs = [int(child) for thread in threads for child in thread.read_text().split()]
        for process in (server.pid, *runs):
            os.kill(process, signal.SIGKILL)
        server.wait()

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

    def launch(
        self,
        job: str,
        tags: Mapping[str, str] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> str:
        """The id of a new run of a job, whose group its name begins with."""
        selector = {
            "repositoryLocationName": job.split("_", maxsplit=1)[0],
            "repositoryName": "__repository__",
            "jobName": job,
        }
        given = [{"key": key, "value": value} for key, value in (tags or {}).items()]
        return self.ask(_LAUNCH, selector=selector, tags=given, config=config or {})["launchRun"][
            "run"
        ]["runId"]

    def ended(self, run: str) -> str:
        """How a run ended, if it has."""
        status = self.ask(_STATUS, run=run)["runOrError"]["status"]
        return status if status in ENDED else ""

    def healthy(self, name: str) -> bool:
        """Whether the health check that the file has for a service succeeds."""
        _, *command = self.services[name]["healthcheck"]["test"]
        result = subprocess.run(
            command, check=False, capture_output=True, env=self.environment(name)
        )
        return result.returncode == 0

    def reexecute(self, *arguments: str) -> str:
        """What `python -m ml_assets.reexecute` prints."""
        result = subprocess.run(
            [sys.executable, "-m", "ml_assets.reexecute", *arguments],
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
            env=self.environment("webserver"),
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout.replace("\n", " ")

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """The instance of the daemon."""
        with (
            mock.patch.dict(os.environ, self.environment("daemon")),
            dg.DagsterInstance.get() as found,
        ):
            yield found


@contextmanager
def deployed(
    directory: Path, postgres: PostgresServer, *, small: bool = False
) -> Iterator[Deployment]:
    """All services, started in the order that the file demands; with small trainings, if asked."""
    postgres.execute("CREATE ROLE ml LOGIN SUPERUSER PASSWORD 'of-postgres'")
    statements = re.sub(r"--.*", "", (ROOT / "deploy" / "databases.sql").read_text())
    for statement in filter(str.strip, statements.split(";")):
        postgres.execute(statement)
    found = Deployment(directory, postgres, small=small)
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
