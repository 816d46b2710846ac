"""The group with everything that it keeps, run in the test's process on the replayed sample."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
from pydantic import Field

from ml_assets.io_managers.archives import ArchiveIOManager
from ml_assets.power.definitions import ASSETS, CHECKS, _source
from ml_assets.resources.lakehouse import Lakehouse
from ml_assets.resources.mlflow import MlflowResource
from ml_assets.resources.readings import ReadingsSource
from ml_assets.resources.readings.lines import SCHEMA
from ml_assets.resources.studies import Studies

FIRST, TODAY, TOMORROW = "2025-01-01", "2025-04-20", "2025-04-21"
QUICK = {"trials": 3, "folds": 1, "validation_days": 7, "test_days": 7}
TABLES = "key:power/raw_readings or key:power/readings or key:power/features"
REPLAY = _source("replay")

Days = str | tuple[str, str]
"""A partition, or the first and the last of a range."""


def midnight(day: str, later: int = 0) -> datetime:
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC) + timedelta(later)


def as_range(days: tuple[str, str]) -> dict[str, str]:
    """The tags by which Dagster knows a range of partitions."""
    first, last = days
    return {
        "dagster/asset_partition_range_start": first,
        "dagster/asset_partition_range_end": last,
    }


class AlteredReadings(ReadingsSource):
    """The replay, with lines added to a day, with days that have none, or that break the source."""

    day: str = TODAY
    added: list[str] = Field(default=[])
    absent: list[str] = Field(default=[])
    broken: list[str] = Field(default=[])

    def read(self, start: date, end: date) -> pa.Table:
        rows = REPLAY.read(start, end).to_pylist()
        for row in rows:
            if str(row["day"]) in self.broken:
                raise OSError(f"the meter's disk broke on {row['day']}")
        rows = [row for row in rows if str(row["day"]) not in self.absent]
        day = date.fromisoformat(self.day)
        if start <= day < end:
            rows += [
                {"day": day, "line": number, "text": text}
                for number, text in enumerate(self.added, start=10_000_000)
            ]
        return pa.Table.from_pylist(rows, schema=SCHEMA)

    def digest(self, start: date, end: date) -> str:
        return REPLAY.digest(start, end)

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
        days: Days = TODAY,
        *,
        checks: bool = True,
        tuning: dict[str, Any] | None = None,
        **resources: Any,
    ) -> dg.ExecuteInProcessResult:
        """Materialize assets of the group; failures are returned, not raised."""
        chosen = dg.AssetSelection.from_string(selection)
        tunes = selection == "*" or "power/tuning" in selection
        searching = {"power__tuning": {"config": QUICK | (tuning or {})}}
        return dg.materialize(
            [*ASSETS, *CHECKS],
            selection=chosen if checks else chosen.without_checks(),
            instance=self.instance,
            resources=self.resources | resources,
            partition_key=days if isinstance(days, str) else None,
            tags=None if isinstance(days, str) else as_range(days),
            run_config={"ops": searching if tunes else {}},
            raise_on_error=False,
        )

    def read(self, table: str, first: str = FIRST, last: str = "2026-01-01") -> pa.Table:
        """The rows of some days, in an order that does not depend on how they were written."""
        rows = self.lakehouse.read(f"power.{table}", midnight(first), midnight(last, 1))
        times = [name for name in rows.column_names if name.endswith("_time_utc")]
        lines = [name for name in rows.column_names if name == "line"]
        return rows.sort_by([(name, "ascending") for name in times + lines])

    @property
    def lakehouse(self) -> Lakehouse:
        return self.resources["power_lakehouse"]

    @property
    def mlflow(self) -> MlflowResource:
        return self.resources["power_mlflow"]

    @property
    def studies(self) -> Studies:
        return self.resources["power_studies"]


def build(home: Path, files: Path, instance: dg.DagsterInstance) -> Group:
    """The group as it is kept in `home`, where `files` holds what never changes."""
    return Group(
        home,
        {
            "io_manager": ArchiveIOManager(base_path=str(home / "artifacts")),
            "power_source": REPLAY,
            "power_lakehouse": Lakehouse(
                catalog_uri=f"sqlite:///{home}/lakehouse.db", warehouse=str(files / "warehouse")
            ),
            "power_studies": Studies(storage_url=f"sqlite:///{home}/studies.db"),
            "power_mlflow": MlflowResource(
                experiment="power",
                tracking_uri=f"sqlite:///{home}/mlflow.db",
                artifact_location=str(files / "mlflow"),
                ui_url="http://127.0.0.1:5000",
            ),
        },
        instance,
    )


@dataclass
class Prepared:
    """A home to copy, and the run that made it what it is."""

    home: Path
    result: dg.ExecuteInProcessResult
