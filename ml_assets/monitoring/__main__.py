"""Send a test alert: `python -m ml_assets.monitoring`."""

import argparse
import sys
from datetime import UTC, datetime

from rich.console import Console

from ml_assets.monitoring.definitions import UI_URL, alerts_file
from ml_assets.resources.alerts import Alert, Alerting


def main() -> int:
    """Send a test alert to every notifier, or where an alert of a group would go."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--group", help="only where alerts of this group go")
    options.add_argument("--severity", choices=["ERROR", "WARN"], default="ERROR")
    arguments = options.parse_args()
    alerting = Alerting.load(alerts_file())
    alert = Alert(
        key="test",
        recovered=False,
        severity=arguments.severity,
        group=arguments.group or "monitoring",
        title="this is a test",
        link=UI_URL,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    names = alerting.destinations(alert) if arguments.group else list(alerting.notifiers)
    console = Console()
    failed = 0
    for name in names:
        try:
            alerting.notifiers[name].send([alert])
        except Exception as error:
            failed += 1
            console.print(f"[red]{name}: {type(error).__name__}: {error}")
        else:
            console.print(f"{name}: delivered")
    if not names:
        console.print(f"no route takes it: see {alerts_file()}")
    return 1 if failed or not names else 0


if __name__ == "__main__":
    sys.exit(main())
