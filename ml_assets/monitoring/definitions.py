"""The code location `monitoring`: one sensor over all code locations, and who it tells."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from ml_assets.monitoring import watch
from ml_assets.monitoring.ledger import Ledger
from ml_assets.resources.alerts import Alert, Alerting
from ml_assets.run_launcher import RunLauncher

FIRST_LOOK = timedelta(days=1)
"""How far back the first look reaches."""
UI_URL = os.environ.get("ML_ASSETS_DAGSTER_UI_URL", "http://127.0.0.1:3000")


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
    if isinstance(context.instance.run_launcher, RunLauncher):
        context.instance.run_launcher.end_lost_runs()
    now = datetime.now(UTC)
    ledger = Ledger.load(context.cursor, since=(now - FIRST_LOOK).timestamp())
    alerting, configuration = _configured(ledger, now)
    seen = [
        configuration,
        *watch.runs(context.instance, ledger, UI_URL),
        *watch.instigators(context.instance, UI_URL),
        *watch.freshness(context.instance, UI_URL),
    ]
    ledger.forget(alerting, now)
    ledger.note(seen, alerting)
    outcome = ledger.deliver(alerting)
    for name, became in outcome.items():
        context.log.info("%s: %s", name, became)
    told = "; ".join(f"{name}: {became}" for name, became in outcome.items())
    broken = f"{len(ledger.problems)} things are broken"
    return dg.SensorResult(skip_reason=f"{told or 'nothing new'}; {broken}", cursor=ledger.dump())


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
