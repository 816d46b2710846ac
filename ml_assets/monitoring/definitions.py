"""The code location `monitoring`: one sensor over all code locations, and who it tells."""

import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from ml_assets.monitoring import watch
from ml_assets.monitoring.ledger import Ledger
from ml_assets.monitoring.ledger_store import LedgerStore
from ml_assets.monitoring.unreadable import RESTORE_INDEX, telling
from ml_assets.resources.alerts import (
    TIMEOUT_SECONDS,
    Alert,
    Alerting,
    FromEnvironment,
    Heartbeat,
)
from ml_assets.run_launcher import RunLauncher
from ml_assets.settings import dagster_url

FIRST_LOOK = timedelta(days=1)
"""How far back the first look reaches."""
UI_URL = dagster_url()
HEARTBEAT_VARIABLE = "ML_ASSETS_HEARTBEAT_URL"
_HEARTBEAT_THREAD = "ml_assets heartbeat"
HEARTBEAT_SECONDS = 55
"""The least time between two heartbeats: with a look every half minute, there is one a minute."""


def alerts_file() -> Path:
    """The file that says who is told of what."""
    return Path(os.environ.get("ML_ASSETS_ALERTS_FILE", "alerts.yaml"))


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells of failed runs, asset checks that do not hold, schedules that did not run, "
    "stale assets, and of all these when they are well again.",
)
def alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Look at what happened since the last tick, and deliver what is to be said of it."""
    lost: list[Alert] = []
    if isinstance(context.instance.run_launcher, RunLauncher):
        with telling(lost, "lost runs", "which runs lost their process", RESTORE_INDEX):
            context.instance.run_launcher.end_lost_runs()
    now = datetime.now(UTC)
    store = LedgerStore()
    ledger = store.load(context.cursor, since=(now - FIRST_LOOK).timestamp())
    alerting, configuration = _configured(ledger, now)
    seen = [
        configuration,
        store.alert(),
        _of_heartbeat(ledger),
        *lost,
        *watch.runs(context.instance, ledger, UI_URL),
        *watch.instigators(context.instance, UI_URL),
        *watch.freshness(context.instance, UI_URL),
    ]
    ledger.forget(alerting, now)
    ledger.note(seen, alerting)
    outcome = ledger.deliver(alerting)
    for name, became in outcome.items():
        context.log.info("%s: %s", name, became)
    store.save(ledger)  # at once: what was delivered must not be delivered again
    _send_heartbeat(alerting, ledger, now)
    cursor = store.save(ledger)
    for mistake in store.mistakes:
        context.log.warning(mistake)
    told = "; ".join(f"{name}: {became}" for name, became in outcome.items())
    broken = f"{len(ledger.problems)} things are broken"
    return dg.SensorResult(skip_reason=f"{told or 'nothing new'}; {broken}", cursor=cursor)


def _send_heartbeat(alerting: Alerting, ledger: Ledger, now: datetime) -> None:
    """Call the heartbeat's URL once a minute. What becomes of it, the ledger keeps.

    It has a thread of its own, so that a receiver that never ends its answer holds nobody up.
    """
    heartbeat = alerting.heartbeat
    if heartbeat is None and os.environ.get(HEARTBEAT_VARIABLE):
        heartbeat = Heartbeat(url=FromEnvironment(env=HEARTBEAT_VARIABLE))
    if heartbeat is None:
        ledger.heartbeat = {}
        return
    if now.timestamp() - ledger.heartbeat.get("time", 0) < HEARTBEAT_SECONDS:
        return
    error = [f"no answer within {TIMEOUT_SECONDS} s"]

    def call() -> None:
        try:
            heartbeat.send(failed=bool(ledger.outbox))
        except (OSError, LookupError) as mistake:
            error[0] = str(mistake)
        else:
            error[0] = ""

    if any(thread.name == _HEARTBEAT_THREAD for thread in threading.enumerate()):
        return  # the last one is still on its way, and was told as late
    thread = threading.Thread(target=call, name=_HEARTBEAT_THREAD, daemon=True)
    thread.start()
    thread.join(TIMEOUT_SECONDS)
    ledger.heartbeat = {"time": now.timestamp(), "error": error[0]}


def _of_heartbeat(ledger: Ledger) -> Alert:
    error = ledger.heartbeat.get("error", "")
    return Alert(
        key="heartbeat",
        recovered=not error,
        severity="ERROR",
        group="monitoring",
        title="the heartbeat is not received",
        details={"error": error} if error else {},
    )


def _configured(ledger: Ledger, now: datetime) -> tuple[Alerting, Alert]:
    """Who is told, and whether the file says so: while it is wrong, its last right form counts.

    Raises:
        OSError: The file cannot be read, and never was right.
        ValueError: It is wrong, and never was right.
    """
    path, key, mistake = alerts_file(), "configuration", ""
    time = now.isoformat(timespec="milliseconds")
    try:
        alerting = Alerting.load(path)
        ledger.configuration = alerting.model_dump_json()
    except (OSError, ValueError) as error:
        if not ledger.configuration:
            raise
        alerting, mistake = Alerting.model_validate_json(ledger.configuration), str(error)
        if known := ledger.problems.get(key):
            time = known.time  # it has not happened once more
    return alerting, Alert(
        key=key,
        recovered=not mistake,
        severity="ERROR",
        group="monitoring",
        title=f"{path.name} is wrong",
        details={"error": mistake} if mistake else {},
        time=time,
    )


defs = dg.Definitions(sensors=[alerts])
