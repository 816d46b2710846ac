"""One thing that cannot be read is told, and the rest is read: each source of a look, damaged."""

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.scheduler.instigation import InstigatorStatus, TickStatus

from ml_assets.monitoring import watch
from ml_assets.monitoring.ledger_store import LedgerStore
from ml_assets.resources.alerts import Alert
from ml_assets_tests.monitoring.test_alerts import Desk, State, run, schedule

ROOT = Path(__file__).parents[2]


def _gone(file: Path) -> None:
    """The file is removed, with what SQLite keeps beside it."""
    for path in file.parent.glob(f"{file.name}*"):
        path.unlink()


def _truncated(file: Path) -> None:
    content = file.read_bytes()
    _gone(file)
    file.write_bytes(content[: len(content) // 3 + 100])


def _garbage(file: Path) -> None:
    _gone(file)
    file.write_bytes(b"no database at all" * 500)


def _empty(file: Path) -> None:
    _gone(file)
    file.touch()


def _directory(file: Path) -> None:
    _gone(file)
    file.mkdir()


def _pipe(file: Path) -> None:
    _gone(file)
    os.mkfifo(file)


def _other_rows(file: Path) -> None:
    execute(file, 'UPDATE event_logs SET event = \'{"__class__": "NoSuchClass"}\'')


DAMAGES = [_gone, _truncated, _garbage, _empty, _directory, _pipe, _other_rows]


def execute(file: Path, statement: str) -> None:
    engine = sqlalchemy.create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(statement))
    engine.dispose()


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").symlink_to(ROOT / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dg.DagsterInstance.get() as found:
        yield found


@pytest.fixture
def restart(instance: dg.DagsterInstance, desk: Desk) -> Callable[[], None]:
    """Look as a process does that has not opened any file yet."""

    def again() -> None:
        desk.instance.dispose()
        desk.instance = dg.DagsterInstance.get()

    return again


def events_file(tmp_path: Path, run_id: str) -> Path:
    return tmp_path / "home" / "history" / "runs" / f"{run_id}.db"


def titles(alerts: list[Alert]) -> list[str]:
    return [f"{'RECOVERED ' * alert.recovered}{alert.title}" for alert in alerts]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_of_a_run_is_told_once_and_the_others_are_read(
    damage: Callable[[Path], None],
    instance: dg.DagsterInstance,
    desk: Desk,
    restart: Callable[[], None],
    tmp_path: Path,
) -> None:
    State.missing_days = 1
    bad = run(instance, "2026-06-28").run_id
    run(instance, "2026-06-29")
    file, copy = events_file(tmp_path, bad), tmp_path / "copy.db"
    execute(file, "PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(file, copy)
    damage(file)
    restart()

    unreadable, check = desk.tick()
    assert unreadable.title == f"run {bad} cannot be read"
    assert unreadable.details["file"] == str(file)
    assert "backup" in unreadable.details["remedy"]
    assert (check.check, check.partition) == ("no_missing_days", "2026-06-29")
    assert desk.tick() == []
    State.missing_days = 0
    run(desk.instance, "2026-06-29")
    assert [alert.recovered for alert in desk.tick()] == [True]

    # Put back, what it said is told after all.
    if file.is_dir():
        file.rmdir()
    else:
        _gone(file)
    shutil.copy(copy, file)
    restart()
    late, readable = desk.tick()
    assert (late.check, late.partition) == ("no_missing_days", "2026-06-28")
    assert (readable.recovered, readable.title) == (True, unreadable.title)
    assert LedgerStore().load(desk.cursor, since=0).unread == {}


def test_a_run_that_failed_is_told_though_its_events_are_lost(
    instance: dg.DagsterInstance, desk: Desk, restart: Callable[[], None], tmp_path: Path
) -> None:
    State.error = "no such table"
    failed = run(instance).run_id
    _garbage(events_file(tmp_path, failed))
    restart()
    assert titles(desk.tick()) == [f"run {failed} cannot be read", "power_daily failed"]
    instance.run_storage.delete_run(failed)
    assert titles(desk.tick()) == [f"RECOVERED run {failed} cannot be read"]


def test_a_run_that_cannot_be_deserialized_is_told_and_the_next_is_read(
    instance: dg.DagsterInstance, desk: Desk, tmp_path: Path
) -> None:
    State.missing_days = 1
    bad = run(instance, "2026-06-28").run_id
    run(instance, "2026-06-29")
    execute(
        tmp_path / "home" / "history" / "runs.db",
        f"UPDATE runs SET run_body = '{{' WHERE run_id = '{bad}'",
    )
    assert titles(desk.tick()) == [
        f"run {bad} cannot be read",
        "power/readings does not hold: no_missing_days",
    ]
    assert desk.tick() == []


def test_a_file_that_is_no_run_is_nobodys_business(
    instance: dg.DagsterInstance, desk: Desk, tmp_path: Path
) -> None:
    runs = tmp_path / "home" / "history" / "runs"
    (runs / "X.db").mkdir()
    (runs / "empty.db").touch()
    os.mkfifo(runs / "pipe.db")
    State.missing_days = 1
    run(instance)
    assert titles(desk.tick()) == ["power/readings does not hold: no_missing_days"]


def test_a_damaged_event_in_the_index_costs_no_alert(
    instance: dg.DagsterInstance, desk: Desk, tmp_path: Path
) -> None:
    State.error = "no such table"
    run(instance, "2026-06-28")
    run(instance, "2026-06-29")
    execute(
        tmp_path / "home" / "history" / "runs" / "index.db",
        'UPDATE event_logs SET event = \'{"__class__": "NoSuchClass"}\' WHERE id = '
        "(SELECT MIN(id) FROM event_logs WHERE dagster_event_type = 'PIPELINE_FAILURE')",
    )
    assert [alert.partition for alert in desk.tick()] == ["2026-06-28", "2026-06-29"]


def test_without_the_index_of_runs_schedules_are_still_watched(
    instance: dg.DagsterInstance, desk: Desk, restart: Callable[[], None], tmp_path: Path
) -> None:
    State.missing_days = 1
    run(instance)
    schedule(instance, InstigatorStatus.RUNNING, TickStatus.FAILURE, timedelta(0))
    _garbage(tmp_path / "home" / "history" / "runs" / "index.db")
    restart()
    told = desk.tick()
    assert titles(told)[:1] == ["which runs have ended cannot be read"]
    assert "index.db" in told[0].details["remedy"]
    assert "the schedule power_daily fails" in titles(told)
    assert desk.tick() == []


@pytest.mark.parametrize(
    ("table", "column", "name"),
    [
        ("instigators", "instigator_body", "with the selector"),
        ("job_ticks", "tick_body", "power_daily"),
    ],
)
def test_a_damaged_schedule_is_told_and_the_rest_is_watched(
    table: str, column: str, name: str, instance: dg.DagsterInstance, desk: Desk, tmp_path: Path
) -> None:
    schedule(instance, InstigatorStatus.RUNNING, TickStatus.SUCCESS, timedelta(0))
    execute(
        tmp_path / "home" / "schedules" / "schedules.db",
        f"UPDATE {table} SET {column} = '{{\"no\": 1}}'",
    )
    State.missing_days = 1
    run(instance)
    check, damaged = desk.tick()
    assert check.check == "no_missing_days"
    assert damaged.title.startswith(f"the schedule or sensor {name}")
    assert damaged.title.endswith("cannot be read")
    assert desk.tick() == []


def test_a_damaged_record_of_freshness_is_told_of_its_asset_only(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    for name in ("readings", "features"):
        key = dg.AssetKey(["power", name])
        instance.report_runless_asset_event(dg.AssetMaterialization(key))
        instance.report_runless_asset_event(
            FreshnessStateChange(
                key=key,
                new_state=FreshnessState.FAIL,
                previous_state=FreshnessState.UNKNOWN,
                state_change_timestamp=datetime.now(UTC).timestamp(),
            )
        )
    execute(
        tmp_path / "home" / "history" / "runs" / "index.db",
        "UPDATE event_logs SET event = '{' WHERE id = (SELECT MIN(id) FROM event_logs "
        "WHERE dagster_event_type = 'FRESHNESS_STATE_CHANGE')",
    )
    broken = [alert for alert in watch.freshness(instance, "") if not alert.recovered]
    assert [(alert.title, alert.group) for alert in broken] == [
        ("power/features is stale", "power"),
        ("how fresh power/readings is cannot be read", "power"),
    ]


def test_a_look_that_takes_long_goes_on_where_it_ended(
    instance: dg.DagsterInstance, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster would end the tick, and the next would begin with the same runs, for ever."""
    monkeypatch.setattr(watch, "LOOK", timedelta(0))
    State.missing_days = 1
    for day in ("2026-06-28", "2026-06-29"):
        run(instance, day)
    assert [alert.partition for alert in desk.tick()] == ["2026-06-28"]
    assert [alert.partition for alert in desk.tick()] == ["2026-06-29"]


@pytest.mark.parametrize("content", ["[" * 100_000, "\x00", None])
def test_a_configuration_that_is_no_file_of_text_is_told_by_the_last_right_one(
    content: str | None, desk: Desk, tmp_path: Path
) -> None:
    assert desk.tick() == []
    file = tmp_path / "alerts.yaml"
    file.unlink()
    if content is None:
        os.mkfifo(file)
    else:
        file.write_text(content)
    assert titles(desk.tick()) == ["alerts.yaml is wrong"]
