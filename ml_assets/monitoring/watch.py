"""What happened in all code locations, read from the Dagster instance and nothing else.

Each function gives alerts, oldest first; an alert that says `recovered` means that a thing was seen
to be well, whether or not it was broken before. What cannot be read is told as an alert, and the
rest is read all the same: one damaged file must not silence all alerts.
"""

import dataclasses
import hashlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import dagster as dg
from dagster import DagsterEventType, DagsterInstance, DagsterRun
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.errors import DagsterAssetCheckFailedError
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, TickStatus
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, WILL_RETRY_TAG
from dagster._utils.schedules import cron_string_iterator

from ml_assets.dagster_internals.records import (
    Ending,
    instigator_states,
    run_endings,
    run_events_file,
)
from ml_assets.monitoring.ledger import Ledger
from ml_assets.monitoring.unreadable import (
    MATERIALIZE,
    RESTART,
    RESTORE,
    RESTORE_INDEX,
    RESTORE_RUN,
    readable,
    shown,
    telling,
)
from ml_assets.resources.alerts import Alert
from ml_assets.run_launcher import INTERRUPTED_TAG
from ml_assets.settings import GROUP_TAG

BATCH = 50
"""Runs of each ending that a look reads at most."""
LOOK = timedelta(seconds=15)
"""After this time a look reads no further run: Dagster ends a tick that takes a minute."""
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


def runs(instance: DagsterInstance, ledger: Ledger, ui_url: str) -> list[Alert]:
    """The runs that have ended since the last look, and the asset checks that they evaluated.

    A run that Dagster will execute again is waited for. The ledger's positions are moved.
    """
    found: list[Alert] = []
    until = time.monotonic() + LOOK.total_seconds()
    for run_id, (kind, timestamp) in list(ledger.unread.items())[:BATCH]:
        del ledger.unread[run_id]  # if it still cannot be read, it is put behind the others
        again = _of_ending(instance, ledger, Ending(run_id, kind, timestamp), ui_url)
        found += [alert for alert in again if _is_news(alert, ledger)]
        if time.monotonic() > until:
            return found
    endings: list[Ending] = []
    with telling(found, "endings", "which runs have ended", RESTORE_INDEX):
        endings = _ended(instance, ledger)
    for ending in endings:
        found += _of_ending(instance, ledger, ending, ui_url)
        ledger.positions[ending.kind] = ending.cursor
        if time.monotonic() > until:
            break
    return [*found, *_given_up(instance, ledger, ui_url)]


def instigators(instance: DagsterInstance, ui_url: str, now: datetime | None = None) -> list[Alert]:
    """Schedules that did not run when they were due, and schedules and sensors that fail."""
    now = now or datetime.now(UTC)
    found: list[Alert] = []
    with telling(found, "instigators", "schedules and sensors", RESTORE):
        for selector, state in instigator_states(instance):
            name = getattr(state, "instigator_name", f"with the selector {selector}")
            what = f"the schedule or sensor {name}"
            with telling(found, f"instigator {selector}", what, RESTART):
                if isinstance(state, Exception):
                    raise state
                found += _of_instigator(instance, state, ui_url, now)
    return found


def _of_instigator(
    instance: DagsterInstance, state: InstigatorState, ui_url: str, now: datetime
) -> list[Alert]:
    if state.status == InstigatorStatus.STOPPED:
        return [
            _instigator(state, about, True, "stopped", now, ui_url) for about in ("tick", "due")
        ]
    ticks = instance.get_ticks(
        state.instigator_origin_id, state.selector_id, limit=1, statuses=_FINISHED
    )
    tick = ticks[0] if ticks else None
    failed = tick is not None and tick.status == TickStatus.FAILURE
    error = tick.error.message if tick and tick.error else ""
    when = datetime.fromtimestamp(tick.timestamp, UTC) if tick else now
    found = [_instigator(state, "tick", not failed, "fails", when, ui_url, error)]
    if state.instigator_type == InstigatorType.SCHEDULE:
        due = _due(state, tick.timestamp if tick else None)
        found.append(
            _instigator(state, "due", now < due + GRACE, "did not run when due", due, ui_url)
        )
    return found


def freshness(instance: DagsterInstance, ui_url: str) -> list[Alert]:
    """Assets that are older than their freshness policy allows."""
    found: list[Alert] = []
    with telling(found, "assets", "which assets there are", RESTORE_INDEX):
        keys = list(instance.get_asset_keys())
        try:
            found += _stale(instance, keys, ui_url)
        except Exception:
            for key in keys:
                name = key.to_user_string()
                what = f"how fresh {name} is"
                with telling(found, f"freshness {name}", what, MATERIALIZE, key.path[0]):
                    found += _stale(instance, [key], ui_url)
        else:
            found += [
                readable(f"freshness {key.to_user_string()}", "how fresh it is", key.path[0])
                for key in keys
            ]
    return found


def _stale(instance: DagsterInstance, keys: list[dg.AssetKey], ui_url: str) -> list[Alert]:
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


def _ended(instance: DagsterInstance, ledger: Ledger) -> list[Ending]:
    """The runs that have ended, oldest first, as far as all kinds of endings are known."""
    found: list[Ending] = []
    known_until = float("inf")
    for kind in _ENDINGS:
        after = ledger.positions.get(kind.value)
        endings = run_endings(instance, kind, after=after, since=ledger.since, limit=BATCH)
        found += endings
        if len(endings) == BATCH:
            known_until = min(known_until, endings[-1].timestamp)
    return sorted(
        (ending for ending in found if ending.timestamp <= known_until),
        key=lambda ending: (ending.timestamp, ending.storage_id),
    )


def _of_ending(
    instance: DagsterInstance, ledger: Ledger, ending: Ending, ui_url: str
) -> list[Alert]:
    """What is to be said of a run that has ended. One that cannot be read is read again later."""
    found: list[Alert] = []
    kind = DagsterEventType(ending.kind)
    failed, by_checks = kind == DagsterEventType.RUN_FAILURE, False
    run, reasons = None, {"run": "its events cannot be read"}
    details = {"file": run_events_file(instance, ending.run_id), "ended": kind.value}
    what = f"run {ending.run_id}"
    with telling(found, what, what, RESTORE_RUN, details=details):
        run = instance.get_run_by_id(ending.run_id)
        if run:
            if not instance.all_logs(run.run_id, of_type=kind):
                raise LookupError("its end is not among its events: they are lost")
            found += _checks(instance, run, ui_url)
            by_checks = failed and _stopped_by_checks(instance, run)
            reasons = _reasons(instance, run) if failed else {}
    if not found[-1].recovered:
        ledger.unread[ending.run_id] = (ending.kind, ending.timestamp)
    read_again = not ending.storage_id
    if run is None or read_again or kind == DagsterEventType.RUN_CANCELED:
        return found
    said = _of_run(run, ending.timestamp, ui_url, recovered=not failed, reasons=reasons)
    if failed and run.tags.get(WILL_RETRY_TAG) == "true":
        ledger.awaiting[run.run_id] = ending.timestamp
        if run.tags.get(INTERRUPTED_TAG) == run.run_id:
            found.append(_interruption(said))
    elif not by_checks:
        found.append(said)
        if not failed:
            found.append(_interruption(said))
    return found


def _interruption(of_run: Alert) -> Alert:
    """A run whose process was stopped or vanished, and which is executed again by itself."""
    title = of_run.title.removesuffix("failed") + "was interrupted, and goes on by itself"
    return dataclasses.replace(of_run, key=f"{of_run.key} interrupted", title=title)


def _is_news(alert: Alert, ledger: Ledger) -> bool:
    """Whether what a run said that was read late still counts."""
    known = ledger.problems.get(alert.key)
    return not alert.recovered or not alert.time or bool(known and known.time <= alert.time)


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
            details=shown(details),
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
    run: DagsterRun, timestamp: float, ui_url: str, *, recovered: bool, reasons: dict[str, str]
) -> Alert:
    assets = sorted(key.to_user_string() for key in run.asset_selection or [])
    groups = _groups(run, assets)
    group = groups[0]
    by_hand = run.job_name.startswith("__")
    # The same work again has the same key; by hand, it is told by its assets.
    work = hashlib.sha256("\n".join(assets).encode()).hexdigest()[:12] if by_hand else run.job_name
    # Of several groups, it is the one whose step failed.
    guilty = [of_step for step in reasons if (of_step := step.split("__")[0]) in groups]
    return Alert(
        key=f"run {group} {work} {_partition(run)}",
        recovered=recovered,
        severity="ERROR",
        group=[*guilty, group][0],
        title=f"{', '.join(assets[:3]) or run.job_name if by_hand else run.job_name} failed",
        partition=_partition(run),
        details=shown(reasons),
        link=f"{ui_url}/runs/{run.run_id}",
        time=_iso(timestamp),
    )


def _groups(run: DagsterRun, assets: list[str]) -> list[str]:
    """Whose run it is: its job or its assets say so, wherever it was launched.

    A run from the command line has no code location, and that of the merged definitions is no
    group. A run of an earlier version has no tag, but its job's name begins with the group's.
    """
    if tagged := run.tags.get(GROUP_TAG):
        return [tagged]
    steps = [step for step in run.step_keys_to_execute or [] if "__" in step]
    if of_assets := [asset.split("/")[0] for asset in assets] or [
        step.split("__")[0] for step in steps
    ]:
        return sorted(set(of_assets))
    location = run.remote_job_origin.location_name if run.remote_job_origin else ""
    by_name = run.job_name.strip("_").split("_")[0]
    return [location if location and "." not in location else by_name]


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


def _given_up(instance: DagsterInstance, ledger: Ledger, ui_url: str) -> list[Alert]:
    """Failed runs whose next execution did not come."""
    found: list[Alert] = []
    now = datetime.now(UTC).timestamp()
    for run_id, failed in list(ledger.awaiting.items()):
        over = now - failed > RETRY_PATIENCE.total_seconds()
        taken_up = False
        with telling(found, f"run {run_id}", f"run {run_id}", RESTORE_RUN):
            run = instance.get_run_by_id(run_id)
            taken_up = run is None or AUTO_RETRY_RUN_ID_TAG in run.tags
            if run and over and not taken_up:
                reasons = _reasons(instance, run)
                found.append(_of_run(run, failed, ui_url, recovered=False, reasons=reasons))
        if taken_up or over:
            del ledger.awaiting[run_id]
    return found


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
        details=shown({"error": error.strip()} if error else {}),
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


def _iso(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds")
