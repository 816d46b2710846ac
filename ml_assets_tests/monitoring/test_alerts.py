"""What the sensor says of what happened, on a real instance with real runs."""

import json
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.storage.tags import WILL_RETRY_TAG
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._utils.error import SerializableErrorInfo

from ml_assets.monitoring import ledger as ledger_module
from ml_assets.monitoring import watch
from ml_assets.monitoring.__main__ import main
from ml_assets.monitoring.definitions import alerts
from ml_assets.monitoring.ledger import Ledger
from ml_assets.monitoring.ledger_store import LedgerStore
from ml_assets.resources.alerts import Alert, Alerting, Notifier
from ml_assets.run_launcher import INTERRUPTED_TAG
from ml_assets.settings import GROUP_TAG

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
TO_THE_LOG = Alerting.model_validate(
    {"notifiers": {"log": {"type": "log"}}, "routes": [{"notify": ["log"]}]}
)
DAILY = dg.DailyPartitionsDefinition("2026-01-01")


class State:
    """What the test wants to happen next."""

    missing_days, severity, error = 0, dg.AssetCheckSeverity.ERROR, ""


@dg.asset(key=["power", "readings"], partitions_def=DAILY)
def readings() -> None:
    if State.error:
        raise RuntimeError(State.error)


@dg.asset_check(asset=readings)
def no_missing_days() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=not State.missing_days,
        severity=State.severity,
        metadata={"missing_days": State.missing_days, "allowed": 0},
    )


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    State.missing_days, State.severity, State.error = 0, dg.AssetCheckSeverity.ERROR, ""
    monkeypatch.setenv("ML_ASSETS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ML_ASSETS_ALERTS_FILE", str(tmp_path / "alerts.yaml"))
    configure(tmp_path, {"log": {"type": "log"}})


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "home").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "home")) as found:
        yield found


def configure(directory: Path, notifiers: dict[str, Any], severity: str = "ERROR") -> None:
    routes = [{"notify": list(notifiers), "severity": severity}]
    (directory / "alerts.yaml").write_text(json.dumps({"notifiers": notifiers, "routes": routes}))


def job_of_power() -> dg.JobDefinition:
    return dg.Definitions(
        assets=[readings],
        asset_checks=[no_missing_days],
        jobs=[dg.define_asset_job("power_daily", dg.AssetSelection.all())],
    ).resolve_job_def("power_daily")


def run(instance: dg.DagsterInstance, day: str = "2026-06-30", **tags: str) -> Any:
    return job_of_power().execute_in_process(
        instance=instance, partition_key=day, tags=tags, raise_on_error=False
    )


class Desk:
    """The sensor, tick after tick, and what it wrote."""

    def __init__(self, instance: dg.DagsterInstance, directory: Path) -> None:
        self.instance, self.log = instance, directory / "alerts.log"
        self.cursor: str | None = None

    def tick(self, *, killed: bool = False) -> list[Alert]:
        before = self._told()
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor) as context:
            result = alerts(context)
        assert isinstance(result, dg.SensorResult)
        if not killed:
            self.cursor = result.cursor
        return self._told()[len(before) :]

    def _told(self) -> list[Alert]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [Alert(**json.loads(line)) for line in lines]


@pytest.fixture
def desk(instance: dg.DagsterInstance, tmp_path: Path) -> Desk:
    return Desk(instance, tmp_path)


def test_a_failed_check_is_said_once_and_its_recovery_too(
    instance: dg.DagsterInstance, desk: Desk
) -> None:
    State.missing_days = 3
    failed = run(instance)
    [told] = desk.tick()
    assert (told.recovered, told.severity, told.group) == (False, "ERROR", "power")
    assert (told.asset, told.partition, told.check) == (
        "power/readings",
        "2026-06-30",
        "no_missing_days",
    )
    assert told.details == {"missing_days": "3", "allowed": "0"}
    assert told.link == f"http://127.0.0.1:3000/runs/{failed.run_id}"

    run(instance)
    run(instance)
    assert desk.tick() == []
    State.missing_days = 0
    run(instance)
    [told] = desk.tick()
    assert told.recovered
    assert told.count == 3
    run(instance)
    assert desk.tick() == []


def test_a_run_that_a_blocking_check_stopped_is_told_as_that_check_and_no_more(
    instance: dg.DagsterInstance, desk: Desk
) -> None:
    @dg.asset_check(asset=readings, blocking=True)
    def lines_are_unique() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=not State.missing_days)

    job = dg.Definitions(
        assets=[readings],
        asset_checks=[lines_are_unique],
        jobs=[dg.define_asset_job("power_daily", dg.AssetSelection.all())],
    ).resolve_job_def("power_daily")

    def execute() -> bool:
        day = "2026-06-30"
        return job.execute_in_process(
            instance=instance, partition_key=day, raise_on_error=False
        ).success

    State.missing_days = 1
    assert not execute()
    [told] = desk.tick()
    assert (told.check, told.partition) == ("lines_are_unique", "2026-06-30")
    State.missing_days, State.error = 0, "something else"
    assert not execute()
    assert [alert.title for alert in desk.tick()] == ["power_daily failed"]
    State.error = ""
    assert execute()
    assert {alert.recovered for alert in desk.tick()} == {True}


def ended(
    instance: dg.DagsterInstance,
    job: str,
    location: str = "",
    assets: frozenset[dg.AssetKey] | None = None,
    **tags: str,
) -> None:
    """A run of a job that failed, launched from this code location or from the command line."""
    origin = None
    if location:
        module = ManagedGrpcPythonEnvCodeLocationOrigin(
            LoadableTargetOrigin(module_name="m"), location_name=location
        )
        origin = RemoteJobOrigin(RemoteRepositoryOrigin(module, "__repository__"), job)
    run = dg.DagsterRun(
        job_name=job,
        run_id=str(uuid.uuid4()),
        tags=tags,
        asset_selection=assets,
        remote_job_origin=origin,
    )
    instance.add_run(run)
    instance.report_run_failed(run)


@pytest.mark.parametrize("location", ["", "mnist", "ml_assets.definitions"])
@pytest.mark.parametrize("name", ["rollback", "promote", "retention"])
def test_a_job_without_assets_is_told_as_its_groups(
    name: str, location: str, instance: dg.DagsterInstance, desk: Desk
) -> None:
    from ml_assets.mnist.definitions import defs

    job = f"mnist_{name}"
    ended(instance, job, location, **defs.resolve_job_def(job).tags)
    assert [alert.group for alert in desk.tick()] == ["mnist"]


def test_every_job_without_assets_says_whose_it_is() -> None:
    from ml_assets.definitions import defs

    names = {
        job.name: job.tags
        for job in defs.resolve_all_job_defs()
        if not job.asset_layer.executable_asset_keys
    }
    assert len(names) >= 14
    for name, tags in names.items():
        assert name.startswith(f"{tags[GROUP_TAG]}_")


def test_a_run_of_the_release_before_is_told_as_its_groups(
    instance: dg.DagsterInstance, desk: Desk
) -> None:
    ended(instance, "mnist_rollback")
    assert [alert.group for alert in desk.tick()] == ["mnist"]


def test_a_run_over_two_groups_is_told_as_the_one_that_failed(
    instance: dg.DagsterInstance, desk: Desk
) -> None:
    @dg.asset(key=["cifar10", "model"])
    def model() -> None:
        pass

    State.error = "broken"
    for error, told in (("broken", (False, "power")), ("", (True, "power"))):
        State.error = error
        dg.materialize(
            [model, readings],
            selection="*",
            partition_key="2026-06-30",
            instance=instance,
            raise_on_error=False,
        )
        assert [(alert.recovered, alert.group) for alert in desk.tick()] == [told]


def test_another_partition_is_another_thing(instance: dg.DagsterInstance, desk: Desk) -> None:
    State.missing_days = 1
    run(instance, "2026-06-29")
    run(instance, "2026-06-30")
    assert [alert.partition for alert in desk.tick()] == ["2026-06-29", "2026-06-30"]
    State.missing_days = 0
    run(instance, "2026-06-30")
    [told] = desk.tick()
    assert (told.recovered, told.partition) == (True, "2026-06-30")


def test_warnings_are_said_where_they_are_wanted(
    instance: dg.DagsterInstance, desk: Desk, tmp_path: Path
) -> None:
    State.missing_days, State.severity = 1, dg.AssetCheckSeverity.WARN
    run(instance)
    assert desk.tick() == []
    configure(tmp_path, {"log": {"type": "log"}}, "WARN")
    run(instance, "2026-06-29")
    assert [alert.severity for alert in desk.tick()] == ["WARN"]


def test_a_failed_run_is_said_with_its_reason_and_without_credentials(
    instance: dg.DagsterInstance, desk: Desk
) -> None:
    State.error = "no connection to postgresql://ml:s3cr/et@db/ticks"
    run(instance)
    [told] = desk.tick()
    assert told.title == "power_daily failed"
    assert told.details == {
        "power__readings": "RuntimeError: no connection to postgresql://db/ticks"
    }
    State.error = ""
    run(instance)
    assert [alert.recovered for alert in desk.tick()] == [True]


def test_a_run_that_will_be_executed_again_is_waited_for(
    instance: dg.DagsterInstance, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    State.error = "killed"
    first = run(instance, **{WILL_RETRY_TAG: "true"})
    assert desk.tick() == []
    instance.add_run_tags(first.run_id, {"dagster/auto_retry_run_id": "later"})
    assert desk.tick() == []
    assert LedgerStore().load(desk.cursor, since=0).awaiting == {}

    run(instance, "2026-06-29", **{WILL_RETRY_TAG: "true"})
    assert desk.tick() == []
    monkeypatch.setattr(watch, "RETRY_PATIENCE", timedelta(0))
    assert [alert.partition for alert in desk.tick()] == ["2026-06-29"]


def test_an_interrupted_run_is_told_and_its_recovery_too(
    instance: dg.DagsterInstance, desk: Desk
) -> None:
    lost = instance.create_run_for_job(job_of_power(), tags={"dagster/partition": "2026-06-30"})
    tags = {WILL_RETRY_TAG: "true", INTERRUPTED_TAG: lost.run_id}
    instance.add_run_tags(lost.run_id, tags)
    instance.report_run_failed(lost, "the process of this run no longer exists")
    [told] = desk.tick()
    assert told.title == "power_daily was interrupted, and goes on by itself"
    assert told.details == {"run": "the process of this run no longer exists"}
    assert desk.tick() == []

    run(instance, **tags)  # a re-execution inherits tags
    [told] = desk.tick()
    assert (told.title, told.recovered) == (
        "power_daily was interrupted, and goes on by itself",
        True,
    )


def test_a_sensor_killed_after_the_delivery_repeats_it_once(
    instance: dg.DagsterInstance, desk: Desk
) -> None:
    State.missing_days = 1
    run(instance)
    assert len(desk.tick(killed=True)) == 1
    assert len(desk.tick()) == 1
    assert desk.tick() == []


def test_what_cannot_be_delivered_waits_and_does_not_hold_up_others(
    instance: dg.DagsterInstance, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_SECRET", "s3cret")
    hook = {"type": "webhook", "url": "http://127.0.0.1:9", "secret": {"env": "HOOK_SECRET"}}
    configure(tmp_path, {"log": {"type": "log"}, "hook": hook})
    State.missing_days = 1
    run(instance)
    assert len(desk.tick()) == 1
    run(instance, "2026-06-29")
    assert len(desk.tick()) == 1
    waiting = LedgerStore().load(desk.cursor, since=0).outbox
    assert [alert.partition for alert in waiting["hook"]] == ["2026-06-30", "2026-06-29"]

    configure(tmp_path, {"log": {"type": "log"}, "hook": {"type": "log", "path": "other.log"}})
    assert desk.tick() == []
    assert len((tmp_path / "other.log").read_text().splitlines()) == 2
    assert LedgerStore().load(desk.cursor, since=0).outbox == {}


def test_events_are_read_in_order_even_in_small_batches(
    instance: dg.DagsterInstance, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "BATCH", 2)
    for error in ("", "", "", "broken", "", "", "broken"):
        State.error = error
        run(instance)
    told = []
    for _ in range(8):
        told += desk.tick()
    assert [alert.recovered for alert in told] == [False, True, False]


def test_what_happened_long_before_the_first_look_is_passed_over(
    instance: dg.DagsterInstance, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    State.missing_days = 1
    run(instance)
    monkeypatch.setattr("ml_assets.monitoring.definitions.FIRST_LOOK", timedelta(0))
    assert desk.tick() == []
    assert desk.tick() == []


def test_a_mistake_in_the_configuration_is_told_by_the_last_right_one(
    instance: dg.DagsterInstance, desk: Desk, tmp_path: Path
) -> None:
    assert desk.tick() == []
    configure(tmp_path, {"hook": {"type": "webhook", "url": "http://h", "secret": "s3cret"}})
    State.missing_days = 1
    run(instance)
    mistake, check = desk.tick()
    assert (mistake.title, mistake.severity) == ("alerts.yaml is wrong", "ERROR")
    assert "notifiers.hook.webhook.secret" in mistake.details["error"]
    assert check.check == "no_missing_days"
    assert "s3cret" not in LedgerStore().path.read_text()
    (tmp_path / "alerts.yaml").unlink()
    assert desk.tick() == []

    configure(tmp_path, {"log": {"type": "log"}})
    [told] = desk.tick()
    assert (told.title, told.recovered, told.count) == ("alerts.yaml is wrong", True, 1)


def test_a_configuration_that_never_was_right_fails_the_tick(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "alerts.yaml").write_text("notifiers: {log: {type: log}}")
    with pytest.raises(ValueError, match="routes: Field required"):
        desk.tick()


def test_a_secret_that_the_configuration_names_is_not_in_the_ledger(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_SECRET", "s3cret")
    hook = {"type": "webhook", "url": {"env": "HOOK_SECRET"}, "secret": {"env": "HOOK_SECRET"}}
    configure(tmp_path, {"hook": hook})
    desk.tick()
    ledger = LedgerStore().path.read_text()
    assert "HOOK_SECRET" in ledger
    assert "s3cret" not in ledger + desk.cursor


def schedule(
    instance: dg.DagsterInstance, status: InstigatorStatus, tick: TickStatus | None, ago: timedelta
) -> None:
    """A schedule every day at 00:30, and its last tick, if there is one."""
    location = ManagedGrpcPythonEnvCodeLocationOrigin(
        LoadableTargetOrigin(module_name="m"), location_name="power"
    )
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "r"), "power_daily")
    began = (NOW - timedelta(days=9)).timestamp()
    state = InstigatorState(
        origin,
        InstigatorType.SCHEDULE,
        status,
        ScheduleInstigatorData("30 0 * * *", start_timestamp=began),
    )
    instance.add_instigator_state(state) if not instance.all_instigator_state() else (
        instance.update_instigator_state(state)
    )
    if tick:
        instance.create_tick(
            TickData(
                state.instigator_origin_id,
                "power_daily",
                InstigatorType.SCHEDULE,
                tick,
                (NOW - ago).timestamp(),
                run_ids=["r"] if tick == TickStatus.SUCCESS else [],
                selector_id=state.selector_id,
                error=SerializableErrorInfo("no such table", [], "E")
                if tick == TickStatus.FAILURE
                else None,
            )
        )


def broken(instance: dg.DagsterInstance) -> list[str]:
    found = watch.instigators(instance, "", NOW)
    return [alert.title for alert in found if not alert.recovered]


@pytest.mark.parametrize(
    ("status", "tick", "ago", "expected"),
    [
        ("RUNNING", TickStatus.SUCCESS, timedelta(hours=11.5), []),
        ("RUNNING", TickStatus.SKIPPED, timedelta(hours=25), []),
        ("RUNNING", TickStatus.SUCCESS, timedelta(hours=35.5), ["did not run when due"]),
        ("RUNNING", None, timedelta(), ["did not run when due"]),
        ("RUNNING", TickStatus.FAILURE, timedelta(hours=11.5), ["fails"]),
        ("STOPPED", TickStatus.SUCCESS, timedelta(days=8), []),
    ],
)
def test_a_schedule_that_did_not_run_is_missed(
    status: str,
    tick: TickStatus | None,
    ago: timedelta,
    expected: list[str],
    instance: dg.DagsterInstance,
) -> None:
    schedule(instance, InstigatorStatus(status), tick, ago)
    assert broken(instance) == [f"the schedule power_daily {what}" for what in expected]


def test_a_tick_that_has_only_begun_is_not_a_recovery(instance: dg.DagsterInstance) -> None:
    schedule(instance, InstigatorStatus.RUNNING, TickStatus.FAILURE, timedelta(hours=11.5))
    schedule(instance, InstigatorStatus.RUNNING, TickStatus.STARTED, timedelta(0))
    assert broken(instance) == ["the schedule power_daily fails"]
    schedule(instance, InstigatorStatus.RUNNING, TickStatus.SKIPPED, timedelta(0))
    assert broken(instance) == []


def test_a_missed_schedule_is_said_once_and_well_again_after_its_tick(
    instance: dg.DagsterInstance,
) -> None:
    ledger = Ledger(since=0)
    schedule(instance, InstigatorStatus.RUNNING, TickStatus.SUCCESS, timedelta(hours=35.5))
    for _ in range(3):
        ledger.note(watch.instigators(instance, "", NOW), TO_THE_LOG)
    [problem] = ledger.problems.values()
    assert problem.count == 1
    schedule(instance, InstigatorStatus.RUNNING, TickStatus.SUCCESS, timedelta(minutes=1))
    ledger.note(watch.instigators(instance, "", NOW), TO_THE_LOG)
    assert [alert.recovered for alert in ledger.outbox["log"]] == [False, True]


def test_a_stale_asset_is_told_by_the_bundled_configuration(
    instance: dg.DagsterInstance, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled = Path(__file__).parents[2] / "alerts.yaml"
    monkeypatch.setenv("ML_ASSETS_ALERTS_FILE", str(bundled))
    run(instance)
    key = dg.AssetKey(["power", "readings"])
    for state, expected in (
        (FreshnessState.FAIL, [False]),
        (FreshnessState.FAIL, []),
        (FreshnessState.PASS, [True]),
    ):
        instance.report_runless_asset_event(
            FreshnessStateChange(
                key=key,
                new_state=state,
                previous_state=FreshnessState.UNKNOWN,
                state_change_timestamp=datetime.now(UTC).timestamp(),
            )
        )
        found = desk.tick()
        assert [alert.recovered for alert in found] == expected
        assert all(alert.title == "power/readings is stale" for alert in found)


def test_the_ledger_survives_as_text() -> None:
    alert = Alert("k", False, "ERROR", "power", "t", details={"a": "b"})
    ledger = Ledger(5.0, {"x": "y"}, {"r": 1.0}, {"k": alert}, {"log": [alert]}, "{}")
    assert Ledger.load(ledger.dump(), since=0) == ledger


def test_a_notifier_that_is_gone_is_not_owed_anything() -> None:
    alert = Alert("k", False, "ERROR", "power", "t")
    ledger = Ledger(0.0, outbox={"gone": [alert]})
    outcome = ledger.deliver(Alerting(notifiers={}, routes=[]))
    assert outcome == {"gone": "1 dropped: there is no such notifier any more"}
    assert ledger.outbox == {}


class Calling(Notifier):
    """Delivers by calling a function."""

    call: Callable[[Sequence[Alert]], Any]

    def send(self, alerts: Sequence[Alert]) -> None:
        self.call(alerts)


def calling(**calls: Callable[[Sequence[Alert]], Any]) -> tuple[Ledger, Alerting]:
    """Notifiers that call these functions, each of which is owed an alert."""
    alert = Alert("k", False, "ERROR", "power", "t")
    notifiers = {name: Calling(call=call) for name, call in calls.items()}
    outbox = {name: [alert] for name in calls}
    return Ledger(0.0, outbox=outbox), Alerting.model_construct(notifiers=notifiers, routes=[])


def test_notifiers_deliver_side_by_side() -> None:
    both = threading.Barrier(2, timeout=20)
    ledger, alerting = calling(one=lambda _: both.wait(), other=lambda _: both.wait())
    assert ledger.deliver(alerting) == {"one": "1 delivered", "other": "1 delivered"}
    assert ledger.outbox == {}


def test_a_notifier_that_is_not_over_in_time_is_owed_it_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger_module, "BUDGET", timedelta(seconds=0.5))
    answer = threading.Event()
    ledger, alerting = calling(quick=lambda _: None, slow=lambda _: answer.wait(20))
    outcome = ledger.deliver(alerting)
    assert not answer.is_set()
    answer.set()
    assert outcome == {"quick": "1 delivered", "slow": "1 waiting: not over after 0.5 s"}
    assert list(ledger.outbox) == ["slow"]


def test_a_problem_that_no_route_wants_is_not_kept() -> None:
    error, warning = (Alert(level, False, level, "power", "t") for level in ("ERROR", "WARN"))
    ledger = Ledger(0.0, problems={"WARN before": warning})
    ledger.forget(TO_THE_LOG, NOW)
    ledger.note([error, warning], TO_THE_LOG)
    assert list(ledger.problems) == ["ERROR"]


@pytest.mark.parametrize(
    ("partition", "days", "kept"),
    [("2026-05-31", 31, False), ("2026-05-31", 29, True), ("", 31, True)],
)
def test_a_problem_of_a_partition_is_forgotten_after_thirty_days(
    partition: str, days: int, kept: bool
) -> None:
    time = (NOW - timedelta(days=days)).isoformat(timespec="milliseconds")
    alert = Alert("k", False, "ERROR", "power", "t", partition=partition, time=time)
    ledger = Ledger(0.0, problems={"k": alert})
    ledger.forget(TO_THE_LOG, NOW)
    assert ("k" in ledger.problems) == kept


def test_the_command_sends_a_test_alert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["monitoring"])
    assert main() == 0
    [line] = (tmp_path / "alerts.log").read_text().splitlines()
    assert json.loads(line)["title"] == "this is a test"
    assert "log: delivered" in capsys.readouterr().out

    monkeypatch.setattr("sys.argv", ["monitoring", "--group", "tick", "--severity", "WARN"])
    assert main() == 1
    assert "no route takes it" in capsys.readouterr().out

    hook = {"type": "webhook", "url": "http://127.0.0.1:9", "secret": {"env": "NOT_SET"}}
    configure(tmp_path, {"hook": hook})
    monkeypatch.setattr("sys.argv", ["monitoring"])
    assert main() == 1
    assert "the environment variable NOT_SET" in capsys.readouterr().out
