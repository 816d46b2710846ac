"""What is read of Dagster behind its public interface agrees with what the interface says."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.event_api import RunStatusChangeRecordsFilter
from dagster._core.scheduler.instigation import InstigatorStatus, TickStatus

from ml_assets.dagster_internals.records import instigator_states, run_endings, run_events_file
from ml_assets_tests.monitoring.test_alerts import schedule

SUCCESS = dg.DagsterEventType.RUN_SUCCESS


@dg.asset
def rows() -> None:
    pass


@pytest.fixture(params=["sqlite", "postgres"])
def instance(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    storage = ""
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url").replace("://", "+psycopg2://", 1)
        storage = f"storage: {{postgres: {{postgres_url: {url!r}}}}}"
    (tmp_path / "dagster.yaml").write_text(f"telemetry: {{enabled: false}}\n{storage}")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.get() as found:
        yield found


def test_endings_are_those_of_the_public_interface(instance: dg.DagsterInstance) -> None:
    runs = [dg.materialize([rows], instance=instance).run_id for _ in range(3)]
    public = instance.fetch_run_status_changes(
        RunStatusChangeRecordsFilter(SUCCESS, after_timestamp=1.0), limit=9, ascending=True
    )
    found = run_endings(instance, SUCCESS, after=None, since=1.0, limit=9)
    assert [ending.run_id for ending in found] == runs
    for ending, record in zip(found, public.records, strict=True):
        assert (ending.run_id, ending.storage_id) == (record.run_id, record.storage_id)
        assert ending.timestamp == pytest.approx(record.timestamp, abs=1e-3)
    assert found[-1].cursor == public.cursor
    assert run_endings(instance, SUCCESS, after=found[1].cursor, since=1.0, limit=9) == found[2:]
    assert run_endings(instance, SUCCESS, after=None, since=1.0, limit=1) == found[:1]
    later = found[1].timestamp + 1e-6
    assert run_endings(instance, SUCCESS, after=None, since=later, limit=9) == found[2:]


def test_states_are_those_of_the_public_interface(instance: dg.DagsterInstance) -> None:
    schedule(instance, InstigatorStatus.RUNNING, TickStatus.SUCCESS, timedelta(0))
    [(selector, state)] = instigator_states(instance)
    assert [state] == list(instance.all_instigator_state())
    assert selector == state.selector_id  # type: ignore[union-attr]


def test_a_runs_events_have_a_file_where_each_run_has_its_own(instance: dg.DagsterInstance) -> None:
    run = dg.materialize([rows], instance=instance).run_id
    file = run_events_file(instance, run)
    assert bool(file) == instance.event_log_storage.is_run_sharded
    assert not file or Path(file).is_file()
