"""What the run launcher takes for proof that a run's process is gone, and what it then does."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import grpc
import pytest
import yaml
from dagster._core.launcher import WorkerStatus
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.storage.tags import GRPC_INFO_TAG, MAX_RETRIES_TAG, WILL_RETRY_TAG
from dagster._grpc.__generated__ import dagster_api_pb2
from dagster._grpc.__generated__.dagster_api_pb2_grpc import (
    DagsterApiServicer,
    add_DagsterApiServicer_to_server,
)
from dagster._grpc.types import CanCancelExecutionResult
from dagster._serdes import serialize_value
from dagster_graphql.test.utils import define_out_of_process_context, execute_dagster_graphql

from ml_assets import run_launcher, run_processes
from ml_assets.build import EXECUTOR
from ml_assets.run_launcher import INTERRUPTED_TAG, RunLauncher, process_file
from ml_assets_tests.postgres import free_port

ROOT = Path(__file__).parents[1]
REPOSITORY = RemoteRepositoryOrigin(
    GrpcServerCodeLocationOrigin("127.0.0.1", port=1, location_name="mnist"), "__repository__"
)
STARTED, STARTING, CANCELING = (
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.CANCELING,
)


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """Configured as in the project."""
    settings = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    del settings["event_log_storage"]
    monkeypatch.setattr(run_launcher, "SETTLING", 0.0)
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides=settings) as found:
        yield found


def launcher(instance: dg.DagsterInstance) -> RunLauncher:
    found = instance.run_launcher
    assert isinstance(found, RunLauncher)
    return found


def run_of(
    instance: dg.DagsterInstance,
    status: dg.DagsterRunStatus = STARTED,
    *,
    remote: bool = True,
    **address: object,
) -> dg.DagsterRun:
    tags = {GRPC_INFO_TAG: json.dumps(address)} if address else {}
    origin = RemoteJobOrigin(REPOSITORY, "mnist_weekly") if remote else None
    run = dg.DagsterRun("mnist_weekly", status=status, tags=tags, remote_job_origin=origin)
    return instance.add_run(run)


def mark(path: Path, boot: str = "", seconds_ago: float = 0.0) -> None:
    """What a process leaves that was killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"boot": boot or run_processes._boot(), "pid": 1}))
    os.utime(path, (time.time() - seconds_ago,) * 2)


def health(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    assert launcher(instance).supports_check_run_worker_health
    found = launcher(instance).check_run_worker_health(run)
    assert found.status in {WorkerStatus.RUNNING, WorkerStatus.FAILED}
    return found.msg or ""


@contextmanager
def code_server(*, executes: bool, seconds: float = 0.0) -> Iterator[int]:
    """The port of a server that is asked whether it executes a run."""

    class Server(DagsterApiServicer):
        def CanCancelExecution(self, *_: object) -> dagster_api_pb2.CanCancelExecutionReply:  # noqa: N802
            time.sleep(seconds)
            answer = serialize_value(CanCancelExecutionResult(can_cancel=executes))
            return dagster_api_pb2.CanCancelExecutionReply(
                serialized_can_cancel_execution_result=answer
            )

        def Ping(self, *_: object) -> dagster_api_pb2.PingReply:  # noqa: N802
            return dagster_api_pb2.PingReply(echo="")

    server = grpc.server(ThreadPoolExecutor(1))
    add_DagsterApiServicer_to_server(Server(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(0)


class TestLock:
    """Of a run that has begun with its steps: the lock decides, nobody is asked."""

    def test_a_process_that_holds_its_lock_lives(self, instance: dg.DagsterInstance) -> None:
        run = run_of(instance, host="127.0.0.1", port=free_port())
        with run_processes.marked_alive(process_file(instance, run.run_id)):
            assert health(instance, run) == ""
        assert not process_file(instance, run.run_id).exists()

    def test_a_stopped_process_lives(self, tmp_path: Path) -> None:
        path = tmp_path / "run"
        program = f"""if True:
            import pathlib, time
            from ml_assets.run_processes import marked_alive
            with marked_alive(pathlib.Path({str(path)!r})):
                print("marked", flush=True)
                time.sleep(60)"""
        command = [sys.executable, "-c", program]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
            assert process.stdout
            process.stdout.readline()
            process.send_signal(signal.SIGSTOP)
            assert run_processes.lives(path) is True
            process.kill()
            process.wait()
            assert run_processes.lives(path) is False

    def test_a_free_lock_is_proof(self, instance: dg.DagsterInstance) -> None:
        with code_server(executes=True) as port:
            run = run_of(instance, host="127.0.0.1", port=port)
            mark(process_file(instance, run.run_id))
            assert "no longer exists" in health(instance, run)

    @pytest.mark.parametrize(("seconds_ago", "lives"), [(5, True), (90, False)])
    def test_another_boot_may_be_another_host(
        self, tmp_path: Path, seconds_ago: float, lives: bool
    ) -> None:
        mark(tmp_path / "run", "another boot", seconds_ago)
        assert run_processes.lives(tmp_path / "run") is lives

    def test_what_cannot_be_read_is_no_proof(self, tmp_path: Path) -> None:
        assert run_processes.lives(tmp_path / "missing") is None
        (tmp_path / "empty").touch()
        assert run_processes.lives(tmp_path / "empty") is None

    def test_where_nothing_can_be_locked_runs_are_executed_all_the_same(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError("no locks here")

        monkeypatch.setattr(fcntl, "flock", refuse)
        with run_processes.marked_alive(tmp_path / "run"):
            assert run_processes.lives(tmp_path / "run") is None


class TestServer:
    """Of a run without a lock: it is still starting, or an earlier release has launched it."""

    def test_a_server_that_executes_it(self, instance: dg.DagsterInstance) -> None:
        with code_server(executes=True) as port:
            assert health(instance, run_of(instance, host="127.0.0.1", port=port)) == ""

    def test_a_server_that_does_not_know_it(self, instance: dg.DagsterInstance) -> None:
        with code_server(executes=False) as port:
            run = run_of(instance, host="127.0.0.1", port=port)
            assert "started anew" in health(instance, run)

    def test_a_server_that_is_slow(
        self, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(run_launcher, "TIMEOUT", 1)
        with code_server(executes=False, seconds=2) as port:
            assert health(instance, run_of(instance, host="127.0.0.1", port=port)) == ""

    def test_a_port_that_refuses(self, instance: dg.DagsterInstance) -> None:
        run = run_of(instance, host="127.0.0.1", port=free_port())
        assert "no longer exists" in health(instance, run)

    def test_a_socket_that_is_gone(self, instance: dg.DagsterInstance, tmp_path: Path) -> None:
        run = run_of(instance, host="localhost", socket=str(tmp_path / "gone"))
        assert "no longer exists" in health(instance, run)

    def test_a_socket_that_is_served_tells_nothing_of_earlier_servers(
        self, instance: dg.DagsterInstance, tmp_path: Path
    ) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(tmp_path / "socket"))
            server.listen()
            run = run_of(instance, host="localhost", socket=str(tmp_path / "socket"))
            assert health(instance, run) == ""

    def test_a_host_that_is_not_known_here(self, instance: dg.DagsterInstance) -> None:
        assert health(instance, run_of(instance, host="another-host.invalid", port=4001)) == ""

    def test_a_run_of_a_command_line_somewhere(self, instance: dg.DagsterInstance) -> None:
        assert health(instance, run_of(instance)) == ""

    def test_a_run_that_has_only_just_been_launched(
        self, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(run_launcher, "SETTLING", 20.0)
        assert health(instance, run_of(instance, host="127.0.0.1", port=free_port())) == ""


def fail(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRun:
    """What the run monitor does."""
    mark(process_file(instance, run.run_id))
    assert health(instance, run)
    instance.report_run_failed(run)
    found = instance.get_run_by_id(run.run_id)
    assert found
    return found


def test_interruptions_do_not_count_as_failures(instance: dg.DagsterInstance) -> None:
    first = fail(instance, run_of(instance))
    assert first.tags["dagster/will_retry"] == "true"
    assert first.tags[INTERRUPTED_TAG] == first.run_id
    inherited = {MAX_RETRIES_TAG: first.tags[MAX_RETRIES_TAG]}
    group = {"dagster/root_run_id": first.run_id, "dagster/parent_run_id": first.run_id}
    again = dg.DagsterRun(
        "mnist_weekly",
        status=STARTED,
        tags=inherited | group,
        root_run_id=first.run_id,
        parent_run_id=first.run_id,
        remote_job_origin=RemoteJobOrigin(REPOSITORY, "mnist_weekly"),
    )
    assert fail(instance, instance.add_run(again)).tags["dagster/will_retry"] == "true"


def test_a_run_from_the_command_line_has_failed(instance: dg.DagsterInstance) -> None:
    run = fail(instance, run_of(instance, remote=False))
    assert run.tags["dagster/will_retry"] == "false"


def test_what_was_starting_or_being_cancelled_is_ended(instance: dg.DagsterInstance) -> None:
    gone = {"host": "127.0.0.1", "port": free_port()}
    starting, canceling = run_of(instance, STARTING, **gone), run_of(instance, CANCELING, **gone)
    queued = run_of(instance, dg.DagsterRunStatus.QUEUED)
    with code_server(executes=True) as port:
        alive = run_of(instance, STARTING, host="127.0.0.1", port=port)
        launcher(instance).end_lost_runs()
    found = [instance.get_run_by_id(run.run_id) for run in (starting, canceling, queued, alive)]
    assert [run.status.value for run in found if run] == [
        "FAILURE",
        "CANCELED",
        "QUEUED",
        "STARTING",
    ]
    assert found[0]
    assert found[0].tags["dagster/will_retry"] == "true"


def test_what_could_not_be_reexecuted_is_when_its_code_server_is_back(
    instance: dg.DagsterInstance,
) -> None:
    address = {"host": "127.0.0.1", "port": free_port()}
    run = fail(instance, run_of(instance, **address))
    instance.add_run_tags(run.run_id, {WILL_RETRY_TAG: "false"})  # as Dagster does
    with code_server(executes=False) as port:
        for reachable in (False, True):
            if reachable:
                address["port"] = port
                instance.add_run_tags(run.run_id, {GRPC_INFO_TAG: json.dumps(address)})
            launcher(instance).end_lost_runs()
            found = instance.get_run_by_id(run.run_id)
            assert found
            assert found.tags[WILL_RETRY_TAG] == str(reachable).lower()


def test_what_a_killed_process_left_is_removed_when_its_run_has_ended(
    instance: dg.DagsterInstance,
) -> None:
    run, alive = run_of(instance), run_of(instance)
    mark(process_file(instance, alive.run_id))
    fail(instance, run)
    launcher(instance).end_lost_runs()
    assert [path.name for path in process_file(instance, "x").parent.iterdir()] == [alive.run_id]


def terminate(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """What the button *Terminate* gets."""
    mutation = """mutation ($run: String!) { terminateRun(runId: $run) { __typename } }"""
    with define_out_of_process_context(__file__, "repository", instance) as context:
        answer = execute_dagster_graphql(context, mutation, {"run": run.run_id})
    return answer.data["terminateRun"]["__typename"]


@dg.repository
def repository() -> list[object]:
    return []


def test_a_run_whose_process_is_gone_is_terminated_at_once(
    instance: dg.DagsterInstance,
) -> None:
    run = run_of(instance, host="127.0.0.1", port=free_port())
    assert terminate(instance, run) == "TerminateRunSuccess"
    found = instance.get_run_by_id(run.run_id)
    assert found
    assert found.status == dg.DagsterRunStatus.CANCELED


def test_where_the_server_cannot_be_asked_terminating_fails_with_its_reason(
    instance: dg.DagsterInstance,
) -> None:
    run = run_of(instance, host="another-host.invalid", port=4001)
    assert terminate(instance, run) == "TerminateRunFailure"
    messages = [entry.user_message or entry.message for entry in instance.all_logs(run.run_id)]
    assert any("could not be asked" in message for message in messages)


def test_a_process_without_its_code_server_stops(tmp_path: Path) -> None:
    """A training would otherwise go on beside its own re-execution."""
    path = tmp_path / "run"
    program = f"""if True:
        import multiprocessing, pathlib, time
        from ml_assets.run_processes import marked_alive
        def work():
            with marked_alive(pathlib.Path({str(path)!r})):
                time.sleep(60)
        if __name__ == "__main__":
            process = multiprocessing.get_context("fork").Process(target=work)
            process.start()
            process.join()"""
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) as server:
        end = time.monotonic() + 60
        while run_processes.lives(path) is None and time.monotonic() < end:
            time.sleep(0.1)
        assert run_processes.lives(path)
        server.kill()
    while run_processes.lives(path) and time.monotonic() < end:
        time.sleep(0.1)
    assert run_processes.lives(path) is False


def test_threads_of_a_run_end_with_it(tmp_path: Path) -> None:
    with run_processes.marked_alive(tmp_path / "run"):
        pass
    deadline = time.monotonic() + 10
    while any(thread.name == "run-process" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def sleeper() -> dg.JobDefinition:
    """A step that is interrupted, in a job as the groups have it."""

    @dg.asset(retry_policy=dg.RetryPolicy(max_retries=2, delay=60))
    def interrupted(context: dg.AssetExecutionContext) -> None:
        if context.run.tags.get("cancelled"):
            context.instance.report_run_canceling(context.run)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    job = dg.define_asset_job("sleeper", dg.AssetSelection.all())
    defs = dg.Definitions(assets=[interrupted], jobs=[job], executor=EXECUTOR)
    return defs.resolve_job_def("sleeper")


@pytest.mark.parametrize(
    ("tags", "status"),
    [({}, dg.DagsterRunStatus.FAILURE), ({"cancelled": "x"}, dg.DagsterRunStatus.CANCELED)],
)
def test_an_interrupt_ends_the_run_and_is_not_tried_again_in_a_process_that_ends(
    instance: dg.DagsterInstance, tags: dict[str, str], status: dg.DagsterRunStatus
) -> None:
    began = time.monotonic()
    with dg.execute_job(dg.reconstructable(sleeper), instance, tags=tags) as result:
        assert time.monotonic() - began < 50
        run = instance.get_run_by_id(result.run_id)
    assert run
    assert run.status == status
    assert (MAX_RETRIES_TAG in run.tags) == (status == dg.DagsterRunStatus.FAILURE)
    assert not process_file(instance, run.run_id).exists()
