"""The ledger between two ticks: how much is written, and what a kill or a damage leaves of it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.monitoring.ledger import Ledger
from ml_assets.monitoring.ledger_store import LedgerStore
from ml_assets.resources.alerts import Alert
from ml_assets_tests.monitoring.test_alerts import Desk, State, configure, run

TIME = datetime.now(UTC).isoformat(timespec="milliseconds")
BROKEN = {
    f"check power/readings:no_missing_days {day}": Alert(
        f"check power/readings:no_missing_days {day}",
        False,
        "ERROR",
        "power",
        "power/readings does not hold: no_missing_days",
        asset="power/readings",
        partition=str(day),
        details={"missing_days": "3", "allowed": "0"},
        link="http://127.0.0.1:3000/runs/5f3c2d3e-3c8e-4e50-9d3e-8d3a44a3a6a0",
        time=TIME,
    )
    for day in range(500)
}


def tick_with(desk: Desk, ledger: Ledger) -> list[Alert]:
    """A tick whose cursor is what the release before wrote: the whole ledger."""
    desk.cursor = json.dumps(
        {
            "since": ledger.since,
            "positions": ledger.positions,
            "awaiting": ledger.awaiting,
            "problems": {key: vars(alert) for key, alert in ledger.problems.items()},
            "outbox": {name: [vars(a) for a in alerts] for name, alerts in ledger.outbox.items()},
            "configuration": ledger.configuration,
        }
    )
    return desk.tick()


def test_with_500_broken_partitions_a_tick_stores_less_than_a_kilobyte(desk: Desk) -> None:
    """The whole ledger at each tick would be a gigabyte a day in Dagster's database."""
    tick_with(desk, Ledger(0.0, problems=dict(BROKEN)))
    file = LedgerStore().path
    written = file.stat()
    assert written.st_size > 100_000
    for _ in range(3):
        desk.tick()
        assert len(desk.cursor or "") < 1000
    assert file.stat().st_ino == written.st_ino  # nothing has changed, nothing was written
    assert file.stat().st_mtime_ns == written.st_mtime_ns
    assert LedgerStore().load(desk.cursor, since=0).problems == BROKEN


def test_the_cursor_of_the_release_before_is_taken_over(
    instance: dg.DagsterInstance, desk: Desk
) -> None:
    State.missing_days = 1
    run(instance)
    [told] = desk.tick()
    state = LedgerStore().load(desk.cursor, since=0)
    owed = Alert("k", False, "ERROR", "power", "t", time=TIME)
    LedgerStore().path.unlink()
    state.outbox = {"log": [owed]}
    assert tick_with(desk, state) == [owed]
    State.missing_days = 0
    run(instance)
    assert [(alert.key, alert.recovered) for alert in desk.tick()] == [(told.key, True)]


def test_killed_after_the_ledger_was_written_nothing_is_told_twice_or_lost(
    instance: dg.DagsterInstance, desk: Desk
) -> None:
    assert desk.tick() == []
    State.missing_days = 1
    run(instance)
    assert len(desk.tick(killed=True)) == 1
    State.missing_days = 0
    run(instance, "2026-06-29")
    assert desk.tick() == []
    run(instance)
    assert [alert.recovered for alert in desk.tick()] == [True]


def test_killed_before_the_ledger_was_written_it_is_told_once_more(
    instance: dg.DagsterInstance, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert desk.tick() == []
    State.missing_days = 1
    run(instance)

    class Killed(BaseException):
        pass

    def kill(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(LedgerStore, "_write", kill)
        with pytest.raises(Killed):
            desk.tick()
    assert len(desk.log.read_text().splitlines()) == 1
    assert len(desk.tick()) == 1
    assert desk.tick() == []


def _later_version(file: Path) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | {"version": 99}))


def _changed(file: Path) -> None:
    file.write_text(file.read_text().replace("power/readings", "power/writings"))


def _directory(file: Path) -> None:
    file.unlink()
    (file / "below").mkdir(parents=True)


DAMAGES = {
    "truncated": lambda file: file.write_text(file.read_text()[:200]),
    "empty": lambda file: file.write_text(""),
    "garbage": lambda file: file.write_bytes(b"\xff\x00" * 99),
    "a list": lambda file: file.write_text("[]"),
    "deep": lambda file: file.write_text("[" * 100_000),
    "gone": lambda file: file.unlink(),
    "a directory": _directory,
    "a later version": _later_version,
    "changed": _changed,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_ledger_is_told_and_alerts_go_on(
    damage: Callable[[Path], None], instance: dg.DagsterInstance, desk: Desk
) -> None:
    State.missing_days = 1
    run(instance)
    assert len(desk.tick()) == 1
    damage(LedgerStore().path)
    run(instance, "2026-06-29")
    ledger, check = desk.tick()
    assert ledger.title == "the ledger of alerts is not as it was left"
    assert "ledger.json" in ledger.details["error"]
    assert check.partition == "2026-06-29"
    assert [(alert.key, alert.recovered) for alert in desk.tick()] == [("ledger", True)]
    assert desk.tick() == []
    State.missing_days = 0
    run(instance, "2026-06-29")
    assert [alert.recovered for alert in desk.tick()] == [True]


@pytest.mark.parametrize("cursor", ["{", "[1]", '{"version": 99}', '{"positions": 5}', "5"])
def test_a_damaged_cursor_is_told_and_alerts_go_on(
    cursor: str, instance: dg.DagsterInstance, desk: Desk
) -> None:
    assert desk.tick() == []
    desk.cursor = cursor
    State.missing_days = 1
    run(instance)
    ledger, check = desk.tick()
    assert "the sensor's cursor" in ledger.details["error"]
    assert check.check == "no_missing_days"
    assert [alert.key for alert in desk.tick()] == ["ledger"]


def test_a_ledger_that_cannot_be_written_is_kept_in_the_cursor(
    instance: dg.DagsterInstance, desk: Desk
) -> None:
    desk.tick()
    folder = LedgerStore().path.parent
    LedgerStore().path.unlink()
    folder.rmdir()
    folder.touch()
    State.missing_days = 1
    run(instance)
    assert [alert.check for alert in desk.tick() if alert.key != "ledger"] == ["no_missing_days"]
    desk.tick()
    assert desk.tick() == []
    folder.unlink()
    State.missing_days = 0
    run(instance)
    assert {alert.key.split()[0] for alert in desk.tick() + desk.tick()} == {"ledger", "check"}
    assert len(desk.cursor or "") < 1000


def test_a_restored_storage_of_dagster_is_told_and_nothing_is_passed_over(
    instance: dg.DagsterInstance, desk: Desk
) -> None:
    desk.tick()
    of_the_backup = desk.cursor
    State.missing_days = 1
    for day in ("2026-06-28", "2026-06-29"):
        run(instance, day)
        desk.tick()
    desk.cursor = of_the_backup
    told = desk.tick()
    assert [alert.key for alert in told] == ["ledger"]
    assert "was one restored?" in told[0].details["error"]


def test_a_log_of_alerts_does_not_grow_for_ever(
    instance: dg.DagsterInstance, desk: Desk, tmp_path: Path
) -> None:
    configure(tmp_path, {"log": {"type": "log", "max_megabytes": 0.001}})
    State.missing_days = 1
    for day in ("2026-06-27", "2026-06-28", "2026-06-29", "2026-06-30"):
        run(instance, day)
        desk.tick()
    assert desk.log.stat().st_size < 2000
    assert (tmp_path / "alerts.log.1").stat().st_size < 3000


def test_of_what_waits_for_a_notifier_only_the_latest_is_kept(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml_assets.monitoring.ledger.MOST_WAITING", 3)
    hook = {"type": "webhook", "url": "http://127.0.0.1:9", "secret": {"env": "NOT_SET"}}
    configure(tmp_path, {"hook": hook})
    waiting = list(BROKEN.values())[:5]
    tick_with(desk, Ledger(0.0, outbox={"hook": waiting}))
    assert LedgerStore().load(desk.cursor, since=0).outbox == {"hook": waiting[-3:]}
