"""The code location `monitoring`: one sensor over all code locations, and who it tells."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from ml_assets.monitoring import watch
from ml_assets.monitoring.ledger import Ledger
from ml_assets.resources.alerts import Alerting

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
    alerting = Alerting.load(alerts_file())
    began = datetime.now(UTC) - FIRST_LOOK
    ledger = Ledger.load(context.cursor, since=began.timestamp())
    seen = [
        *watch.runs(context.instance, ledger, UI_URL),
        *watch.instigators(context.instance, UI_URL),
        *watch.freshness(context.instance, UI_URL),
    ]
    ledger.note(seen, alerting)
    outcome = ledger.deliver(alerting)
    for name, became in outcome.items():
        context.log.info("%s: %s", name, became)
    told = "; ".join(f"{name}: {became}" for name, became in outcome.items())
    broken = f"{len(ledger.problems)} things are broken"
    return dg.SensorResult(skip_reason=f"{told or 'nothing new'}; {broken}", cursor=ledger.dump())


defs = dg.Definitions(sensors=[alerts])
