"""What is forgotten when it is old: outputs of past days, searches and trainings nobody needs.

Tables are not forgotten, only their snapshots (`build.upkeep`). `{GROUP}_KEEP_DAYS` says how old.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from ml_assets.io_managers.archives import forget_outputs
from ml_assets.settings import setting


def keep(group: str) -> timedelta:
    """How long what is replaced every day or every week is kept."""
    return timedelta(days=int(setting(group, "KEEP_DAYS", "90")))


def retention(group: str, *, studies: bool = False) -> dg.ScheduleDefinition:
    """The job `{group}_retention` and its schedule, Sundays at 05:00.

    Args:
        group: The group.
        studies: Whether it has searches, in the resource `{group}_studies`.
    """
    needed = {f"{group}_mlflow", "checkpoints", *([f"{group}_studies"] if studies else [])}

    @dg.op(name=f"{group}_forget", required_resource_keys=needed)
    def forget(context: dg.OpExecutionContext) -> None:
        before = datetime.now(UTC) - keep(group)
        resources: Any = context.resources
        outputs, size = forget_outputs(resources.checkpoints.base_path, group, before.date())
        found = {
            "outputs": outputs,
            "outputs_mb": size / 1e6,
            "trainings": getattr(resources, f"{group}_mlflow").forget(before),
        }
        if studies:
            found["searches"] = getattr(resources, f"{group}_studies").forget(str(before.date()))
        context.log.info("forgotten, from before %s: %s", before.date(), found)
        context.add_output_metadata(found)

    @dg.job(
        name=f"{group}_retention",
        description=f"Forget what is old of {group}: outputs, searches and trainings not needed.",
    )
    def job() -> None:
        forget()

    return dg.ScheduleDefinition(
        name=job.name,
        job=job,
        cron_schedule="0 5 * * 0",
        execution_timezone=setting(group, "TIMEZONE", "UTC"),
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
