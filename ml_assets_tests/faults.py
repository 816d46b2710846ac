"""The fault matrix: one group is broken, and the other three must not notice.

python -m ml_assets_tests.faults                    every fault in every group
python -m ml_assets_tests.faults --groups power --faults "MLflow hangs"

The processes are those of the deployed form, with small trainings. In each round the schedules of
all groups are due, one group has a fault, and the daemon does the rest. Then the fault is removed.
"""

import argparse
import os
import re
import signal
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dagster._core.scheduler.instigation import ScheduleInstigatorData
from rich.console import Console

from ml_assets.cifar10 import data as cifar10
from ml_assets.demo import JOBS, latest_partitions
from ml_assets.mnist import data as mnist
from ml_assets.power import data as power
from ml_assets.resources.lakehouse import Lakehouse
from ml_assets_tests.deployment import ENDED, GROUPS, Deployment, deployed
from ml_assets_tests.postgres import PostgresServer, free_port, running_postgres
from ml_assets_tests.servers import echoing_server, failing_server, hanging_server

SCHEDULED = {group: JOBS[group][-1].name for group in GROUPS}
"""The scheduled job of each group."""
WITH_DATABASE = ["power", "tick"]
DAMAGED_FILES = {
    "cifar10": cifar10.FILE_NAME,
    "mnist": mnist.FILE_NAME,
    "power": power.ARCHIVE_NAME,
}
LIMIT_BYTES = 400 << 20
"""Enough for a code server, too little for a training."""
WAIT_SECONDS = 1200


@dataclass(frozen=True)
class Fault:
    """What goes wrong.

    Attributes:
        name: For people.
        says: What the web page must say of it, a regular expression.
        environment: Variables of the group's code server; names and values are filled in.
        limited: Its processes may not take more than `LIMIT_BYTES`.
        killed: The process of its run is killed.
        groups: Where it can happen.
    """

    name: str
    says: str
    environment: dict[str, str] = field(default_factory=dict)
    limited: bool = False
    killed: bool = False
    groups: list[str] = field(default_factory=lambda: GROUPS)


@dataclass(frozen=True)
class World:
    """What broken settings point at: places that answer badly, or not at all."""

    hanging: str
    failing: str
    garbage: str
    closed: str
    damaged: Path


@dataclass(frozen=True)
class Outcome:
    """What became of a round.

    Attributes:
        others: How the scheduled runs of the other groups ended.
        said: What the web page says of the fault.
        whole: Nothing half-written was left.
        mended: What put the group right.
    """

    others: dict[str, str]
    said: str
    whole: bool
    mended: str

    @property
    def survived(self) -> bool:
        """Only the broken group noticed, and it is well again."""
        ended = {*self.others.values(), self.mended.rsplit(": ")[-1]}
        return ended == {"SUCCESS"} and bool(self.said) and self.whole

    def row(self) -> str:
        """The same as cells of a table in Markdown."""
        ran = sum(status == "SUCCESS" for status in self.others.values())
        said = self.said.replace("|", "/")
        whole = "yes" if self.whole else "**no**"
        return f"{ran} of {len(self.others)} ran | {said:.160} | {whole} | {self.mended}"


FAULTS = [
    Fault("module does not import", "nonsense", {"{GROUP}_SOURCE": "nonsense"}),
    Fault(
        "database unreachable",
        "refused",
        {"LAKEHOUSE_CATALOG_URL": "postgresql://ml@{closed}/none"},
        groups=WITH_DATABASE,
    ),
    Fault(
        "MLflow hangs",
        "timed out",
        {"MLFLOW_TRACKING_URI": "{hanging}", "MLFLOW_HTTP_REQUEST_TIMEOUT": "2"},
    ),
    Fault("MLflow answers 500", "500 error", {"MLFLOW_TRACKING_URI": "{failing}"}),
    Fault(
        "source corrupt",
        "expected",
        {
            "{GROUP}_SOURCE": "{elsewhere}",
            "{GROUP}_DIRECTORY": "{damaged}/{group}",
            "{GROUP}_URL": "{garbage}/{{symbol}}/{{date}}.zip",
        },
    ),
    Fault("step killed (SIGKILL)", "exit code -9|SIGKILL", killed=True),
    Fault("memory limit", "[Mm]emory|alloc|exited with code|signal", limited=True),
]


class Matrix:
    """A deployment whose schedules can be made due, and whose groups can be broken."""

    def __init__(self, deployment: Deployment, world: World) -> None:
        self.deployment = deployment
        self.world = world
        self.deployment.wait(lambda: self.loaded() == {*GROUPS, "monitoring"})
        for group in WITH_DATABASE:
            tables, _ = JOBS[group]
            run = deployment.launch(tables.name, latest_partitions(group, tables.days))
            assert deployment.wait(lambda run=run: deployment.ended(run), WAIT_SECONDS) == "SUCCESS"

    def round(self, fault: Fault, group: str) -> Outcome:
        """Break a group while all schedules are due; see what happens, and mend it."""
        self.deployment.stop("daemon", group)
        self._make_due()
        before = self._rows(group)
        self.deployment.start(
            group,
            self._filled_in(fault.environment, group),
            ["prlimit", f"--data={LIMIT_BYTES}"] if fault.limited else (),
        )
        self.deployment.start("daemon")
        if fault.killed:
            self._kill_run(group)
        others = {
            other: self.deployment.wait(lambda other=other: self._ended(other), WAIT_SECONDS)
            for other in GROUPS
            if other != group
        }
        said = self.deployment.wait(lambda: self._said(group, fault.says), WAIT_SECONDS)
        if fault.killed:  # and taken up by the daemon
            mended = self.deployment.wait(lambda: self._ended(group), WAIT_SECONDS)
            return Outcome(others, said, self._whole(group), f"the daemon: {mended}")
        self.deployment.wait(lambda: self._ended(group) or group not in self.loaded(), WAIT_SECONDS)
        broken = self._rows(group)
        whole = self._whole(group)
        fired = bool(self._runs(group))
        self.deployment.stop(group)
        self.deployment.start(group)
        self.deployment.wait(lambda: self.deployment.healthy(group) and group in self.loaded())
        if fired:
            self.deployment.reexecute()
        mended = self.deployment.wait(
            lambda: self._ended(group) not in {"", "FAILURE"} and self._ended(group), WAIT_SECONDS
        )
        after = self._rows(group)
        whole &= all(rows in (before.get(name, 0), after[name]) for name, rows in broken.items())
        how = "python -m ml_assets.reexecute" if fired else "the schedule, late"
        return Outcome(others, said, whole, f"{how}: {mended}")

    def _filled_in(self, environment: dict[str, str], group: str) -> dict[str, str]:
        known = {
            **vars(self.world),
            "group": group,
            "GROUP": group.upper(),
            # Of files, a sensor starts the runs of ticks, and a damaged one it passes over.
            "elsewhere": "archive" if group == "tick" else "local",
        }
        return {name.format(**known): value.format(**known) for name, value in environment.items()}

    def loaded(self) -> set[str]:
        """The code locations that work."""
        return {
            name
            for name, state in self._locations().items()
            if state.get("__typename") == "RepositoryLocation"
        }

    def _locations(self) -> dict[str, dict[str, Any]]:
        """The state of each code location, with what is wrong with it."""
        query = """{ workspaceOrError { ... on Workspace { locationEntries { name
            locationOrLoadError { __typename ... on PythonError { message
                errorChain { error { message } } } } } } } }"""
        entries = self.deployment.ask(query)["workspaceOrError"]["locationEntries"]
        return {entry["name"]: entry["locationOrLoadError"] or {} for entry in entries}

    def _make_due(self) -> None:
        """Let the schedules of all groups be due once more, as after a night without a daemon."""
        with self.deployment.instance() as instance:
            for run in instance.get_runs():
                instance.delete_run(run.run_id)
            for state in instance.all_instigator_state():
                data = state.instigator_data
                if state.name not in SCHEDULED.values() or not isinstance(
                    data, ScheduleInstigatorData
                ):
                    continue
                instance.purge_ticks(state.instigator_origin_id, state.selector_id, time.time())
                ago = timedelta(days=7 if state.name.endswith("weekly") else 1)
                since = (datetime.now(UTC) - ago).timestamp()
                instance.update_instigator_state(
                    state.with_data(ScheduleInstigatorData(data.cron_schedule, since))
                )

    def _runs(self, group: str) -> list[dict[str, Any]]:
        """The scheduled runs of a group and what came of them, the newest first."""
        query = """query ($job: String!) { runsOrError(filter: {pipelineName: $job}) {
            ... on Runs { results { runId status tags { key value } } } } }"""
        runs = self.deployment.ask(query, job=SCHEDULED[group])["runsOrError"]["results"]
        for run in runs:
            run["tags"] = {tag["key"]: tag["value"] for tag in run["tags"]}
        return runs

    def _ended(self, group: str) -> str:
        """How the latest run of a group ended, if it has and will not be tried again."""
        for run in self._runs(group)[:1]:
            again = run["status"] == "FAILURE" and run["tags"].get("dagster/will_retry") == "true"
            if run["status"] in ENDED and not again:
                return run["status"]
        return ""

    def _said(self, group: str, says: str) -> str:
        """What the pages of a group's location and runs say, from where it fits `says` on."""
        query = """query ($run: ID!) { logsForRun(runId: $run) { ... on EventConnection { events {
            ... on MessageEvent { message }
            ... on ExecutionStepFailureEvent { failureMetadata { description }
                error { message cause { message } errorChain { error { message } } } }
            ... on RunFailureEvent { error { message } } } } } }"""
        texts = [*_texts(self._locations()[group])]
        for run in self._runs(group):
            texts += _texts(self.deployment.ask(query, run=run["runId"]))
        for text in texts:
            if re.search(says, text):
                line = next(line for line in text.splitlines() if re.search(says, line))
                return line.strip().replace(str(self.deployment.directory), "…")
        return ""

    def _kill_run(self, group: str) -> None:
        """Kill the process of a group's run after its first steps."""
        query = """query ($run: ID!) { runOrError(runId: $run) { ... on Run {
            stats { ... on RunStatsSnapshot { stepsSucceeded } } } } }"""

        def under_way() -> bool:
            return any(
                self.deployment.ask(query, run=run["runId"])["runOrError"]["stats"][
                    "stepsSucceeded"
                ]
                for run in self._runs(group)
            )

        self.deployment.wait(under_way, WAIT_SECONDS)
        threads = Path(f"/proc/{self.deployment.processes[group].pid}/task").glob("*/children")
        for child in " ".join(thread.read_text() for thread in threads).split():
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(int(child), signal.SIGKILL)

    def _whole(self, group: str) -> bool:
        """Whether every stored value can be read."""
        stored = self.deployment.directory / "var/lib/ml_assets/artifacts" / group
        return all(zipfile.ZipFile(path).testzip() is None for path in stored.rglob("*.zip"))

    def _rows(self, group: str) -> dict[str, int]:
        """How many rows each table of a group has from yesterday on."""
        if group not in WITH_DATABASE:
            return {}
        environment = self.deployment.environment(group)
        lakehouse = Lakehouse(
            catalog_uri=environment["LAKEHOUSE_CATALOG_URL"],
            warehouse=environment["ML_ASSETS_LAKEHOUSE_WAREHOUSE_URL"],
        )
        start = datetime.combine(datetime.now(UTC).date(), datetime.min.time(), UTC)
        start -= timedelta(days=1)
        return {
            table: lakehouse.read(table, start, start + timedelta(days=4)).num_rows
            for table in lakehouse.tables(group)
        }


def _texts(answer: dict[str, Any]) -> Iterator[str]:
    """All messages and descriptions in what the web server answered."""
    for name, value in answer.items():
        if name in {"message", "description"} and value:
            yield value
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, dict):
                yield from _texts(part)


@contextmanager
def bad_world(directory: Path) -> Iterator[World]:
    """Places that answer badly, or not at all."""

    for group, name in DAMAGED_FILES.items():
        (directory / group).mkdir(parents=True)
        (directory / group / name).write_bytes(b"PK\x03\x04 cut short")
    with hanging_server() as hanging, failing_server() as failing, echoing_server() as garbage:
        closed = f"127.0.0.1:{free_port()}"
        yield World(hanging, failing, garbage, closed, damaged=directory)


@contextmanager
def matrix(directory: Path, postgres: PostgresServer) -> Iterator[Matrix]:
    """A deployment on a server, ready to be broken."""
    with (
        bad_world(directory / "bad") as world,
        deployed(directory, postgres, small=True) as deployment,
    ):
        yield Matrix(deployment, world)


def main() -> int:
    """Play the rounds that the command line names, and print what became of them."""
    options = argparse.ArgumentParser(prog="python -m ml_assets_tests.faults", description=__doc__)
    names = [fault.name for fault in FAULTS]
    options.add_argument("--groups", nargs="+", choices=GROUPS, default=GROUPS)
    options.add_argument("--faults", nargs="+", choices=names, default=names)
    arguments = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and stop what was started
    console = Console()
    print("| fault | group | others | the web page says | nothing half-written | put right by |")
    print("|---|---|---|---|---|---|", flush=True)
    survived = True
    with (
        tempfile.TemporaryDirectory() as directory,
        running_postgres() as postgres,
        matrix(Path(directory), postgres) as found,
    ):
        for fault in FAULTS:
            for group in fault.groups:
                if fault.name in arguments.faults and group in arguments.groups:
                    outcome = found.round(fault, group)
                    survived &= outcome.survived
                    print(f"| {fault.name} | {group} | {outcome.row()} |", flush=True)
    console.print("every group survived" if survived else "[red]not every group survived")
    return 0 if survived else 1


if __name__ == "__main__":
    sys.exit(main())
