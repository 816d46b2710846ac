"""Dagster as it is deployed, in one process: storage, code locations, and every daemon in turn."""

import asyncio
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import (
    InProcessTestWorkspaceLoadTarget,
    create_test_daemon_workspace_context,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._daemon.asset_daemon import AssetDaemon
from dagster._daemon.auto_run_reexecution.event_log_consumer import EventLogConsumerDaemon
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._daemon.freshness import FreshnessDaemon
from dagster._daemon.monitoring import execute_run_monitoring_iteration
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import (
    QueuedRunCoordinatorDaemon,
)
from dagster._daemon.sensor import execute_sensor_iteration
from dagster._scheduler.scheduler import launch_scheduled_runs
from dagster_graphql.schema import create_schema

from ml_assets_tests.month.clock import Clock
from ml_assets_tests.month.small import ROOT

LAUNCHER = {"module": "ml_assets_tests.month.launcher", "class": "Launcher"}
UNFINISHED = [
    dg.DagsterRunStatus(name)
    for name in ("QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING", "MANAGED")
]
_PATIENCE = 40
LOGGER = logging.getLogger("dagster.month")


class House:
    """The instance, the code locations and the daemons; runs end before a daemon goes on."""

    def __init__(self, clock: Clock, context: WorkspaceProcessContext) -> None:
        self.clock, self.context, self.instance = clock, context, context.instance
        self._schema = create_schema()
        self._iteration_times: dict[str, Any] = {}
        self._assets = AssetDaemon(settings={}, pre_sensor_interval_seconds=30)
        self._queue = QueuedRunCoordinatorDaemon(interval_seconds=5)
        self._retries = EventLogConsumerDaemon()
        self._freshness = FreshnessDaemon()

    def ask(self, _url: str, query: str, **variables: Any) -> dict[str, Any]:
        """What the web server would answer; `ml_assets.reexecute.ask` without the HTTP."""
        answer = asyncio.run(
            self._schema.execute_async(
                query,
                context_value=self.context.create_request_context(),
                variable_values=variables,
            )
        )
        assert not answer.errors, answer.errors
        return answer.data

    def settle(self) -> None:
        """Let the daemons work until there is nothing left to do, and the alerts are told."""
        for _ in range(_PATIENCE):
            self._turn()
            if not self._busy():
                return
        raise TimeoutError(f"after {_PATIENCE} turns of the daemons there still is work")

    def _busy(self) -> bool:
        backfills = self.instance.get_backfills(
            filters=BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])
        )
        unfinished = self.instance.get_runs(dg.RunsFilter(statuses=UNFINISHED), limit=1)
        return bool(backfills or unfinished)

    def _turn(self) -> None:
        """Each daemon once, half a minute after the last time; sensors last, to tell the rest."""
        self.clock.advance(timedelta(seconds=31))
        context = self.context
        _all(
            launch_scheduled_runs(
                context,
                LOGGER,
                self.clock.now(),
                self._iteration_times,
                max_catchup_runs=self.instance.scheduler.max_catchup_runs,
            )
        )
        self._assets._run_iteration_impl(context, None, {}, {})
        _all(execute_backfill_iteration(context, LOGGER))
        _all(self._queue.run_iteration(context))
        _all(execute_run_monitoring_iteration(context, LOGGER))
        _all(self._retries.run_iteration(context))
        _all(self._freshness.run_iteration(context))
        _all(execute_sensor_iteration(context, LOGGER, None, None))


def _all(iteration: Any) -> None:
    for error in iteration:
        assert error is None or not hasattr(error, "to_string"), error.to_string()


@contextmanager
def opened(home: Path, clock: Clock) -> Iterator[House]:
    """The house on the project's `dagster.yaml` and `workspace.yaml`."""
    settings = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    settings["run_launcher"] = LAUNCHER
    (home / "data" / "dagster" / "dagster.yaml").write_text(yaml.safe_dump(settings))
    modules = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    origins = [
        InProcessCodeLocationOrigin(
            LoadableTargetOrigin(
                executable_path=sys.executable,
                module_name=entry["python_module"]["module_name"],
                working_directory=str(ROOT),
            ),
            location_name=entry["python_module"]["location_name"],
        )
        for entry in modules
    ]
    with (
        dg.DagsterInstance.get() as instance,
        create_test_daemon_workspace_context(
            InProcessTestWorkspaceLoadTarget(origins), instance
        ) as context,
    ):
        instance.event_log_storage.set_concurrency_slots("training", 1)
        yield House(clock, context)
