from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._utils.schedules import cron_string_iterator

from ml_assets import build
from ml_assets.ml.training import training_fingerprint
from ml_assets.mnist import definitions
from ml_assets.mnist.config import TrainingConfig
from ml_assets.promotion import Policy
from ml_assets.reporting import FINGERPRINT
from ml_assets.resources.datasets import DatasetFile
from ml_assets.settings import data_dir, secret, setting, timezone


@pytest.fixture
def instance():
    with dg.instance_for_test() as found:
        yield found


def tick(
    instance: dg.DagsterInstance, source: DatasetFile = definitions.mnist_source
) -> dg.RunRequest | dg.SkipReason:
    """What the weekly schedule asks for."""
    schedule = definitions.defs.resolve_schedule_def("mnist_weekly")
    resources = {"mnist_source": source}
    with dg.build_schedule_context(instance, resources=resources) as context:
        data = schedule.evaluate_tick(context)
    return data.run_requests[0] if data.run_requests else dg.SkipReason(data.skip_message)


def succeed(instance: dg.DagsterInstance, configuration: dict[str, Any] | None = None) -> None:
    """Record that a model was registered, trained as the schedule trains it or otherwise."""
    fingerprint = training_fingerprint(
        definitions.mnist_source.digest(),
        build.code_version("mnist"),
        configuration or TrainingConfig().model_dump(),
    )

    @dg.asset(key_prefix="mnist")
    def registered_model() -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata={FINGERPRINT: fingerprint})

    dg.materialize([registered_model], instance=instance)


def test_the_first_tick_runs(instance: dg.DagsterInstance) -> None:
    assert isinstance(tick(instance), dg.RunRequest)


def test_a_week_without_changes_is_skipped_with_its_reason(instance: dg.DagsterInstance) -> None:
    succeed(instance)
    skipped = tick(instance)
    assert isinstance(skipped, dg.SkipReason)
    assert "data, code and configuration are unchanged since run" in skipped.skip_message
    assert "MNIST_SKIP_UNCHANGED=false" in skipped.skip_message


def test_a_registration_that_was_reported_by_hand_skips_nothing(
    instance: dg.DagsterInstance,
) -> None:
    by_hand = dg.AssetMaterialization(["mnist", "registered_model"])
    instance.report_runless_asset_event(by_hand)
    assert isinstance(tick(instance), dg.RunRequest)


@pytest.mark.parametrize("value", ["false", "False", "0", "no"])
def test_the_option_turns_skipping_off(
    value: str, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    succeed(instance)
    monkeypatch.setenv("MNIST_SKIP_UNCHANGED", value)
    assert isinstance(tick(instance), dg.RunRequest)


@pytest.mark.parametrize("changed", ["data", "code"])
def test_a_change_runs(
    changed: str, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    succeed(instance)
    if changed == "code":
        monkeypatch.setattr(build, "code_version", lambda group: f"new {group}")
    else:
        monkeypatch.setattr(type(definitions.mnist_source), "digest", lambda _: "new")
    assert isinstance(tick(instance), dg.RunRequest)


def test_only_the_last_success_counts(instance: dg.DagsterInstance) -> None:
    succeed(instance)
    succeed(instance, {"architecture": "another"})
    assert isinstance(tick(instance), dg.RunRequest)


def test_data_that_cannot_be_read_are_left_to_the_run(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    """A failed tick would be lost for a week; a failed run can be re-executed."""
    values = definitions.mnist_source.model_dump() | {
        "source": "local",
        "directory": str(tmp_path),
    }
    succeed(instance)
    assert isinstance(tick(instance, DatasetFile(**values)), dg.RunRequest)


def test_the_schedule_is_weekly_and_running() -> None:
    schedule = definitions.defs.resolve_schedule_def("mnist_weekly")
    assert schedule.cron_schedule == "0 3 * * 1"
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING


def test_every_asset_is_retried_twice_and_knows_its_code() -> None:
    for asset in definitions.ASSETS:
        assert asset.op.retry_policy.max_retries == 2
        [spec] = asset.specs
        assert spec.code_version == build.code_version("mnist")
        assert spec.group_name == spec.key.path[0] == "mnist"
        assert spec.description


def test_retries_wait_a_minute_by_default() -> None:
    import subprocess
    import sys

    program = "from ml_assets.build import RETRY_POLICY as p; print(p.max_retries, p.delay)"
    result = subprocess.run(
        [sys.executable, "-c", program], env={}, capture_output=True, text=True, check=True
    )
    assert result.stdout == "2 60.0\n"


def test_a_group_setting_goes_before_the_common_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert setting("mnist", "COLOUR", "blue") == "blue"
    monkeypatch.setenv("ML_ASSETS_COLOUR", "red")
    assert setting("mnist", "COLOUR", "blue") == "red"
    monkeypatch.setenv("MNIST_COLOUR", "green")
    assert setting("mnist", "COLOUR", "blue") == "green"


def test_a_secret_is_a_reference_and_not_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://someone:password@host/db")
    found = secret("mnist", "MLFLOW_TRACKING_URI", "sqlite:///")
    assert isinstance(found, dg.EnvVar)
    assert found.env_var_name == "MLFLOW_TRACKING_URI"
    monkeypatch.setenv("MNIST_MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    group = secret("mnist", "MLFLOW_TRACKING_URI", "sqlite:///")
    assert isinstance(group, dg.EnvVar)
    assert group.env_var_name == "MNIST_MLFLOW_TRACKING_URI"
    assert "password" not in str(build.mlflow_resource("mnist"))
    monkeypatch.setenv("URL", "of something else")
    assert secret("mnist", "URL", "default", shared=False) == "default"


def test_the_data_directory_is_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ML_ASSETS_DATA_DIR", raising=False)
    assert data_dir().is_absolute()
    assert data_dir().name == "data"


# Promotion.


def test_promotion_is_automatic_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert build.promotion_policy("mnist") == Policy("auto")
    monkeypatch.setenv("ML_ASSETS_PROMOTION", "manual")
    assert build.promotion_policy("mnist") == Policy("manual")
    monkeypatch.setenv("MNIST_PROMOTION", "shadow(14)")
    assert build.promotion_policy("mnist") == Policy("shadow", 14)
    assert build.promotion_policy("power") == Policy("manual")
    assert [str(Policy("auto")), str(Policy("shadow", 14))] == ["auto", "shadow(14)"]


@pytest.mark.parametrize("value", ["automatic", "shadow", "shadow(0)", "shadow(-1)", "shadow(2w)"])
def test_an_unknown_policy_is_refused_with_its_remedy(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNIST_PROMOTION", value)
    with pytest.raises(ValueError, match=r"expected auto, manual or shadow\(n\)") as raised:
        build.promotion_policy("mnist")
    assert "MNIST_PROMOTION or ML_ASSETS_PROMOTION: expected" in str(raised.value)
    assert f"found {value!r}; remedy: set it to one of these" in str(raised.value)


# Days and time zones.


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("TIMEZONE", "Europe/Pari", "expected a time zone such as Europe/Paris; found"),
        ("TIMEZONE", "Europe", "expected a time zone such as Europe/Paris; found 'Europe'"),
        ("TIMEZONE", "../Paris", "expected a time zone such as Europe/Paris; found"),
        ("TIMEZONE", "UTC+1", "expected a time zone such as Europe/Paris; found"),
        ("FIRST_PARTITION", "1.2.2026", "expected a day such as 2026-01-31, .*found '1.2.2026'"),
        ("LAST_PARTITION", "2026-02-30", "expected a day such as 2026-01-31"),
        ("LAST_PARTITION", "2025-12-31", "expected 2026-01-01, which is TEST_FIRST_PARTITION, or"),
    ],
)
@pytest.mark.parametrize("prefix", ["TEST", "ML_ASSETS"])
def test_a_setting_that_names_no_day_and_no_time_zone_is_refused_by_its_name(
    prefix: str, name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{prefix}_{name}", value)
    with pytest.raises(ValueError, match=f"^TEST_{name}.*: {message}.*; remedy: "):
        build.daily_partitions("test", "2026-01-01")


def test_the_time_zone_is_that_of_the_group_or_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert timezone("test") == "UTC"
    monkeypatch.setenv("ML_ASSETS_TIMEZONE", "Europe/Paris")
    assert timezone("test") == "Europe/Paris"
    monkeypatch.setenv("TEST_TIMEZONE", "Africa/Cairo")
    assert timezone("test") == build.daily_partitions("test", "2026-01-01").timezone
    assert timezone("test") == "Africa/Cairo"


def test_a_day_may_be_written_in_any_form_of_iso_8601(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_LAST_PARTITION", "20260102")
    days = build.daily_partitions("test", "2026-01-01").get_partition_keys()
    assert days == ["2026-01-01", "2026-01-02"]


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("America/Santiago", date(2024, 9, 8)),
        ("America/Santiago", date(2024, 4, 6)),
        ("Africa/Cairo", date(2024, 4, 26)),
        ("Asia/Beirut", date(2024, 10, 26)),
        ("America/Havana", date(2024, 3, 10)),
        ("America/Havana", date(2024, 11, 3)),
        ("Australia/Lord_Howe", date(2024, 4, 7)),
        ("Antarctica/Troll", date(2024, 10, 27)),
        ("America/St_Johns", date(2010, 11, 7)),
    ],
)
def test_the_daily_schedule_runs_each_day_once_when_it_is_over(zone: str, day: date) -> None:
    """Even where 00:30 is skipped, or comes twice."""
    days = dg.DailyPartitionsDefinition(start_date="2009-01-01", timezone=zone)

    @dg.asset(partitions_def=days)
    def daily() -> None: ...

    job = dg.define_asset_job("daily_job", [daily])
    definitions = dg.Definitions(
        assets=[daily], jobs=[job], schedules=[build.daily_schedule(job, days)]
    )
    schedule = definitions.resolve_schedule_def("daily_job")
    begin = days.time_window_for_partition_key(str(day - timedelta(days=2))).start
    asked = []
    for tick in islice(cron_string_iterator(begin.timestamp(), schedule.cron_schedule, zone), 6):
        with dg.build_schedule_context(scheduled_execution_time=tick) as context:
            [request] = schedule.evaluate_tick(context).run_requests
        late = tick.astimezone(UTC) - _ends(days, request.partition_key)
        assert timedelta() < late <= timedelta(minutes=90)
        asked.append(request.partition_key)
    assert asked == [str(day + timedelta(days=number)) for number in range(-3, 3)]


def _ends(days: dg.DailyPartitionsDefinition, day: str) -> datetime:
    return days.time_window_for_partition_key(day).end.astimezone(UTC)
