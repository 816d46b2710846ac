"""The code location `tick`: what is in it, when it runs, and where its data come from."""

import json
import re
from pathlib import Path

import dagster as dg

from ml_assets.build import (
    build_group,
    daily_schedule,
    lakehouse_resource,
    promote_job,
    refuse_early,
    rollback_job,
)
from ml_assets.resources.ticks import (
    ArchiveTicks,
    FileTicks,
    IcebergTicks,
    PostgresTicks,
    ReplayedTicks,
    SampleTicks,
    TickSource,
)
from ml_assets.retention import retention, upkeep
from ml_assets.settings import data_dir, secret, setting, timezone
from ml_assets.tick import assets, data
from ml_assets.tick.checks import CHECKS
from ml_assets.tick.config import (
    DAYS,
    GROUP,
    SOURCE,
    TIMEZONE,
    BarsConfig,
    CleaningConfig,
    TrainingConfig,
    WindowsConfig,
)

ASSETS = [
    assets.raw_ticks,
    assets.ticks,
    assets.bars,
    assets.features,
    assets.windows,
    assets.model,
    assets.evaluation,
    assets.mlflow_run,
    assets.registered_model,
    assets.forecast,
    assets.shadow,
]
TABLES = ASSETS[:4]
refuse_early(assets.ticks, CleaningConfig)
refuse_early(assets.bars, BarsConfig)
refuse_early(assets.windows, WindowsConfig)
refuse_early(assets.model, TrainingConfig)

DATASETS = str(data_dir() / "datasets")
TRADES = '{"time": "event_time", "price": "price", "size": "size"}'


def _source(name: str) -> TickSource:
    """The source that `TICK_SOURCE` names."""
    if name == "sample":
        return SampleTicks(file_name=data.SAMPLE_NAME, sha256=data.SAMPLE_SHA256)
    if name == "replay":
        return ReplayedTicks(
            source=_source("sample"), first_day=data.SAMPLE_FIRST_DAY, weeks=data.SAMPLE_WEEKS
        )
    if name == "files":
        return FileTicks(
            max_rows_per_day=_most_rows(),
            directory=setting(GROUP, "DIRECTORY", DATASETS),
            timezone=timezone(GROUP, "FILES_TIMEZONE"),
            columns=_columns("{}"),
            cache_directory=DATASETS,
        )
    if name == "postgres":
        return PostgresTicks(
            max_rows_per_day=_most_rows(),
            url=dg.EnvVar("TICK_DATABASE_URL"),
            table=setting(GROUP, "DATABASE_TABLE", "ticks"),
            columns=_columns(TRADES),
        )
    if name == "iceberg":
        return IcebergTicks(
            max_rows_per_day=_most_rows(),
            catalog_uri=secret(GROUP, "ICEBERG_CATALOG_URL", ""),
            catalog_name=setting(GROUP, "ICEBERG_CATALOG", "default"),
            warehouse=setting(GROUP, "ICEBERG_WAREHOUSE_URL", ""),
            table=setting(GROUP, "ICEBERG_TABLE", "market.ticks"),
            columns=_columns(TRADES),
        )
    if name == "archive":
        _require_utc()
        return ArchiveTicks(
            max_rows_per_day=_most_rows(),
            url=secret(GROUP, "URL", data.URL, shared=False),
            symbol=setting(GROUP, "SYMBOL", "BTCUSDT"),
            column_names=setting(GROUP, "ARCHIVE_COLUMNS", data.URL_COLUMNS).split(","),
            cache_directory=DATASETS,
        )
    raise ValueError(
        "TICK_SOURCE: expected sample, replay, files, postgres, iceberg or archive; found "
        f"{name!r}; remedy: set it to one of these, or leave it out"
    )


def _most_rows() -> int:
    """How many ticks a day may have, by `TICK_MAX_ROWS_PER_DAY`."""
    text = setting(GROUP, "MAX_ROWS_PER_DAY", str(2**25))
    if not re.fullmatch(r"[1-9]\d{0,11}", text):
        raise ValueError(
            f"TICK_MAX_ROWS_PER_DAY: expected a whole number above 0; found {text!r}; remedy: "
            "correct it, or leave it out"
        )
    return int(text)


def _require_utc() -> None:
    """Raise `ValueError` unless the group's days are those of an archive.

    A day elsewhere ends in a UTC day whose zip is not there yet when the schedule runs.
    """
    if TIMEZONE != "UTC":
        raise ValueError(
            "TICK_TIMEZONE or ML_ASSETS_TIMEZONE: expected UTC, whose days an archive publishes; "
            f"found {TIMEZONE!r}; remedy: set TICK_TIMEZONE=UTC, or choose another TICK_SOURCE"
        )


def _columns(default: str) -> dict[str, str]:
    """What `TICK_COLUMNS` says the columns are called."""
    text = setting(GROUP, "COLUMNS", default)
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
        raise ValueError(
            f"TICK_COLUMNS: expected JSON such as {TRADES}; found {text!r}; remedy: correct it"
        )
    return found


tick_daily = dg.define_asset_job("tick_daily", dg.AssetSelection.groups(GROUP))
tick_tables = dg.define_asset_job(
    "tick_tables",
    dg.AssetSelection.assets(*TABLES),
    description="The tables of a range of days in one run.",
)


@dg.sensor(
    name="tick_files",
    jobs=[tick_daily, tick_tables],
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING
    if SOURCE == "files"
    else dg.DefaultSensorStatus.STOPPED,
)
def tick_files(
    context: dg.SensorEvaluationContext, tick_source: dg.ResourceParam[TickSource]
) -> dg.SensorResult:
    """Run a day when its first file lands, and its tables again when a file changes it later.

    Of a source that is not of files there is nothing to notice. What there is when it looks for
    the first time counts as known, nothing too: a backfill makes the days of the past.

    Raises:
        DataError: A file is damaged or has another form, or files that were there are gone.
    """
    from ml_assets.resources.ticks.index import VERSION

    seen = json.loads(context.cursor or "{}")
    known = seen.get("days", {})
    if not known and _has_no_files(tick_source):
        return dg.SensorResult(
            skip_reason=f"nothing yet in {tick_source.describe()}",
            cursor=json.dumps({"version": VERSION, "days": {}}),
        )
    days = tick_source.days(TIMEZONE)
    # A day that has not ended has no partition: it is new when it has.
    partitions = set(DAYS.get_partition_keys())
    found = {str(day): digest for day, digest in days.items() if str(day) in partitions}
    cursor = json.dumps({"version": VERSION, "days": found})
    if "days" not in seen:
        return dg.SensorResult(skip_reason=f"{len(found)} days so far", cursor=cursor)
    if seen["version"] != VERSION:
        # Digests were another thing: of days that were there, nobody knows whether they changed.
        known = {day: found.get(day) for day in known}
    made = context.instance.get_materialized_partitions(assets.raw_ticks.key)
    requests = [
        # Without a run key: by one, Dagster would leave out a day that is again as it once was.
        dg.RunRequest(
            job_name=tick_tables.name if day in made else tick_daily.name,
            partition_key=day,
        )
        for day, digest in found.items()
        if known.get(day) != digest
    ]
    return dg.SensorResult(run_requests=requests, cursor=cursor)


def _has_no_files(source: TickSource) -> bool:
    """Whether it is a directory in which there are no files of ticks."""
    from ml_assets.resources.ticks import index

    if not isinstance(source, FileTicks):
        return False
    directory = Path(source.directory)
    return directory.is_dir() and not index.find(directory)


defs = build_group(
    GROUP,
    assets=ASSETS,
    checks=CHECKS,
    jobs=[
        tick_daily,
        tick_tables,
        rollback_job(GROUP, "tick_lstm"),
        promote_job(GROUP, "tick_lstm"),
    ],
    schedules=[
        daily_schedule(
            tick_daily,
            DAYS,
            # Archives publish a day some hours later; new files start a run by themselves.
            hour=12 if SOURCE == "archive" else 0,
            on=SOURCE != "files",
        ),
        upkeep(GROUP),
        retention(GROUP),
    ],
    sensors=[
        tick_files,
        dg.AutomationConditionSensorDefinition(
            "tick_late_files",
            target=dg.AssetSelection.groups(GROUP),
            default_status=dg.DefaultSensorStatus.RUNNING,
            # The daemon does not know the condition that looks back.
            use_user_code_server=True,
        ),
    ],
    resources={
        "tick_source": _source(SOURCE),
        "tick_lakehouse": lakehouse_resource(GROUP),
    },
)
