"""The code location `power`: what is in it, when it runs, and where its data come from."""

import dagster as dg

from ml_assets.build import (
    build_group,
    daily_schedule,
    lakehouse_resource,
    promote_job,
    refuse_early,
    rollback_job,
    studies_resource,
)
from ml_assets.power import assets, data
from ml_assets.power.checks import CHECKS
from ml_assets.power.config import (
    DAYS,
    GROUP,
    SOURCE,
    TIMEZONE,
    CleaningConfig,
    TrainingConfig,
    TuningConfig,
)
from ml_assets.resources.readings import (
    LocalReadings,
    PostgresReadings,
    ReadingsSource,
    ReplayedReadings,
    SampleReadings,
    UciReadings,
)
from ml_assets.retention import retention, upkeep
from ml_assets.settings import data_dir, secret, setting

ASSETS = [
    assets.raw_readings,
    assets.readings,
    assets.features,
    assets.tuning,
    assets.model,
    assets.evaluation,
    assets.mlflow_run,
    assets.registered_model,
    assets.forecast,
    assets.shadow,
]
refuse_early(assets.readings, CleaningConfig)
refuse_early(assets.tuning, TuningConfig)
refuse_early(assets.model, TrainingConfig)

DATASETS = str(data_dir() / "datasets")
COLUMNS = ["event_time", *data.COLUMNS]


def _source(name: str) -> ReadingsSource:
    """The source that `POWER_SOURCE` names."""
    if name == "sample":
        return SampleReadings(
            archive_name=data.SAMPLE_NAME,
            file_name=data.FILE_NAME,
            header=data.HEADER,
            sha256=data.SAMPLE_SHA256,
            cache_directory=DATASETS,
        )
    if name == "replay":
        replayed = setting(GROUP, "REPLAYED_SOURCE", "sample")
        if replayed not in data.RECORDS:
            raise ValueError(
                f"POWER_REPLAYED_SOURCE: expected one of {', '.join(data.RECORDS)}; found "
                f"{replayed!r}; remedy: set it to one of these, or leave it out"
            )
        first_day, weeks = data.RECORDS[replayed]
        return ReplayedReadings(source=_source(replayed), first_day=first_day, weeks=weeks)
    if name == "uci":
        return UciReadings(
            url=secret(GROUP, "URL", data.URL, shared=False),
            file_name=data.FILE_NAME,
            header=data.HEADER,
            sha256=data.SHA256,
            cache_directory=DATASETS,
        )
    if name == "local":
        return LocalReadings(
            directory=setting(GROUP, "DIRECTORY", DATASETS),
            file_name=data.FILE_NAME,
            archive_name=data.ARCHIVE_NAME,
            header=data.HEADER,
            columns=COLUMNS,
            timezone=TIMEZONE,
            cache_directory=DATASETS,
        )
    if name == "postgres":
        return PostgresReadings(
            url=dg.EnvVar("POWER_DATABASE_URL"),
            table=setting(GROUP, "DATABASE_TABLE", "readings"),
            columns=COLUMNS,
            timezone=TIMEZONE,
        )
    raise ValueError(
        f"POWER_SOURCE: expected sample, replay, uci, local or postgres; found {name!r}; remedy: "
        "set it to one of these, or leave it out"
    )


power_daily = dg.define_asset_job("power_daily", dg.AssetSelection.groups(GROUP))
power_tables = dg.define_asset_job(
    "power_tables",
    dg.AssetSelection.assets(assets.raw_readings, assets.readings, assets.features),
    description="The tables of a range of days in one run.",
)

defs = build_group(
    GROUP,
    assets=ASSETS,
    checks=CHECKS,
    jobs=[
        power_daily,
        power_tables,
        rollback_job(GROUP, assets.MODEL_NAMES["day_ahead"]),
        promote_job(GROUP, assets.MODEL_NAMES["day_ahead"]),
    ],
    schedules=[daily_schedule(power_daily, DAYS), upkeep(GROUP), retention(GROUP, studies=True)],
    resources={
        "power_source": _source(SOURCE),
        "power_lakehouse": lakehouse_resource(GROUP),
        "power_studies": studies_resource(GROUP),
    },
)
