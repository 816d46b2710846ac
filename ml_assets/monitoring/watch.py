"""What happened in all code locations, read from the Dagster instance and nothing else.

Each function gives alerts, oldest first; an alert that says `recovered` means that a thing was seen
to be well, whether or not it was broken before.
"""

import dataclasses
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import dagster as dg
from dagster import DagsterEventType, DagsterInstance, DagsterRun, EventLogRecord
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.errors import DagsterAssetCheckFailedError
from dagster._core.event_api import EventLogCursor
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, TickStatus
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, WILL_RETRY_TAG
from dagster._utils.schedules import cron_string_iterator

from ml_assets.monitoring.ledger import Ledger
from ml_assets.resources.alerts import Alert
from ml_assets.run_launcher import INTERRUPTED_TAG
from ml_assets.settings import scrubbed

BATCH = 50
"""Runs of each ending that a look reads at most: a tick that takes a minute is ended."""
RETRY_PATIENCE = timedelta(minutes=15)
"""How long a failed run may wait for its next execution before it counts as failed for good."""
GRACE = timedelta(minutes=75)
"""How late a schedule may be: a change to summer time, and a quarter of an hour."""
_ENDINGS = (
    DagsterEventType.RUN_SUCCESS,
    DagsterEventType.RUN_FAILURE,
    DagsterEventType.RUN_CANCELED,
)
_FINISHED = [TickStatus.SKIPPED, TickStatus.SUCCESS, TickStatus.FAILURE]
_MOST_DETAILS, _LONGEST_DETAIL = 8, 300


def runs(instance: DagsterInstance, ledger: Ledger, ui_url: str) -> list[Alert]:
    """The runs that have ended since the last look, and the asset checks that they evaluated.

    A run that Dagster will execute again is waited for. The ledger's positions are moved.
    """
    found: list[Alert] = []
    for record in _ended(instance, ledger):
        run = instance.get_run_by_id(record.run_id)
        if run is None:
            continue
        found += _checks(instance, run, ui_url)
        if record.event_log_entry.dagster_event_type == DagsterEventType.RUN_CANCELED:
            continue
        failed = record.event_log_entry.dagster_event_type == DagsterEventType.RUN_FAILURE
        if failed and run.tags.get(WILL_RETRY_TAG) == "true":
            ledger.awaiting[run.run_id] = record.timestamp
            if run.tags.get(INTERRUPTED_TAG) == run.run_id:
                found.append(_interruption(instance, run, record.timestamp, ui_url))
        elif not (failed and _stopped_by_checks(instance, run)):
            found.append(_of_run(instance, run, record.timestamp, ui_url, recovered=not failed))
            if not failed:
                found.append(_interruption(instance, run, record.timestamp, ui_url, over=True))
    return [*found, *_given_up(instance, ledger, ui_url)]


def instigators(instance: DagsterInstance, ui_url: str, now: datetime | None = None) -> list[Alert]:
    """Schedules that did not run when they were due, and schedules and sensors that fail."""
    now = now or datetime.now(UTC)
    found = []
    for state in instance.all_instigator_state():
        if state.status == InstigatorStatus.STOPPED:
            found += [_instigator(state, "tick", True, "stopped", now, ui_url)]
            found += [_instigator(state, "due", True, "stopped", now, ui_url)]
            continue
        ticks = instance.get_ticks(
            state.instigator_origin_id, state.selector_id, limit=1, statuses=_FINISHED
        )
        tick = ticks[0] if ticks else None
        failed = tick is not None and tick.status == TickStatus.FAILURE
        error = tick.error.message if tick and tick.error else ""
        when = datetime.fromtimestamp(tick.timestamp, UTC) if tick else now
        found.append(_instigator(state, "tick", not failed, "fails", when, ui_url, error))
        if state.instigator_type == InstigatorType.SCHEDULE:
            due = _due(state, tick.timestamp if tick else None)
            found.append(
                _instigator(state, "due", now < due + GRACE, "did not run when due", due, ui_url)
            )
    return found


def freshness(instance: DagsterInstance, ui_url: str) -> list[Alert]:
    """Assets that are older than their freshness policy allows."""
    keys = list(instance.get_asset_keys())
    states = instance.event_log_storage.get_freshness_state_records(keys) if keys else {}
    return [
        Alert(
            key=f"freshness {key.to_user_string()}",
            recovered=state.freshness_state != FreshnessState.FAIL,
            severity="ERROR",
            group=key.path[0],
            title=f"{key.to_user_string()} is stale",
            asset=key.to_user_string(),
            link=f"{ui_url}/assets/{'/'.join(key.path)}",
            time=_iso(state.updated_at.timestamp()),
        )
        for key, state in states.items()
        if state.freshness_state in {FreshnessState.FAIL, FreshnessState.PASS}
    ]


def _ended(instance: DagsterInstance, ledger: Ledger) -> list[EventLogRecord]:
    """The runs that have ended, oldest first, as far as all kinds of endings are known."""
    found: list[EventLogRecord] = []
    known_until = float("inf")
    for kind in _ENDINGS:
        result = instance.fetch_run_status_changes(
            dg.RunStatusChangeRecordsFilter(kind, after_timestamp=ledger.since),  # type: ignore[arg-type]
            limit=BATCH,
            cursor=ledger.positions.get(kind.value),
            ascending=True,
        )
        found += result.records
        if result.has_more:
            known_until = min(known_until, result.records[-1].timestamp)
    found = sorted(
        (record for record in found if record.timestamp <= known_until),
        key=lambda record: (record.timestamp, record.storage_id),
    )
    for record in found:
        ended = record.event_log_entry.dagster_event_type
        assert ended  # noqa: S101 - a status change is an event of Dagster
        cursor = EventLogCursor.from_storage_id(record.storage_id).to_string()
        ledger.positions[ended.value] = cursor
    return found


def _checks(instance: DagsterInstance, run: DagsterRun, ui_url: str) -> Iterator[Alert]:
    for entry in instance.all_logs(run.run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION):
        assert entry.dagster_event  # noqa: S101 - asked for by its type
        evaluation = entry.dagster_event.asset_check_evaluation_data
        asset, name = evaluation.asset_key.to_user_string(), evaluation.check_name
        partition = evaluation.partition or _partition(run)
        details = {"said": evaluation.description} if evaluation.description else {}
        details |= {
            key: str(value.value)
            for key, value in evaluation.metadata.items()
            if isinstance(value.value, (str, int, float))
        }
        yield Alert(
            key=f"check {asset}:{name} {partition}",
            recovered=evaluation.passed,
            severity=evaluation.severity.value,
            group=evaluation.asset_key.path[0],
            title=f"{asset} does not hold: {name}",
            asset=asset,
            partition=partition,
            check=name,
            details=_shown(details),
            link=f"{ui_url}/runs/{run.run_id}",
            time=_iso(entry.timestamp),
        )


def _stopped_by_checks(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Whether nothing but blocking checks made the run fail: each has been told as what it is."""
    causes = {
        failure.error.cls_name
        for entry in instance.all_logs(run.run_id, of_type=DagsterEventType.STEP_FAILURE)
        if entry.dagster_event
        and (failure := entry.dagster_event.step_failure_data)
        and failure.error
    }
    return causes == {DagsterAssetCheckFailedError.__name__}


def _of_run(
    instance: DagsterInstance, run: DagsterRun, timestamp: float, ui_url: str, *, recovered: bool
) -> Alert:
    location = run.remote_job_origin.location_name if run.remote_job_origin else ""
    assets = sorted(key.to_user_string() for key in run.asset_selection or [])
    group = location or (assets[0].split("/")[0] if assets else run.job_name)
    by_hand = run.job_name.startswith("__")
    # The same work again has the same key; by hand, it is told by its assets.
    work = hashlib.sha256("\n".join(assets).encode()).hexdigest()[:12] if by_hand else run.job_name
    return Alert(
        key=f"run {group} {work} {_partition(run)}",
        recovered=recovered,
        severity="ERROR",
        group=group,
        title=f"{', '.join(assets[:3]) or run.job_name if by_hand else run.job_name} failed",
        partition=_partition(run),
        details={} if recovered else _shown(_reasons(instance, run)),
        link=f"{ui_url}/runs/{run.run_id}",
        time=_iso(timestamp),
    )


def _interruption(
    instance: DagsterInstance, run: DagsterRun, timestamp: float, ui_url: str, *, over: bool = False
) -> Alert:
    """A run whose process was stopped or vanished, and which is executed again by itself."""
    alert = _of_run(instance, run, timestamp, ui_url, recovered=over)
    title = alert.title.removesuffix("failed") + "was interrupted, and goes on by itself"
    return dataclasses.replace(alert, key=f"{alert.key} interrupted", title=title)


def _reasons(instance: DagsterInstance, run: DagsterRun) -> dict[str, str]:
    """Why a run failed: by step, or for the run as a whole."""
    reasons = {}
    for entry in instance.all_logs(run.run_id, of_type=DagsterEventType.STEP_FAILURE):
        failure = entry.dagster_event.step_failure_data if entry.dagster_event else None
        if failure and failure.user_failure_data and failure.user_failure_data.description:
            reasons[str(entry.step_key)] = failure.user_failure_data.description
        elif failure and failure.error:
            error = failure.error.cause or failure.error
            reasons[str(entry.step_key)] = error.message.strip()
    if not reasons:
        for entry in instance.all_logs(run.run_id, of_type=DagsterEventType.RUN_FAILURE):
            reasons["run"] = entry.dagster_event.message or "" if entry.dagster_event else ""
    return reasons


def _given_up(instance: DagsterInstance, ledger: Ledger, ui_url: str) -> Iterator[Alert]:
    """Failed runs whose next execution did not come."""
    now = datetime.now(UTC).timestamp()
    for run_id, failed in list(ledger.awaiting.items()):
        run = instance.get_run_by_id(run_id)
        taken_up = run is None or AUTO_RETRY_RUN_ID_TAG in run.tags
        if taken_up or now - failed > RETRY_PATIENCE.total_seconds():
            del ledger.awaiting[run_id]
        if run and not taken_up and run_id not in ledger.awaiting:
            yield _of_run(instance, run, failed, ui_url, recovered=False)


def _due(state: InstigatorState, last_tick: float | None) -> datetime:
    """When a schedule is due at the latest: its longest pause after its last tick.

    The time zone of a schedule is not on record; its pauses are the same in all of them.
    """
    data: Any = state.instigator_data
    began = max(filter(None, (last_tick, data.start_timestamp)), default=0.0)
    crons = [data.cron_schedule] if isinstance(data.cron_schedule, str) else data.cron_schedule
    times = cron_string_iterator(began, crons[0], "UTC")
    ticks = [next(times) for _ in range(8)]
    pause = max(later - earlier for earlier, later in pairwise(ticks))
    return datetime.fromtimestamp(began, UTC) + pause


def _instigator(
    state: InstigatorState,
    about: str,
    well: bool,
    what: str,
    when: datetime,
    ui_url: str,
    error: str = "",
) -> Alert:
    location = state.origin.repository_origin.code_location_origin.location_name
    kind = state.instigator_type.value.lower()
    return Alert(
        key=f"{kind} {location} {state.instigator_name} {about}",
        recovered=well,
        severity="ERROR",
        group=location,
        title=f"the {kind} {state.instigator_name} {what}",
        details=_shown({"error": error.strip()} if error else {}),
        link=f"{ui_url}/automation",
        time=_iso(when.timestamp()),
    )


def _partition(run: DagsterRun) -> str:
    start, end = (
        run.tags.get(f"dagster/asset_partition_range_{which}") for which in ("start", "end")
    )
    if start and start == end:
        return start
    return run.tags.get("dagster/partition") or (f"{start}...{end}" if start else "")


def _shown(details: dict[str, str]) -> dict[str, str]:
    """Some of the details, short and without credentials."""
    return {
        name: scrubbed(value)[:_LONGEST_DETAIL]
        for name, value in list(details.items())[:_MOST_DETAILS]
    }


def _iso(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds")
