"""The tables of `tick` on files, as a code location of their own, and what carries out its runs.

python -m ml_assets_tests.tick.range_location RUN_ID    carry it out, and die when a day is cleaned
"""

import os
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.execution.api import execute_run
from dagster._core.launcher import LaunchRunContext
from dagster._utils.hosted_user_process import recon_job_from_origin

from ml_assets.resources.ticks import FileTicks
from ml_assets.tick import assets
from ml_assets.tick.definitions import ASSETS, CHECKS
from ml_assets_tests.month import launcher
from ml_assets_tests.tick.group import NAMES, build

HOME, DIES_AT = "TICK_RANGES_HOME", "TICK_RANGES_DIES_AT"
"""Variables: where everything is, and the day whose ticks kill the next run's process."""


@dg.definitions
def location() -> dg.Definitions:
    """On the files in `inbox`."""
    home = Path(os.environ[HOME])
    source = FileTicks(directory=str(home / "inbox"))
    resources = build(home, home, dg.DagsterInstance.ephemeral(), source).resources
    # Each day of a backfill asks for that day and no other.
    tables = [
        asset.map_asset_specs(
            lambda spec: spec.replace_attributes(deps=[dep.asset_key for dep in spec.deps])
        )
        for asset in ASSETS
        if asset.key.path[-1] in NAMES
    ]
    keys = {asset.key for asset in tables}
    checks = [check for check in CHECKS if next(iter(check.check_keys)).asset_key in keys]
    return dg.Definitions(
        assets=tables,
        asset_checks=checks,
        resources=resources,
        executor=dg.in_process_executor,
    )


class Launcher(launcher.Launcher):
    """Runs a run in this process, or in one of its own where it is to die."""

    def launch_run(self, context: LaunchRunContext) -> None:
        """Execute it to its end."""
        run = context.dagster_run
        if DIES_AT in os.environ:
            command = [sys.executable, "-m", __name__, run.run_id]
            ended = subprocess.run(command, check=False, capture_output=True, text=True)
            assert ended.returncode == -signal.SIGKILL, ended.stderr
            self._instance.report_run_failed(self._instance.get_run_by_id(run.run_id))
        else:
            execute_run(recon_job_from_origin(context.job_code_origin), run, self._instance)


def main(run_id: str) -> None:
    """Carry a run out until the day comes."""
    clean = assets.data.clean

    def die(raw: Any, start: datetime, end: datetime, **rest: Any) -> Any:
        if str(start.date()) == os.environ[DIES_AT]:
            os.kill(os.getpid(), signal.SIGKILL)
        return clean(raw, start, end, **rest)

    assets.data.clean = die  # type: ignore[assignment]
    with dg.DagsterInstance.get() as instance:
        run = instance.get_run_by_id(run_id)
        execute_run(recon_job_from_origin(run.job_code_origin), run, instance)


if __name__ == "__main__":
    main(*sys.argv[1:])
