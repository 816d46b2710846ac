"""The group with everything that it keeps, run in the test's process on trades of the sample."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from mlflow import MlflowClient
from pydantic import Field

from ml_assets.io_managers.archives import ArchiveIOManager
from ml_assets.ml import archive
from ml_assets.resources.checkpoints import Checkpoints
from ml_assets.resources.datasets import SAMPLES
from ml_assets.resources.lakehouse import Lakehouse
from ml_assets.resources.mlflow import MlflowResource
from ml_assets.resources.ticks import FileTicks, TickSource
from ml_assets.tick.definitions import ASSETS, CHECKS, _source

FIRST, FRIDAY, SUNDAY = "2025-04-07", "2025-04-18", "2025-04-20"
"""The tables begin on a Monday; what is trained, on the Friday twelve days later."""
TABLES = "key:tick/raw_ticks or key:tick/ticks or key:tick/bars or key:tick/features"
TRAINING = " or ".join(
    f"key:tick/{name}"
    for name in (
        *("windows", "model", "evaluation", "mlflow_run", "registered_model", "forecast"),
        "shadow",
    )
)
NAMES = ["raw_ticks", "ticks", "bars", "features"]
QUICK = {
    "windows": {"steps": 10},
    "model": {"architecture": "gru", "units": 4, "epochs": 1, "batch_size": 512},
}
MODEL = "tick_gru"
REPLAY = _source("replay")

Days = str | tuple[str, str]
"""A partition, or the first and the last of a range."""
Config = dict[str, dict[str, Any]]
"""Values of assets by their names."""


def midnight(day: str, later: int = 0) -> datetime:
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC) + timedelta(later)


def as_range(days: tuple[str, str]) -> dict[str, str]:
    """The tags by which Dagster knows a range of partitions."""
    first, last = days
    return {
        "dagster/asset_partition_range_start": first,
        "dagster/asset_partition_range_end": last,
    }


@cache
def trades(weekday: int, every: int = 20) -> pl.DataFrame:
    """Each so manieth trade of a weekday of the sample: some 5,000."""
    found = pl.DataFrame(pq.ParquetFile(SAMPLES / "ticks.parquet").read_row_group(weekday))
    return found.gather_every(every).select("timestamp", "price", "size")


def moved(day: str, number: int | None = None) -> pl.DataFrame:
    """Trades of the sample as if they were of another day.

    The number decides of which weekday, and moves the prices, so that none of two days are alike.
    """
    number = date.fromisoformat(day).weekday() if number is None else number
    to = pl.lit(midnight(day)).cast(pl.Datetime("ms", "UTC"))
    time = to + (pl.col("timestamp") - pl.col("timestamp").dt.truncate("1d"))
    scale = 1 + number / 1000
    return trades(number % 5).with_columns(
        timestamp=time.cast(pl.Datetime("ms", "UTC")), price=pl.col("price") * scale
    )


def weekdays(first: str, count: int) -> list[str]:
    """So many weekdays from a day on."""
    days = (date.fromisoformat(first) + timedelta(day) for day in range(count * 2))
    return [str(day) for day in days if day.weekday() < 5][:count]


def files(directory: Path, days: list[str]) -> FileTicks:
    """A source that does not repeat: a Parquet file for each of the days."""
    directory.mkdir(exist_ok=True)
    for number, day in enumerate(days):
        moved(day, number).write_parquet(directory / f"{day}.parquet")
    return FileTicks(directory=str(directory))


class AlteredTicks(TickSource):
    """A source, with trades added to a day, with days that have none, or that break it."""

    source: TickSource
    day: str = FRIDAY
    added: list[dict[str, Any]] = Field(default=[])
    absent: list[str] = Field(default=[])
    broken: list[str] = Field(default=[])

    @property
    def unique_days(self) -> int | None:
        return self.source.unique_days

    def read(self, start: datetime, end: datetime) -> pa.Table:
        for day in self.broken:
            if start <= midnight(day) < end:
                raise OSError(f"the feed's disk broke on {day}")
        found = self.source.read(start, end)
        if str(start.date()) in self.absent:
            return found.slice(0, 0)
        if start <= midnight(self.day) < end and self.added:
            odd = pa.Table.from_pylist(self.added, schema=found.schema)
            found = pa.concat_tables([found, odd])
        return found

    def digest(self, start: datetime, end: datetime) -> str:
        return self.source.digest(start, end)

    def describe(self) -> str:
        return "altered"


@dataclass
class Group:
    """The group with everything that it keeps."""

    home: Path
    resources: dict[str, Any]
    instance: dg.DagsterInstance

    def run(
        self,
        selection: str = "*",
        days: Days = FRIDAY,
        *,
        checks: bool = True,
        config: Config | None = None,
        **resources: Any,
    ) -> dg.ExecuteInProcessResult:
        """Materialize assets of the group; failures are returned, not raised."""
        chosen = dg.AssetSelection.from_string(selection)
        keys = {key.path[-1] for key in chosen.resolve(ASSETS)}
        given = {name: dict(values) for name, values in QUICK.items()}
        for name, values in (config or {}).items():
            given[name] = given.get(name, {}) | values
        return dg.materialize(
            [*ASSETS, *CHECKS],
            selection=chosen if checks else chosen.without_checks(),
            instance=self.instance,
            resources=self.resources | resources,
            partition_key=days if isinstance(days, str) else None,
            tags=None if isinstance(days, str) else as_range(days),
            run_config={
                "ops": {
                    f"tick__{name}": {"config": values}
                    for name, values in given.items()
                    if name in keys
                }
            },
            raise_on_error=False,
        )

    def read(self, table: str, first: str = FIRST, last: str = "2026-01-01") -> pa.Table:
        """The rows of some days, in an order that does not depend on how they were written."""
        rows = self.lakehouse.read(f"tick.{table}", midnight(first), midnight(last, 1))
        order = ("partition_time_utc", "arrival", "event_time_utc", "event_time_ns", "row", "bar")
        names = [name for name in order if name in rows.column_names]
        return rows.sort_by([(name, "ascending") for name in names])

    @property
    def lakehouse(self) -> Lakehouse:
        return self.resources["tick_lakehouse"]

    @property
    def mlflow(self) -> MlflowResource:
        return self.resources["tick_mlflow"]


def build(
    home: Path, files: Path, instance: dg.DagsterInstance, source: TickSource = REPLAY
) -> Group:
    """The group as it is kept in `home`, where `files` holds what never changes."""
    artifacts = str(home / "artifacts")
    return Group(
        home,
        {
            "io_manager": ArchiveIOManager(base_path=artifacts),
            "checkpoints": Checkpoints(base_path=artifacts),
            "tick_source": source,
            "tick_lakehouse": Lakehouse(
                catalog_uri=f"sqlite:///{home}/lakehouse.db", warehouse=str(files / "warehouse")
            ),
            "tick_mlflow": MlflowResource(
                experiment="tick",
                tracking_uri=f"sqlite:///{home}/mlflow.db",
                artifact_location=str(files / "mlflow"),
                ui_url="http://127.0.0.1:5000",
            ),
        },
        instance,
    )


@dataclass
class Prepared:
    """A home to copy, its source, and the run that made it what it is."""

    home: Path
    source: TickSource
    result: dg.ExecuteInProcessResult


# What a run says, and what it left.


def metadata(result: dg.ExecuteInProcessResult, name: str) -> dict[str, Any]:
    """What a run says of an asset: of the last of its partitions, and of all of them."""
    *_, event = result.asset_materializations_for_node(f"tick__{name}")
    return {key: entry.value for key, entry in event.metadata.items()}


def failures(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    return {
        str(event.step_key): str(event.step_failure_data.user_failure_data)
        for event in result.get_step_failure_events()
    }


def retries(result: dg.ExecuteInProcessResult) -> int:
    return len([event for event in result.all_events if event.is_step_up_for_retry])


def kept(group: Group, name: str, kind: type, day: str = FRIDAY) -> Any:
    """What an asset left behind."""
    [path] = (group.home / "artifacts" / "tick" / name).glob(f"{day}*")
    return archive.load(kind, path)


def aliases(group: Group) -> dict[str, dict[str, str]]:
    """The aliases of every registered model."""
    found = MlflowClient(group.mlflow.tracking_uri).search_registered_models()
    return {
        entry.name: {alias: str(version) for alias, version in entry.aliases.items()}
        for entry in found
    }


def equal(one: pa.Table, two: pa.Table) -> bool:
    """All rows are the same; NaN is NaN."""
    return one.schema == two.schema and one.to_pandas().equals(two.to_pandas())


def days_of(rows: pa.Table) -> list[str]:
    names = ("partition_time_utc", "event_time_utc")
    time = next(name for name in names if name in rows.column_names)
    return [str(day) for day in np.unique(rows[time].to_numpy().astype("datetime64[D]"))]
