"""`make demo`: run every group once on its bundled sample, and show what came out.

Each job runs in a process of its own, by the same command that a person would type.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import dagster as dg
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from ml_assets.settings import dagster_url, mlflow_url, timezone


@dataclass(frozen=True)
class Job:
    """A job to run.

    Attributes:
        name: The job.
        days: How many daily partitions it takes, until yesterday; 0 if it has no partitions.
        config: What is configured otherwise than by default, by asset.
    """

    name: str
    days: int = 0
    config: dict[str, dict[str, Any]] = field(default_factory=dict)


JOBS = {
    "mnist": [Job("mnist_weekly")],
    "cifar10": [Job("cifar10_weekly", config={"model": {"size": "quick"}})],
    # Half a year of tables in one run, as long as the replayed sample; then yesterday's training.
    "power": [Job("power_tables", days=182), Job("power_daily", days=1)],
    # The window of a training on the replayed week, and the days before that warm features up.
    "tick": [Job("tick_tables", days=12), Job("tick_daily", days=1)],
}
"""The jobs of each group that the demo runs, one after the other."""

_TAG = "ml_assets/demo"
_POLL_SECONDS = 0.5


@dataclass
class Outcome:
    """How a group fared.

    Attributes:
        succeeded: Every step ran and every ERROR check passed.
        seconds: From the first command to the end of the last.
        registration: Metadata of the group's `registered_model`.
        failures: What failed, in the order in which it did.
    """

    succeeded: bool = False
    seconds: float = 0.0
    registration: dict[str, dg.MetadataValue] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def main() -> int:
    """Run the groups; the exit status is 0 only if every one of them succeeded."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("groups", nargs="*", help=f"some of {', '.join(JOBS)}; all if left out")
    groups = parser.parse_args().groups or list(JOBS)
    if unknown := set(groups) - set(JOBS):
        parser.error(f"no group {', '.join(sorted(unknown))}; there are {', '.join(JOBS)}")
    console = Console()
    outcomes = {}
    with (
        dg.DagsterInstance.get() as instance,
        Progress(
            TextColumn("{task.fields[group]:8}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
        ) as progress,
    ):
        for group in groups:
            started = time.monotonic()
            for job in JOBS[group]:
                outcomes[group] = _run(group, job, instance, progress)
                if not outcomes[group].succeeded:
                    break
            outcomes[group].seconds = time.monotonic() - started
    console.print(_table(outcomes))
    for group, outcome in outcomes.items():
        for failure in outcome.failures:
            console.print(f"[red]{group}: {failure}[/red]", soft_wrap=True)
    succeeded = all(outcome.succeeded for outcome in outcomes.values())
    console.print(
        f"Look around: [bold]make up[/bold], then {dagster_url()} (Dagster) and "
        f"{mlflow_url()} (MLflow)."
        if succeeded
        else "[red]The demo failed.[/red] Look at the run: [bold]make up[/bold], then "
        f"{dagster_url()}/runs.",
        soft_wrap=True,
    )
    return 0 if succeeded else 1


def _run(group: str, job: Job, instance: dg.DagsterInstance, progress: Progress) -> Outcome:
    """Run a job in a process of its own and follow its events."""
    tags = {_TAG: uuid4().hex, **latest_partitions(group, job.days)}
    task = progress.add_task("starting", total=None, group=group)
    with TemporaryDirectory() as directory:
        log, config = Path(directory) / "log", Path(directory) / "config.yaml"
        ops = {f"{group}__{name}": {"config": values} for name, values in job.config.items()}
        config.write_text(json.dumps({"ops": ops}))
        with log.open("w") as output:
            process = subprocess.Popen(  # noqa: S603
                [
                    *(sys.executable, "-m", "dagster", "job", "execute", "--job", job.name),
                    *("--module-name", f"ml_assets.{group}.definitions"),
                    *("--tags", json.dumps(tags)),
                    *("--config", str(config)),
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        outcome = Outcome()
        while process.poll() is None:
            time.sleep(_POLL_SECONDS)
            outcome = _follow(instance, tags[_TAG], progress, task)
        outcome = _follow(instance, tags[_TAG], progress, task)
        if process.returncode and not outcome.failures:
            outcome.failures = log.read_text().splitlines()[-20:]
    outcome.succeeded = process.returncode == 0 and not outcome.failures
    progress.update(task, description="done" if outcome.succeeded else "[red]failed[/red]")
    return outcome


def latest_partitions(group: str, days: int) -> dict[str, str]:
    """The tags by which Dagster knows the partitions of a run: the last `days` days."""
    if not days:
        return {}
    today = datetime.now(ZoneInfo(timezone(group))).date()
    first, last = str(today - timedelta(days=days)), str(today - timedelta(days=1))
    if days == 1:
        return {"dagster/partition": last}
    return {
        "dagster/asset_partition_range_start": first,
        "dagster/asset_partition_range_end": last,
    }


def _follow(instance: dg.DagsterInstance, token: str, progress: Progress, task: TaskID) -> Outcome:
    """Read the run's events so far into an outcome, and show where it stands."""
    outcome = Outcome()
    runs = instance.get_runs(dg.RunsFilter(tags={_TAG: token}), limit=1)
    if not runs:
        return outcome
    finished, now = 0, "starting"
    for entry in instance.all_logs(runs[0].run_id):
        event = entry.dagster_event
        if event is None:
            now = f"{entry.step_key or ''}: {entry.user_message}"
        elif event.is_step_start:
            now = str(event.step_key)
        elif event.is_step_success:
            finished += 1
        elif event.is_step_failure:
            outcome.failures.append(f"{event.step_key}: {_reason(event)}")
        elif event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR:
                outcome.failures.append(
                    f"check {check.check_name} of {check.asset_key.to_user_string()} failed"
                )
        elif event.is_step_materialization:
            materialization = event.step_materialization_data.materialization
            if materialization.asset_key.path[-1] == "registered_model":
                outcome.registration = dict(materialization.metadata)
    total = len(runs[0].step_keys_to_execute or []) or None
    progress.update(task, completed=finished, total=total, description=now)
    return outcome


def _reason(event: dg.DagsterEvent) -> str:
    """Why a step failed: what it said, or else the error."""
    data = event.step_failure_data
    if data.user_failure_data and data.user_failure_data.description:
        return data.user_failure_data.description
    return data.error.message.strip() if data.error else str(event.message)


def _table(outcomes: dict[str, Outcome]) -> Table:
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for column in ("group", "model", "test metric", "baseline", "version", "time"):
        table.add_column(column)
    for group, outcome in outcomes.items():
        found = {name: entry.value for name, entry in outcome.registration.items()}
        shown = (
            (
                found["model"],
                f"{found['metric']} {found['value']:.4f}",
                f"{found['baseline']:.4f}",
                f"{found['version']}, {found['role']}",
            )
            if outcome.succeeded
            else ("-", "[red]failed[/red]", "-", "-")
        )
        table.add_row(group, *map(str, shown), f"{outcome.seconds:.0f} s")
    return table


if __name__ == "__main__":
    sys.exit(main())
