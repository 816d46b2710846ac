"""Runs a run in this process, or in one of its own that is killed.

A process of its own for each run, as in production, would import TensorFlow a hundred times.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster._core.execution.api import execute_run
from dagster._core.launcher import LaunchRunContext, RunLauncher
from dagster._serdes import ConfigurableClass
from dagster._serdes.config_class import ConfigurableClassData
from dagster._utils.hosted_user_process import recon_job_from_origin

VICTIMS: dict[str, int] = {}
"""How many of a group's next runs are killed when their training begins."""


class Launcher(RunLauncher, ConfigurableClass):
    """Named in the simulation's `dagster.yaml`."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        self._inst_data = inst_data
        super().__init__()

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        return self._inst_data

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData, _: Mapping[str, Any]
    ) -> "Launcher":
        return cls(inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        run = context.dagster_run
        group = run.remote_job_origin.location_name if run.remote_job_origin else ""
        if VICTIMS.get(group):
            VICTIMS[group] -= 1
            self._kill(run, group)
        else:
            execute_run(recon_job_from_origin(context.job_code_origin), run, self._instance)

    def _kill(self, run: dg.DagsterRun, group: str) -> None:
        """Run it in a process that kills itself, and notice it as Dagster's code server does."""
        # The simulation's time, which is that of its clock.
        command = [sys.executable, "-m", __name__, run.run_id, group, str(time.time())]
        ended = subprocess.run(command, check=False, capture_output=True, text=True)
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        self._instance.report_engine_event(
            f"Run execution process for {run.run_id} unexpectedly exited with {ended.returncode}.",
            self._instance.get_run_by_id(run.run_id),
        )
        self._instance.report_run_failed(self._instance.get_run_by_id(run.run_id))

    def terminate(self, run_id: str) -> bool:
        raise NotImplementedError


def main(run_id: str, group: str, now: str) -> None:
    """Execute a run until its training begins, and die."""
    import importlib

    from ml_assets_tests.month.clock import Clock
    from ml_assets_tests.month.small import shrink

    def die(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    shrink()
    importlib.import_module(f"ml_assets.{group}.assets").train = die
    with (
        Clock(datetime.fromtimestamp(float(now), UTC)).running(),
        dg.DagsterInstance.get() as instance,
    ):
        run = instance.get_run_by_id(run_id)
        execute_run(recon_job_from_origin(run.job_code_origin), run, instance)


if __name__ == "__main__":
    main(*sys.argv[1:])
