"""What the code location is made of, what the environment makes of it, and its sensor."""

import inspect
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from ml_assets import build
from ml_assets.ml.errors import DataError
from ml_assets.ml.windows import windowed
from ml_assets.resources.ticks import (
    ArchiveTicks,
    FileTicks,
    IcebergTicks,
    PostgresTicks,
    ReplayedTicks,
    SampleTicks,
    index,
)
from ml_assets.tick import data, definitions
from ml_assets.tick.config import DAYS, BarsConfig, CleaningConfig, TrainingConfig, WindowsConfig
from ml_assets.tick.features import bars
from ml_assets.tick.model import train

ROOT = Path(__file__).parents[2]
BY_NAME = {asset.key.path[-1]: asset for asset in definitions.ASSETS}
SOURCES = {
    "sample": SampleTicks,
    "replay": ReplayedTicks,
    "files": FileTicks,
    "postgres": PostgresTicks,
    "iceberg": IcebergTicks,
    "archive": ArchiveTicks,
}


def fresh(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own: the environment is read at import."""
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


def test_every_asset_is_retried_twice_and_knows_its_code_and_its_days() -> None:
    for name, asset in BY_NAME.items():
        [spec] = asset.specs
        assert asset.op.retry_policy.max_retries == 2
        assert asset.partitions_def == DAYS
        assert spec.code_version == build.code_version("tick")
        assert spec.group_name == spec.key.path[0] == "tick"
        assert spec.description
        tables = {"raw_ticks", "ticks", "bars", "features"}
        assert asset.backfill_policy == (dg.BackfillPolicy.single_run() if name in tables else None)
    assert {name for name, asset in BY_NAME.items() if asset.op.pool} == {"model"}


@pytest.mark.parametrize(
    ("name", "days_before"),
    [("features", {"tick/bars": 5}), ("windows", {"tick/features": 59})],
)
def test_what_looks_back_says_so_and_a_backfill_makes_the_same_day(
    name: str, days_before: dict[str, int]
) -> None:
    [spec] = BY_NAME[name].specs
    assert spec.metadata["days_before"] == days_before
    assert set(days_before) <= {dep.asset_key.to_user_string() for dep in spec.deps}
    assert not any(dep.partition_mapping for dep in spec.deps)


@pytest.mark.parametrize(
    ("config", "function", "others"),
    [
        (CleaningConfig, data.clean, {"raw", "start", "end"}),
        (BarsConfig, bars, {"ticks", "timezone"}),
        (WindowsConfig, windowed, {"series"}),
        (TrainingConfig, train, {"windows", "code_version", "checkpoint", "champion"}),
    ],
)
def test_the_fields_are_the_parameters(config: type, function: Any, others: set[str]) -> None:
    fields = set(config.model_fields) - {"window_days", "warm_start"}
    assert fields == set(inspect.signature(function).parameters) - others
    assert all(field.description for field in config.model_fields.values())


@pytest.mark.parametrize(
    ("asset", "config", "message"),
    [
        ("ticks", {"max_excluded_share": 1.5}, "less than or equal to 1"),
        ("ticks", {"identical_trades": "some"}, "keep"),
        ("bars", {"size": 0.0}, "greater than 0"),
        ("bars", {"kind": "renko"}, "dollar"),
        ("windows", {"window_days": 1}, "greater than or equal to 3"),
        ("windows", {"test_fraction": 0.9}, "less than 0.5"),
        ("model", {"architecture": "mamba"}, "transformer"),
        ("model", {"units": 30}, "multiple of 4"),
        ("model", {"epoch": 3}, 'unexpected config entry "epoch"'),
    ],
)
def test_a_wrong_value_is_refused_before_any_work_starts(
    asset: str, config: dict[str, Any], message: str
) -> None:
    job = definitions.defs.resolve_job_def("tick_daily")
    with dg.DagsterInstance.ephemeral() as instance:
        with pytest.raises(dg.DagsterInvalidConfigError, match=f"(?s){message}"):
            job.execute_in_process(
                run_config={"ops": {f"tick__{asset}": {"config": config}}},
                partition_key="2025-04-18",
                instance=instance,
            )
        assert instance.get_runs() == []


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_has_its_resource(name: str) -> None:
    found = definitions._source(name)
    assert type(found) is SOURCES[name]
    assert found.unique_days == (7 if name == "replay" else None)


def test_what_may_hold_a_password_is_a_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "ICEBERG_CATALOG_URL"):
        monkeypatch.setenv(f"TICK_{name}", "postgresql://someone:password@host/db")
    database, catalog = definitions._source("postgres"), definitions._source("iceberg")
    monkeypatch.setenv("TICK_URL", "https://host/{symbol}/{date}.zip?key=password")
    archive = definitions._source("archive")
    assert "password" not in str([database, catalog, archive])
    assert archive.url.env_var_name == "TICK_URL"  # type: ignore[attr-defined]
    assert database.url.env_var_name == "TICK_DATABASE_URL"  # type: ignore[attr-defined]
    assert catalog.catalog_uri.env_var_name == "TICK_ICEBERG_CATALOG_URL"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"TICK_SOURCE": "tape"},
            "TICK_SOURCE: expected sample, replay, files, postgres, iceberg or archive; found "
            "'tape'; remedy:",
        ),
        (
            {"TICK_SOURCE": "files", "TICK_COLUMNS": "price=px"},
            "TICK_COLUMNS: expected JSON such as",
        ),
        (
            {"TICK_SOURCE": "archive", "ML_ASSETS_TIMEZONE": "America/New_York"},
            "TICK_TIMEZONE or ML_ASSETS_TIMEZONE: expected UTC, whose days an archive publishes; "
            "found 'America/New_York'; remedy: set TICK_TIMEZONE=UTC",
        ),
    ],
)
def test_a_wrong_variable_is_refused_and_leaves_the_other_groups_alone(
    variables: dict[str, str], message: str
) -> None:
    result = fresh("import ml_assets.tick.definitions", **variables)
    assert result.returncode
    assert message in result.stderr
    assert fresh("import ml_assets.power.definitions", **variables).returncode == 0


NEW_YORK = "America/New_York"
STATE = """
import json
from ml_assets.tick.definitions import DAYS, defs
schedule, sensor = defs.resolve_schedule_def("tick_daily"), defs.get_sensor_def("tick_files")
print(json.dumps([
    schedule.default_status.value, schedule.cron_schedule, schedule.execution_timezone,
    sensor.default_status.value, DAYS.get_first_partition_key(), DAYS.start.isoformat()[-6:],
]))
"""


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("replay", ["RUNNING", "30 0 * * *", NEW_YORK, "STOPPED", "2025-01-01", "-05:00"]),
        ("files", ["STOPPED", "30 0 * * *", NEW_YORK, "RUNNING", "2010-01-01", "-05:00"]),
        ("archive", ["RUNNING", "30 12 * * *", "UTC", "STOPPED", "2010-01-01", "+00:00"]),
        ("sample", ["STOPPED", "30 0 * * *", NEW_YORK, "STOPPED", "2013-10-07", "-04:00"]),
    ],
)
def test_what_runs_by_itself_depends_on_the_source(source: str, expected: list[str]) -> None:
    result = fresh(STATE, TICK_SOURCE=source, TICK_TIMEZONE=expected[2])
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1]) == expected


def test_late_files_are_seen_to_by_a_sensor_that_is_on() -> None:
    found = definitions.defs.get_sensor_def("tick_late_files")
    assert found.default_status == dg.DefaultSensorStatus.RUNNING


# The sensor of new and of late files.


class Directory:
    """A directory of ticks, and the sensor that looks at it."""

    def __init__(self, path: Path, instance: dg.DagsterInstance) -> None:
        self.path, self.instance = path, instance
        self.cursor: str | None = None

    def write(self, name: str, moment: datetime, price: float = 1.0) -> None:
        times = [moment + timedelta(minutes=minute) for minute in range(10)]
        frame = pl.DataFrame({"timestamp": times, "price": price, "size": 1.0})
        frame.write_csv(self.path / name)

    def tick(self) -> Any:
        """What the sensor says, with a new cursor."""
        with dg.build_sensor_context(
            self.instance,
            cursor=self.cursor,
            resources={"tick_source": FileTicks(directory=str(self.path))},
            definitions=definitions.defs,
        ) as context:
            result = definitions.tick_files.evaluate_tick(context)
        self.cursor = result.cursor
        return result

    def look(self) -> list[tuple[str | None, str | None]]:
        """The jobs and partitions that the sensor asks for."""
        return [(request.job_name, request.partition_key) for request in self.tick().run_requests]


@pytest.fixture
def directory(tmp_path: Path) -> Any:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Directory(tmp_path, instance)


def on(day: int) -> datetime:
    return datetime(2025, 3, day, 12, tzinfo=UTC)


def test_a_new_day_is_run_and_a_late_file_makes_its_tables_again(directory: Directory) -> None:
    directory.write("3.csv", on(3))
    assert directory.look() == []  # what is there already is left to a backfill
    assert directory.look() == []
    directory.write("4.csv", on(4))
    assert directory.look() == [("tick_daily", "2025-03-04")]
    assert directory.look() == []
    for day in ("2025-03-03", "2025-03-04"):
        event = dg.AssetMaterialization(dg.AssetKey(["tick", "raw_ticks"]), partition=day)
        directory.instance.report_runless_asset_event(event)
    directory.write("late.csv", on(3), price=2.0)
    assert directory.look() == [("tick_tables", "2025-03-03")]
    directory.write("4.csv", on(4), price=3.0)
    assert directory.look() == [("tick_tables", "2025-03-04")]
    assert directory.look() == []


def test_a_day_that_has_not_ended_waits(directory: Directory) -> None:
    directory.write("3.csv", on(3))
    assert directory.look() == []
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    directory.write("today.csv", today)
    assert directory.look() == []
    assert str(today.date()) not in json.loads(str(directory.cursor))["days"]


def test_an_empty_directory_is_said_and_its_first_file_is_run(directory: Directory) -> None:
    for _ in range(2):
        result = directory.tick()
        assert result.run_requests == []
        assert result.skip_message == f"nothing yet in files: {directory.path}"
    directory.write("3.csv", on(3))
    assert directory.look() == [("tick_daily", "2025-03-03")]


def test_a_damaged_file_fails_the_tick_and_nothing_is_missed(directory: Directory) -> None:
    directory.write("3.csv", on(3))
    assert directory.look() == []
    directory.write("4.csv", on(4))
    (directory.path / "5.csv").write_text("neither,ticks\n1,2\n")
    with pytest.raises(DataError, match=r"expected .*5\.csv.*remedy"):
        directory.look()
    (directory.path / "5.csv").unlink()
    assert directory.look() == [("tick_daily", "2025-03-04")]


def test_files_that_are_gone_and_a_directory_that_never_was_fail_the_tick(
    directory: Directory,
) -> None:
    directory.write("3.csv", on(3))
    assert directory.look() == []
    (directory.path / "3.csv").unlink()
    with pytest.raises(DataError, match="found none of them; remedy: put them there"):
        directory.look()
    other = Directory(directory.path / "misspelt", directory.instance)
    with pytest.raises(DataError, match="found no such directory; remedy"):
        other.look()


def test_a_file_that_returns_to_what_it_was_is_run_again(directory: Directory) -> None:
    directory.write("3.csv", on(3))
    assert directory.look() == []
    for price in (1.0, 2.0, 1.0, 2.0):
        directory.write("4.csv", on(4), price)
        [request] = directory.tick().run_requests
        assert request.partition_key == "2025-03-04"
        assert request.run_key is None  # Dagster leaves out what has the key of an earlier run
        assert directory.look() == []


def test_digests_of_another_version_ask_for_new_days_only(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.write("3.csv", on(3))
    assert directory.look() == []
    monkeypatch.setattr(index, "VERSION", index.VERSION + 1)
    directory.write("3.csv", on(3), price=2.0)
    directory.write("4.csv", on(4))
    assert directory.look() == [("tick_daily", "2025-03-04")]
    directory.write("3.csv", on(3), price=3.0)
    assert directory.look() == [("tick_daily", "2025-03-03")]


def test_days_of_files_are_those_of_the_time_zone(directory: Directory) -> None:
    directory.write("night.csv", datetime(2025, 3, 4, 2, tzinfo=UTC))
    source = FileTicks(directory=str(directory.path))
    assert [str(day) for day in source.days()] == ["2025-03-04"]
    assert [str(day) for day in source.days("America/New_York")] == ["2025-03-03"]
    assert [str(day) for day in source.days("Asia/Tokyo")] == ["2025-03-04"]
