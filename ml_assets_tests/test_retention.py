import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from ml_assets import definitions
from ml_assets.power import definitions as power
from ml_assets.resources.checkpoints import Checkpoints
from ml_assets.resources.mlflow import MlflowResource
from ml_assets.resources.studies import Studies
from ml_assets.retention import keep


def test_the_job_forgets_what_is_older_than_the_group_keeps(
    tmp_path: Path, mlflow_resource: MlflowResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POWER_KEEP_DAYS", "3")
    today = datetime.now(UTC).date()
    outputs = [tmp_path / f"power/model/{today - timedelta(days=ago)}.zip" for ago in (2, 5)]
    for path in outputs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"value")
        os.utime(path, (0, 0))
    result = power.defs.resolve_job_def("power_retention").execute_in_process(
        resources={
            "checkpoints": Checkpoints(base_path=str(tmp_path)),
            "power_mlflow": mlflow_resource,
            "power_studies": Studies(storage_url=f"sqlite:///{tmp_path}/studies.db"),
        }
    )
    assert result.success
    assert [path.exists() for path in outputs] == [True, False]


def test_every_group_has_such_a_job_on_sundays_after_the_upkeep() -> None:
    for group in ("cifar10", "mnist", "power", "tick"):
        schedule = definitions.defs.resolve_schedule_def(f"{group}_retention")
        assert schedule.cron_schedule == "0 5 * * 0"
        assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING


def test_a_quarter_of_a_year_is_kept_by_default() -> None:
    assert keep("power") == timedelta(days=90)
