"""What the code location is made of, and what the environment makes of it."""

import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets import build
from ml_assets.power import assets, data, definitions
from ml_assets.power.config import DAYS
from ml_assets.resources.readings import (
    LocalReadings,
    PostgresReadings,
    ReplayedReadings,
    SampleReadings,
    UciReadings,
)
from ml_assets_tests.power.group import REPLAY, TODAY, Group

ROOT = Path(__file__).parents[2]
DAY = timedelta(days=1)
BY_NAME = {asset.key.path[-1]: asset for asset in definitions.ASSETS}


def fresh(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own: the environment is read at import."""
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, **environment},
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


# What there is.


def test_every_asset_is_retried_twice_and_knows_its_code_and_its_days() -> None:
    assert list(BY_NAME) == [
        "raw_readings",
        "readings",
        "features",
        "tuning",
        "model",
        "evaluation",
        "mlflow_run",
        "registered_model",
        "forecast",
        "shadow",
    ]
    for asset in BY_NAME.values():
        assert asset.op.retry_policy.max_retries == 2
        assert asset.partitions_def == DAYS
        [spec] = asset.specs
        assert spec.code_version == build.code_version("power")
        assert spec.group_name == spec.key.path[0] == "power"
        assert spec.description


def test_the_tables_take_a_range_in_one_run_and_the_training_a_day() -> None:
    policies = {name: asset.backfill_policy for name, asset in BY_NAME.items()}
    ranges = {name for name, policy in policies.items() if policy}
    assert ranges == {"raw_readings", "readings", "features"}
    assert {policies[name] for name in ranges} == {dg.BackfillPolicy.single_run()}


@pytest.mark.parametrize(
    ("name", "days_before"),
    [
        ("features", {"power/readings": 29}),
        ("tuning", {"power/features": 729}),
        ("forecast", {"power/features": 7, "power/readings": 29}),
    ],
)
def test_what_looks_back_says_so_and_a_backfill_makes_the_same_day(
    name: str, days_before: dict[str, int]
) -> None:
    [spec] = BY_NAME[name].specs
    assert spec.metadata["days_before"] == days_before
    assert set(days_before) <= {dep.asset_key.to_user_string() for dep in spec.deps}
    assert not any(dep.partition_mapping for dep in spec.deps)


def test_trainings_wait_for_each_other() -> None:
    pooled = {name for name, asset in BY_NAME.items() if asset.op.pool}
    assert pooled == {"tuning", "model"}
    assert {BY_NAME[name].op.pool for name in pooled} == {build.TRAINING_POOL}


# Configuration and sources.


@pytest.mark.parametrize(
    ("asset", "config", "message"),
    [
        ("readings", {"max_excluded_share": 1.5}, "less than or equal to 1"),
        ("tuning", {"window_days": 10}, "greater than or equal to 60"),
        ("tuning", {"horizon": "next_week"}, "day_ahead.*next_hour"),
        ("tuning", {"trials": "many"}, "trials"),
        ("model", {"interval": 1.0}, "less than 1"),
        ("model", {"intervall": 0.8}, 'unexpected config entry "intervall"'),
    ],
)
def test_a_wrong_value_is_refused_before_any_work_starts(
    asset: str, config: dict[str, Any], message: str
) -> None:
    job = definitions.defs.resolve_job_def("power_daily")
    with dg.DagsterInstance.ephemeral() as instance:
        with pytest.raises(dg.DagsterInvalidConfigError, match=f"(?s){message}"):
            job.execute_in_process(
                run_config={"ops": {f"power__{asset}": {"config": config}}},
                partition_key=TODAY,
                instance=instance,
            )
        assert instance.get_runs() == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sample", SampleReadings),
        ("replay", ReplayedReadings),
        ("uci", UciReadings),
        ("local", LocalReadings),
        ("postgres", PostgresReadings),
    ],
)
def test_every_source_has_its_resource(name: str, kind: type) -> None:
    assert type(definitions._source(name)) is kind


def test_only_a_replay_repeats() -> None:
    assert REPLAY.unique_days == data.SAMPLE_WEEKS * 7 == 182
    for name in ("sample", "uci", "local", "postgres"):
        assert definitions._source(name).unique_days is None


def test_what_may_hold_a_password_is_a_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://someone:password@host/db"
    for name in ("DATABASE_URL", "LAKEHOUSE_CATALOG_URL", "OPTUNA_STORAGE_URL"):
        monkeypatch.setenv(f"POWER_{name}", url)
    resources = [
        definitions._source("postgres"),
        build.lakehouse_resource("power"),
        build.studies_resource("power"),
    ]
    assert "password" not in str(resources)
    found = [resources[0].url, resources[1].catalog_uri, resources[2].storage_url]
    assert [entry.env_var_name for entry in found] == [
        "POWER_DATABASE_URL",
        "POWER_LAKEHOUSE_CATALOG_URL",
        "POWER_OPTUNA_STORAGE_URL",
    ]


def test_an_unknown_source_or_policy_is_refused_and_leaves_the_other_groups_alone() -> None:
    result = fresh("import ml_assets.power.definitions", POWER_SOURCE="meter")
    assert result.returncode
    assert (
        "POWER_SOURCE: expected sample, replay, uci, local or postgres; found 'meter'; remedy:"
        in result.stderr
    )
    result = fresh("import ml_assets.power.definitions", POWER_PROMOTION="shadow")
    assert result.returncode
    assert "POWER_PROMOTION or ML_ASSETS_PROMOTION: expected auto, manual or" in result.stderr
    program = "from ml_assets.mnist.definitions import defs; print(len(defs.assets))"
    other = fresh(program, POWER_SOURCE="meter", POWER_PROMOTION="shadow")
    assert other.returncode == 0, other.stderr


# The schedules.

TICKS = """
import json
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo
import dagster as dg
from dagster._utils.schedules import cron_string_iterator
from ml_assets.power.definitions import defs

schedule = defs.resolve_schedule_def("power_daily")
zone = schedule.execution_timezone
found = {}
for begin in ("2025-03-29", "2025-10-25"):
    start = datetime.fromisoformat(begin).replace(tzinfo=ZoneInfo(zone)).timestamp()
    ticks = cron_string_iterator(start, schedule.cron_schedule, zone)
    for _, tick in zip(range(4), ticks):
        with dg.build_schedule_context(scheduled_execution_time=tick) as context:
            [request] = schedule.evaluate_tick(context).run_requests
        found[tick.isoformat()] = request.partition_key
print(json.dumps(found))
"""


def test_the_daily_schedule_runs_yesterday_at_half_past_midnight_on_the_wall_clock() -> None:
    result = fresh(TICKS, POWER_TIMEZONE="Europe/Paris")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1]) == {
        "2025-03-29T00:30:00+01:00": "2025-03-28",
        "2025-03-30T00:30:00+01:00": "2025-03-29",
        "2025-03-31T00:30:00+02:00": "2025-03-30",
        "2025-04-01T00:30:00+02:00": "2025-03-31",
        "2025-10-25T00:30:00+02:00": "2025-10-24",
        "2025-10-26T00:30:00+02:00": "2025-10-25",
        "2025-10-27T00:30:00+01:00": "2025-10-26",
        "2025-10-28T00:30:00+01:00": "2025-10-27",
    }


def test_the_schedules_of_a_replay_are_on() -> None:
    for name, cron in {"power_daily": "30 0 * * *", "power_upkeep": "0 4 * * 0"}.items():
        schedule = definitions.defs.resolve_schedule_def(name)
        assert schedule.cron_schedule == cron
        assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING


@pytest.mark.parametrize(
    ("source", "first", "last"),
    [
        ("sample", data.SAMPLE_FIRST_DAY, data.SAMPLE_LAST_DAY),
        ("uci", data.FIRST_DAY, data.LAST_DAY),
    ],
)
def test_a_finished_record_has_a_last_day_and_its_schedule_is_off(
    source: str, first: str, last: str
) -> None:
    program = (
        "from ml_assets.power.definitions import DAYS, defs; "
        "print(defs.resolve_schedule_def('power_daily').default_status.value, "
        "DAYS.get_first_partition_key(), DAYS.get_last_partition_key())"
    )
    result = fresh(program, POWER_SOURCE=source)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[-3:] == ["STOPPED", first, last]


# Days on which a clock is changed.

CHANGES = """
import json, os, sys
from pathlib import Path
import dagster as dg
from ml_assets_tests.power.group import TABLES, build

def tables():
    return {
        name: group.read(name).to_pandas().to_csv(index=False) for name in ("readings", "features")
    }

home, zone, days = Path(sys.argv[1]), os.environ["POWER_TIMEZONE"], json.loads(sys.argv[2])
with dg.DagsterInstance.ephemeral() as instance:
    group = build(home, home, instance)
    for before, day, after in days:
        result = group.run(TABLES, (before, after))
        assert result.success
        checks = result.get_asset_check_evaluations()
        failed = {check.check_name for check in checks if not check.passed}
        # There are no days but these, of two seasons.
        assert failed <= {"no_missing_days", "inputs_have_not_drifted"}, failed
    of_ranges = tables()
    for _, day, _ in days:
        assert group.run(TABLES, day, checks=False).success
    assert tables() == of_ranges
    days = {
        name: group.read(name)["event_time_utc"].to_pandas().dt.tz_convert(zone).dt.date
        for name in of_ranges
    }
    print(json.dumps({
        "rows": {
            name: {str(day): int(n) for day, n in found.value_counts().sort_index().items()}
            for name, found in days.items()
        },
        "reasons": sorted(set(group.read("quarantine")["reason"].to_pylist())),
    }))
"""


@pytest.mark.parametrize(
    ("timezone", "short", "long", "hours"),
    [
        ("Europe/Paris", "2025-03-30", "2025-10-26", (23, 25)),
        # At midnight: it is skipped, or comes twice.
        ("America/Santiago", "2025-09-07", "2025-04-05", (23, 25)),
        ("America/Havana", "2025-03-09", "2025-11-02", (23, 25)),
        # By half an hour.
        ("Australia/Lord_Howe", "2025-10-05", "2025-04-06", (23.5, 24.5)),
    ],
)
def test_days_on_which_a_clock_is_changed_are_whole(
    timezone: str, short: str, long: str, hours: tuple[float, float], tmp_path: Path
) -> None:
    """In a range and alone, in the time zone where they are that long."""
    days = [[str(date.fromisoformat(day) + n * DAY) for n in (-1, 0, 1)] for day in (short, long)]
    result = fresh(CHANGES, str(tmp_path), json.dumps(days), POWER_TIMEZONE=timezone)
    assert result.returncode == 0, result.stderr[-3000:]
    found = json.loads(result.stdout.splitlines()[-1])
    lengths = {day: 24.0 for three in days for day in three} | {short: hours[0], long: hours[1]}
    assert found["rows"]["features"] == {day: -(-n // 1) for day, n in lengths.items()}
    assert found["rows"]["readings"] == {day: n * 60 for day, n in lengths.items()}
    # A replayed day of the long kind shows each minute once, one of the short kind too many.
    assert found["reasons"] == ["nonexistent_time"]


BEFORE_A_CHANGE = """
import json, sys
from pathlib import Path
import dagster as dg
from ml_assets_tests.power.group import TABLES, build

home = Path(sys.argv[1])
with dg.DagsterInstance.ephemeral() as instance:
    group = build(home, home, instance)
    assert group.run(TABLES, ("2025-06-20", "2025-09-05"), checks=False).success
    failed = {}
    for day in ("2025-09-06", "2025-09-07"):
        result = group.run(days=day)
        assert result.success
        evaluations = result.get_asset_check_evaluations()
        failed[day] = sorted(check.check_name for check in evaluations if not check.passed)
    tuning = result.output_for_node("power__tuning")
    times = group.read("forecast")["event_time_utc"].to_pylist()
    print(json.dumps([failed, list(map(str, times)), tuning.rows]))
"""


def test_the_group_forecasts_a_day_without_midnight(tmp_path: Path) -> None:
    """Santiago's clocks go from 24:00 of 6 September 2025 to 01:00 of the seventh."""
    result = fresh(BEFORE_A_CHANGE, str(tmp_path), POWER_TIMEZONE="America/Santiago")
    assert result.returncode == 0, result.stderr[-3000:]
    failed, times, rows = json.loads(result.stdout.splitlines()[-1])
    begin = datetime(2025, 9, 7, 4, tzinfo=UTC)
    assert times == [str(begin + number * DAY / 24) for number in range(23 + 24)]
    assert datetime.fromisoformat(rows["end"]) == begin + 23 * DAY / 24
    assert failed == {"2025-09-06": [], "2025-09-07": []}


# Upkeep.


def test_the_upkeep_job_looks_after_all_tables(empty: Group) -> None:
    lakehouse = empty.lakehouse
    for day in ("2025-01-01", "2025-01-02"):
        tables = "key:power/raw_readings or key:power/readings"
        assert empty.run(tables, day, checks=False).success
    before = {name: empty.read(name) for name in ("raw_readings", "readings")}
    job = definitions.defs.resolve_job_def("power_upkeep")
    assert job.execute_in_process(resources={"power_lakehouse": lakehouse}).success
    for name, rows in before.items():
        assert empty.read(name).equals(rows)
        # Each day was in a file of its own.
        assert lakehouse.maintain(f"power.{name}").data_files == (1, 1)
    # A table without a row, for no line was odd, is no obstacle.
    assert len(empty.read("quarantine")) == 0


def test_upkeep_before_the_first_table_does_nothing(empty: Group) -> None:
    job = definitions.defs.resolve_job_def("power_upkeep")
    assert job.execute_in_process(resources={"power_lakehouse": empty.lakehouse}).success


def test_the_names_of_the_models_differ() -> None:
    assert len(set(assets.MODEL_NAMES.values())) == 2
