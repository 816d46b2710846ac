"""What must be true when the month is over."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from unittest import mock

import dagster as dg
import pyarrow.compute as pc

from ml_assets import reexecute
from ml_assets_tests.month.simulation import MONDAY, Month
from ml_assets_tests.month.small import BEGIN, DAILY, HISTORY, WEEKLY, midnight

IDENTITY = {
    "power.raw_readings": ["partition_time_utc", "line"],
    "power.readings": ["event_time_utc"],
    "power.features": ["event_time_utc"],
    "power.forecast": ["event_time_utc"],
    "tick.raw_ticks": ["partition_time_utc", "arrival"],
    "tick.ticks": ["event_time_ns", "row"],
    "tick.bars": ["event_time_utc"],
    "tick.features": ["event_time_utc"],
    "tick.forecast": ["event_time_utc"],
}
"""By what a row of each table is told from all others."""


def problems(month: Month) -> list[str]:
    """All that is not as it should be; nothing, if all ended well."""
    return [*_partitions(month), *_rows(month), *_champions(), *_failed(month)]


def _partitions(month: Month) -> Iterator[str]:
    """Each day of each asset is there, and each week's training."""
    instance = month.house.instance
    for group in DAILY:
        expected = set(_dates(month))
        for key in month.keys(group):
            missing = expected - instance.get_materialized_partitions(key)
            if missing:
                yield f"{key.to_user_string()}: {sorted(missing)} missing"
    mondays = [day for day in map(date.fromisoformat, _mornings(month)) if day.weekday() == MONDAY]
    for group in WEEKLY:
        records = instance.fetch_materializations(
            dg.AssetKey([group, "registered_model"]), limit=1000
        ).records
        made = {datetime.fromtimestamp(record.timestamp, UTC).date() for record in records}
        if made != set(mondays):
            yield f"{group}: expected trainings on {mondays}; found them on {sorted(made)}"


def _rows(month: Month) -> Iterator[str]:
    """Each day is in each table, no row twice."""
    from ml_assets import build

    begin, end = midnight(BEGIN) - timedelta(days=max(HISTORY.values())), midnight(BEGIN)
    end += timedelta(days=month.days + 1)
    for table, identity in IDENTITY.items():
        group = table.split(".")[0]
        rows = (
            build.lakehouse_resource(group).process_config_and_initialize().read(table, begin, end)
        )
        twice = len(rows) - len(rows.group_by(identity).aggregate([]))
        if twice:
            yield f"{table}: {twice} rows twice"
        names = ("partition_time_utc", "event_time_utc")
        time = next(name for name in names if name in rows.column_names)
        there = set(pc.strftime(rows[time], "%Y-%m-%d").to_pylist())
        expected = _mornings(month) if table == "power.forecast" else _dates(month)
        if missing := [day for day in expected if day not in there and _traded(group, day)]:
            yield f"{table}: no row of {missing}"


def _champions() -> Iterator[str]:
    """Each model has one champion, and one version says that it is in production."""
    import os

    from mlflow import MlflowClient

    client = MlflowClient(os.environ["POWER_MLFLOW_TRACKING_URI"])
    models = client.search_registered_models()
    if len(models) != 4:
        yield f"expected 4 registered models; found {[model.name for model in models]}"
    for model in models:
        versions = client.search_model_versions(f"name = '{model.name}'")
        production = [str(v.version) for v in versions if v.tags.get("stage") == "Production"]
        if production != [str(model.aliases.get("champion"))]:
            yield f"{model.name}: champion {model.aliases.get('champion')}, stages {production}"


def _failed(month: Month) -> Iterator[str]:
    """Nothing is left to be put right."""
    with mock.patch.object(reexecute, "ask", month.house.ask):
        for run in reexecute.failed_runs(""):
            yield f"run {run} is still failed"


def _mornings(month: Month) -> list[str]:
    return [str(BEGIN + timedelta(days=number)) for number in range(month.days)]


def _dates(month: Month) -> list[str]:
    """The days that the nights were for: those before the mornings."""
    return [str(BEGIN + timedelta(days=number - 1)) for number in range(month.days)]


def _traded(group: str, day: str) -> bool:
    """Whether the record has something of such a day."""
    return group != "tick" or date.fromisoformat(day).weekday() < 5
