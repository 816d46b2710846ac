"""Dagster's run launcher, which also knows whether the process of a run still lives.

Configured in both `dagster.yaml`. Dagster's own cannot be asked: a run whose process died with its
code server would stay "Started" for twelve hours, and hold its place in the pool.
"""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from dagster import DagsterRunStatus

from ml_assets import run_processes
from ml_assets.dagster_internals.runs import (
    AUTO_RETRY_RUN_ID_TAG,
    GRPC_INFO_TAG,
    MAX_RETRIES_TAG,
    WILL_RETRY_TAG,
    CanCancelExecutionRequest,
    CanCancelExecutionResult,
    CheckRunHealthResult,
    DagsterExecutionInterruptedError,
    DagsterGrpcClient,
    DagsterUserCodeProcessError,
    DagsterUserCodeUnreachableError,
    DefaultRunLauncher,
    WorkerStatus,
    deserialize_value,
)

INTERRUPTED_TAG = "ml_assets/interrupted"
"""Its own id, on a run whose process was stopped or vanished; re-executions inherit tags."""
SETTLING = 20.0
"""Seconds after its last change of state in which a run may not be found anywhere."""
TIMEOUT = 5
"""Seconds that a code server has to answer: who is late is not dead."""
RELOAD_TIMEOUT = 30
"""Seconds that a code server has to load its code anew."""
RECENT = timedelta(hours=1)
"""How long an interrupted run waits for its code server."""
MOST_EXECUTIONS = 10
"""How often a run is executed again after interruptions before a person has to look at it."""


class RunLauncher(DefaultRunLauncher):
    """Launches runs as Dagster does; ends those whose process is gone."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Whether the run monitor may ask."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the process of a started run lives; in doubt it does."""
        if reason := self.why_lost(run):
            allow_reexecution(self._instance, run)
            return CheckRunHealthResult(WorkerStatus.FAILED, reason)
        return CheckRunHealthResult(WorkerStatus.RUNNING)

    def terminate(self, run_id: str) -> bool:
        """Terminate a run; at once, if its process is gone."""
        run = self._instance.get_run_by_id(run_id)
        if run and not run.is_finished and (reason := self.why_lost(run)):
            self._instance.report_run_canceled(run, reason)
            return True
        try:
            return super().terminate(run_id)
        except (DagsterUserCodeUnreachableError, DagsterUserCodeProcessError) as error:
            self._instance.report_engine_event(
                f"The code server of this run could not be asked to end it: {error}", run
            )
            return False

    def end_lost_runs(self) -> None:
        """End the runs whose process died while they were starting or being cancelled.

        The run monitor asks for the health of started runs only.
        """
        statuses = [DagsterRunStatus.STARTING, DagsterRunStatus.CANCELING]
        for run in self._instance.get_runs(dg.RunsFilter(statuses=statuses)):
            reason = self.why_lost(run)
            if reason and run.status == DagsterRunStatus.CANCELING:
                self._instance.report_run_canceled(run, reason)
            elif reason:
                allow_reexecution(self._instance, run)
                self._instance.report_run_failed(run, reason)
        self._ask_again_for_reexecutions()
        for path in process_file(self._instance, "*").parent.glob("*-*"):
            ended = self._instance.get_run_by_id(path.stem)
            if not ended or ended.is_finished:  # its process was killed
                path.unlink(missing_ok=True)

    def _ask_again_for_reexecutions(self) -> None:
        """Have the daemon re-execute what it could not, because the code server was down, too.

        Dagster tries once. A server of `dagster dev` that was killed by itself is not started again
        unless somebody asks for a reload, as here.
        """
        runs = self._instance.get_runs(
            dg.RunsFilter(
                statuses=[DagsterRunStatus.FAILURE],
                tags={WILL_RETRY_TAG: "false"},
                updated_after=datetime.now(UTC) - RECENT,
            )
        )
        for run in runs:
            address = json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))
            mine = run.tags.get(INTERRUPTED_TAG) == run.run_id
            if not mine or AUTO_RETRY_RUN_ID_TAG in run.tags or not address or _refused(address):
                continue
            group = self._instance.get_run_group(run.run_id)
            if not group or len(list(group[1])) > int(run.tags[MAX_RETRIES_TAG]):
                continue
            client = _client(address)
            try:
                client.ping("")
            except DagsterUserCodeUnreachableError:
                if "socket" in address:
                    client.reload_code(RELOAD_TIMEOUT)
            else:
                self._instance.report_run_failed(run, "its code server is there again")

    def why_lost(self, run: dg.DagsterRun) -> str:
        """How it is known that the process of an unfinished run is gone; empty if it is not."""
        if run.status in {DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED}:
            return ""
        lives = run_processes.lives(process_file(self._instance, run.run_id))
        if lives is not None:
            return "" if lives else "the process of this run no longer exists"
        # It has not come so far, or belongs to an earlier release of this project.
        record = self._instance.get_run_record_by_id(run.run_id)
        settled = record and time.time() - record.update_timestamp.timestamp() > SETTLING
        address = json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))
        # One that was started on a command line has no address; it may be on another host.
        return _why_not_served(address, run.run_id) if settled and address else ""


def process_file(instance: dg.DagsterInstance, run_id: str) -> Path:
    """The file that the process of a run holds locked."""
    return Path(instance.root_directory) / "run_processes" / run_id


@contextmanager
def seen_to_be_alive(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Iterator[None]:
    """What surrounds the steps of each run, in the process that executes it."""
    try:
        with run_processes.marked_alive(process_file(instance, run.run_id)):
            yield
    except (DagsterExecutionInterruptedError, KeyboardInterrupt):
        now = instance.get_run_by_id(run.run_id)
        if now and now.status == DagsterRunStatus.STARTED:  # nobody has it cancelled
            allow_reexecution(instance, run)
        raise


def allow_reexecution(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Let the daemon re-execute an interrupted run: an interruption is not one of its failures.

    A run from the command line has no code location to be launched in; it counts as failed.
    """
    if not run.remote_job_origin:
        instance.add_run_tags(run.run_id, {MAX_RETRIES_TAG: "0"})
        return
    allowed = int(run.tags.get(MAX_RETRIES_TAG, instance.run_retries_max_retries))
    group = instance.get_run_group(run.run_id)
    executions = len(list(group[1])) if group else 1
    if executions <= MOST_EXECUTIONS:
        allowed = max(allowed + 1, executions)
    tags = {MAX_RETRIES_TAG: str(allowed), INTERRUPTED_TAG: run.run_id}
    instance.add_run_tags(run.run_id, tags)


def _why_not_served(address: dict[str, Any], run_id: str) -> str:
    """How it is known that no code server at an address executes a run; empty if one may."""
    if _refused(address):
        return "the code server of this run no longer exists"
    # A socket's server passes the question on to its newest server, which need not be the run's.
    if "port" in address and _is_unknown(address, run_id):
        return "the code server of this run has been started anew"
    return ""


def _refused(address: dict[str, Any]) -> bool:
    """Whether there certainly is no server at an address. A silent one may be busy."""
    path, port = address.get("socket"), address.get("port")
    try:
        if path:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(TIMEOUT)
                client.connect(str(path))
        else:
            socket.create_connection((address["host"], int(str(port))), TIMEOUT).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    except OSError:
        return False
    return False


def _is_unknown(address: dict[str, Any], run_id: str) -> bool:
    """Whether the code server answers that it does not execute the run."""
    client = _client(address)
    try:
        answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run_id), TIMEOUT)
    except DagsterUserCodeUnreachableError:
        return False
    return not deserialize_value(answer, CanCancelExecutionResult).can_cancel


def _client(address: dict[str, Any]) -> DagsterGrpcClient:
    return DagsterGrpcClient(
        host=address["host"],
        port=address.get("port"),
        socket=address.get("socket"),
        use_ssl=bool(address.get("use_ssl")),
    )
