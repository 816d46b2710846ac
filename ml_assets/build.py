"""What every group has in common: its assets' settings, jobs, schedule, promotion and resources.

A group hands in its assets, checks and source; it gets back its code location. Nothing here
knows what a group's data or models are.
"""

import hashlib
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._config.errors import PostProcessingError
from pydantic import Field, ValidationError

from ml_assets.dagster_internals.runs import in_process_executor
from ml_assets.io_managers.archives import ArchiveIOManager
from ml_assets.ml.errors import DataError
from ml_assets.ml.training import training_fingerprint
from ml_assets.promotion import Policy
from ml_assets.reporting import FINGERPRINT
from ml_assets.resources.checkpoints import Checkpoints
from ml_assets.resources.lakehouse import Lakehouse
from ml_assets.resources.mlflow import MlflowResource
from ml_assets.resources.registered_model import Launch
from ml_assets.resources.registry import ModelRegistry
from ml_assets.resources.studies import Studies
from ml_assets.run_launcher import seen_to_be_alive
from ml_assets.settings import GROUP_TAG, data_dir, day, mlflow_url, secret, setting, timezone

# What we use of Dagster's beta is held by tests; whoever types a command need not read of it.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
# The jobs of a group take one partition at a time; backfills are launched on assets.
warnings.filterwarnings("ignore", message=".*varying BackfillPolicies")

RETRY_POLICY = dg.RetryPolicy(
    max_retries=2, delay=float(os.environ.get("ML_ASSETS_RETRY_DELAY_SECONDS", "60"))
)
TRAINING_POOL = "training"
"""The pool of all assets that train: the run queue lets one such run work at a time."""

EXECUTOR = in_process_executor(seen_to_be_alive)
"""All steps of a run share one process (docs/decisions.md), which is seen to be alive."""

_PACKAGE = Path(__file__).parent

_ARTIFACTS_URL = os.environ.get("ML_ASSETS_ARTIFACTS_URL", str(data_dir() / "artifacts"))

SHARED_RESOURCES = {
    "io_manager": ArchiveIOManager(base_path=_ARTIFACTS_URL),
    "checkpoints": Checkpoints(base_path=_ARTIFACTS_URL),
}
"""What all groups use: the very same objects, as is `EXECUTOR`, so that they can be merged."""


def asset_settings(group: str) -> dict[str, Any]:
    """The arguments of `dg.asset` that all assets of a group share."""
    return {
        "key_prefix": group,
        "group_name": group,
        "retry_policy": RETRY_POLICY,
        "code_version": code_version(group),
    }


def code_version(group: str) -> str:
    """Digest of the source code that decides what the group computes: its own and `ml/`."""
    digest = hashlib.sha256()
    for folder in (_PACKAGE / "ml", _PACKAGE / group):
        for path in sorted(folder.glob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def daily_partitions(group: str, first: str, last: str = "") -> dg.DailyPartitionsDefinition:
    """One partition a day, from midnight to midnight in the group's time zone.

    Args:
        group: The group; `{GROUP}_FIRST_PARTITION` and `{GROUP}_LAST_PARTITION` go first.
        first: The first day.
        last: The last day of a record that is finished.

    Raises:
        ValueError: A variable names no day or no time zone, or the last day is before the first.
    """
    first, last = day(group, "FIRST_PARTITION", first), day(group, "LAST_PARTITION", last)
    if last and last < first:
        name = group.upper()
        raise ValueError(
            f"{name}_LAST_PARTITION: expected {first}, which is {name}_FIRST_PARTITION, or a later "
            f"day; found {last}; remedy: correct one of them"
        )
    return dg.DailyPartitionsDefinition(
        start_date=first,
        end_date=str(date.fromisoformat(last) + timedelta(days=1)) if last else None,
        timezone=timezone(group),
    )


def promotion_policy(group: str) -> Policy:
    """How `{GROUP}_PROMOTION`, else `ML_ASSETS_PROMOTION`, has challengers promoted; else `auto`.

    Raises:
        ValueError: It is none of `auto`, `manual` and `shadow(n)`.
    """
    text = setting(group, "PROMOTION", "auto")
    match = re.fullmatch(r"auto|manual|shadow\(([1-9]\d{0,3})\)", text)
    if not match:
        raise ValueError(
            f"{group.upper()}_PROMOTION or ML_ASSETS_PROMOTION: expected auto, manual or shadow(n) "
            f"with n from 1 to 9999 days, such as shadow(14); found {text!r}; remedy: set it to "
            "one of these, or leave it out"
        )
    days = match[1]
    return Policy("shadow", int(days)) if days else Policy(text)  # type: ignore[arg-type]


def fresh_within(
    partitions: dg.DailyPartitionsDefinition, limit: timedelta
) -> dg.FreshnessPolicy | None:
    """An asset counts as stale after `limit`; never, where the partitions have come to an end."""
    return None if partitions.end else dg.FreshnessPolicy.time_window(fail_window=limit)


def trailing(days_before: Mapping[dg.AssetsDefinition, int]) -> dict[str, Any]:
    """The arguments of `dg.asset` for an asset that reads days before its own.

    Dagster gets a dependency on the same day: it spreads a backfill to every day that depends on
    one of those asked for. The metadata `days_before` say how far back the asset reads.

    Args:
        days_before: How many days before its own the asset reads of each other asset.
    """
    reads = {asset.key.to_user_string(): days for asset, days in days_before.items()}
    return {"deps": list(days_before), "metadata": {"days_before": reads}}


def mlflow_resource(group: str, data: Path | None = None) -> MlflowResource:
    """The group's MLflow: a server where the environment names one, else SQLite and files."""
    home = (data or data_dir()) / "mlflow"
    return MlflowResource(
        experiment=group,
        tracking_uri=secret(group, "MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow.db"),
        artifact_location=str(home / "artifacts"),
        ui_url=mlflow_url(group),
    )


def lakehouse_resource(group: str, data: Path | None = None) -> Lakehouse:
    """The group's tables: in the catalog that the environment names, else in SQLite and files."""
    home = (data or data_dir()) / "lakehouse"
    return Lakehouse(
        catalog_uri=secret(group, "LAKEHOUSE_CATALOG_URL", f"sqlite:///{home}/catalog.db"),
        warehouse=setting(group, "LAKEHOUSE_WAREHOUSE_URL", str(home / "warehouse")),
    )


def studies_resource(group: str) -> Studies:
    """The group's searches: in the database that the environment names, else in SQLite."""
    home = data_dir() / "optuna"
    return Studies(storage_url=secret(group, "OPTUNA_STORAGE_URL", f"sqlite:///{home}/{group}.db"))


def refuse_early(asset: dg.AssetsDefinition, config: type[dg.Config]) -> None:
    """Refuse values outside the bounds of `config` at launch, before the first step runs.

    Dagster checks names and types at launch, but the bounds only when the step starts.
    """

    def post_process(values: dict[str, Any]) -> dict[str, Any]:
        try:
            config(**values)
        except ValidationError as error:
            raise PostProcessingError(str(error)) from error
        return values

    asset.op.config_schema.config_type.post_process = post_process  # type: ignore[method-assign,union-attr]


def daily_schedule(
    job: Any, partitions: dg.TimeWindowPartitionsDefinition, *, hour: int = 0, on: bool = True
) -> Any:
    """Run `job` for yesterday's partition, half an hour after `hour` in the partitions' time zone.

    Where the partitions have come to an end there is nothing to do, and the schedule is off.
    """
    return dg.build_schedule_from_partitioned_job(
        job,
        name=job.name,
        hour_of_day=hour,
        minute_of_hour=30,
        default_status=dg.DefaultScheduleStatus.STOPPED
        if partitions.end or not on
        else dg.DefaultScheduleStatus.RUNNING,
    )


def weekly_schedule(
    group: str, job: Any, source_key: str, configuration: dict[str, Any]
) -> dg.ScheduleDefinition:
    """Run `job` every Monday at 03:00, unless nothing has changed since its last success.

    The last success is the last materialization of `registered_model`, whoever launched it.

    Args:
        group: The group; `{GROUP}_SKIP_UNCHANGED=false` makes the schedule run regardless.
        job: What to run.
        source_key: Key of the resource that tells the digest of the data.
        configuration: What the model is trained with, for the comparison.
    """

    @dg.schedule(
        name=job.name,
        job=job,
        cron_schedule="0 3 * * 1",
        execution_timezone=timezone(group),
        default_status=dg.DefaultScheduleStatus.RUNNING,
        required_resource_keys={source_key},
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        try:
            digest = getattr(context.resources, source_key).digest()
        except DataError as error:
            # A tick that fails is lost for a week; a run that fails is re-executed in the morning.
            context.log.warning("the data cannot be read, which the run will say: %s", error)
            return dg.RunRequest()
        fingerprint = training_fingerprint(digest, code_version(group), configuration)
        last = context.instance.get_latest_materialization_event(
            dg.AssetKey([group, "registered_model"])
        )
        if (
            last is None
            or last.asset_materialization is None
            # One that was reported by hand has none.
            or FINGERPRINT not in last.asset_materialization.metadata
            or last.asset_materialization.metadata[FINGERPRINT].value != fingerprint
            or setting(group, "SKIP_UNCHANGED", "true").lower() in {"false", "0", "no"}
        ):
            return dg.RunRequest()
        return dg.SkipReason(
            f"data, code and configuration are unchanged since run {last.run_id}; set "
            f"{group.upper()}_SKIP_UNCHANGED=false to train all the same"
        )

    return schedule


class ChampionConfig(dg.Config):
    """Which version becomes the champion."""

    model: str = Field(default="", description="The registered model; empty for the scheduled one.")

    version: str = Field(
        default="",
        description="The version; empty for the one that the present champion replaced (rollback), "
        "or for the latest challenger (promote).",
    )


def rollback_job(group: str, scheduled_model: str) -> dg.JobDefinition:
    """The job `{group}_rollback`: move the alias `champion` back to an earlier version."""
    return _champion_job(
        group,
        scheduled_model,
        "rollback",
        f"{group}_move_champion",
        "Make an earlier version the champion again, ",
        ModelRegistry.rollback,
    )


def promote_job(group: str, scheduled_model: str) -> dg.JobDefinition:
    """The job `{group}_promote`: move the alias `champion` on to a version by hand."""
    return _champion_job(
        group,
        scheduled_model,
        "promote",
        f"{group}_make_champion",
        "Make the latest challenger, or a named version, the champion, ",
        ModelRegistry.promote,
    )


def _champion_job(
    group: str,
    scheduled_model: str,
    name: str,
    op_name: str,
    description: str,
    move: Callable[[ModelRegistry, str | None, Launch], tuple[str | None, str]],
) -> dg.JobDefinition:
    """A job that has the registry move the alias `champion`, once for all its re-executions."""

    @dg.op(name=op_name, required_resource_keys={f"{group}_mlflow"})
    def move_champion(context: dg.OpExecutionContext, config: ChampionConfig) -> None:
        mlflow = getattr(context.resources, f"{group}_mlflow")
        model_name = config.model or scheduled_model
        try:
            with mlflow.registry(model_name) as registry:
                before, now = move(registry, config.version or None, _launch(context))
        except DataError as error:
            raise dg.Failure(f"{model_name}: {error}", allow_retries=False) from error
        context.log.info("%s: champion was version %s, is version %s", model_name, before, now)
        context.add_output_metadata({"champion": now, "champion_before": before or "none"})

    @dg.job(
        name=f"{group}_{name}",
        tags={GROUP_TAG: group},
        description=f"{description}of {scheduled_model} unless another model is named.",
    )
    def job() -> None:
        move_champion()

    return job


def _launch(context: dg.OpExecutionContext) -> Launch:
    """The run at hand, as the registry knows it again."""

    def failed(run_id: str) -> bool:
        first = context.instance.get_run_by_id(run_id)
        if first is None:  # deleted since then, or another instance's
            return False
        again = context.instance.get_runs(dg.RunsFilter(tags={"dagster/root_run_id": run_id}))
        return not any(run.is_success for run in [first, *again])

    run_id = context.run.root_run_id or context.run_id
    return Launch(run_id, failed, lambda text: context.log.warning("%s", text))


def build_group(
    group: str,
    *,
    assets: Sequence[dg.AssetsDefinition],
    checks: Sequence[dg.AssetChecksDefinition],
    jobs: Sequence[Any],
    schedules: Sequence[Any],
    sensors: Sequence[Any] = (),
    resources: dict[str, Any],
) -> dg.Definitions:
    """The code location of a group."""
    return dg.Definitions(
        assets=assets,
        asset_checks=checks,
        jobs=jobs,
        schedules=schedules,
        sensors=sensors,
        resources={
            **SHARED_RESOURCES,
            f"{group}_mlflow": mlflow_resource(group),
            **resources,
        },
        executor=EXECUTOR,
    )
