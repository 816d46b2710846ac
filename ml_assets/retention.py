"""What is done on Sundays: tables are looked after, and what is old and not needed is forgotten.

Of tables, only snapshots are forgotten. `{GROUP}_KEEP_DAYS` says how old is old.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from ml_assets.io_managers.archives import forget_outputs
from ml_assets.settings import GROUP_TAG, setting, timezone


def keep(group: str) -> timedelta:
    """How long what is replaced every day or every week is kept."""
    return timedelta(days=int(setting(group, "KEEP_DAYS", "90")))


def upkeep(group: str) -> dg.ScheduleDefinition:
    """The job `{group}_upkeep` and its schedule, Sundays at 04:00: look after the tables.

    Small files are made one, snapshots older than `{GROUP}_KEEP_DAYS` expire, files that nobody
    needs are deleted.
    """
    key = f"{group}_lakehouse"

    @dg.op(name=f"{group}_maintain_tables", required_resource_keys={key})
    def maintain_tables(context: dg.OpExecutionContext) -> None:
        lakehouse = getattr(context.resources, key)
        for table in lakehouse.tables(group):
            done = lakehouse.maintain(table, keep(group))
            context.log.info(
                "%s: %d partitions compacted, %d to %d files, %d snapshots expired, %.1f MB freed",
                *(table, done.compacted_partitions, *done.data_files, done.expired_snapshots),
                done.deleted_bytes / 1e6,
            )

    @dg.job(
        name=f"{group}_upkeep",
        tags={GROUP_TAG: group},
        description=f"Compact and clean the tables of {group}.",
    )
    def job() -> None:
        maintain_tables()

    return _on_sundays(group, job, hour=4)


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
        outputs, size = forget_outputs(resources.checkpoints.base_path, group, before)
        found = {
            "outputs": outputs,
            "outputs_mb": size / 1e6,
            "trainings": getattr(resources, f"{group}_mlflow").forget(before),
        }
        if studies:
            found["searches"] = getattr(resources, f"{group}_studies").forget(group, before)
        context.log.info("forgotten, from before %s: %s", before.date(), found)
        context.add_output_metadata(found)

    @dg.job(
        name=f"{group}_retention",
        tags={GROUP_TAG: group},
        description=f"Forget what is old of {group}: outputs, searches and trainings not needed.",
    )
    def job() -> None:
        forget()

    return _on_sundays(group, job, hour=5)


def _on_sundays(group: str, job: dg.JobDefinition, *, hour: int) -> dg.ScheduleDefinition:
    return dg.ScheduleDefinition(
        name=job.name,
        job=job,
        cron_schedule=f"0 {hour} * * 0",
        execution_timezone=timezone(group),
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
