"""What is broken, what has been said of it, and what still has to be delivered.

The ledger is the sensor's cursor: Dagster stores it when a tick is over. A process that is killed
between a delivery and that moment delivers the same once more; nothing is lost.
"""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from ml_assets.resources.alerts import Alert, Alerting


@dataclass
class Ledger:
    """The state between two ticks.

    Attributes:
        since: Nothing that happened before this time, in seconds since 1970, is looked at.
        positions: How far each kind of event has been read.
        awaiting: Failed runs that Dagster will execute again, and when they failed.
        problems: What is broken, by key.
        outbox: What has to be delivered, by notifier, oldest first.
    """

    since: float
    positions: dict[str, str] = field(default_factory=dict)
    awaiting: dict[str, float] = field(default_factory=dict)
    problems: dict[str, Alert] = field(default_factory=dict)
    outbox: dict[str, list[Alert]] = field(default_factory=dict)

    @classmethod
    def load(cls, cursor: str | None, *, since: float) -> "Ledger":
        """What `dump` wrote, or an empty ledger that begins at `since`."""
        if not cursor:
            return cls(since)
        values = json.loads(cursor)
        values["problems"] = {key: Alert(**alert) for key, alert in values["problems"].items()}
        values["outbox"] = {
            name: [Alert(**alert) for alert in alerts] for name, alerts in values["outbox"].items()
        }
        return cls(**values)

    def dump(self) -> str:
        """The ledger as JSON."""
        return json.dumps(asdict(self))

    def note(self, seen: Iterable[Alert], alerting: Alerting) -> None:
        """Take up what was seen, oldest first: a thing that breaks, and one that is well again.

        What is broken already is counted, not said again; what was well already is passed over.
        """
        for alert in seen:
            known = self.problems.get(alert.key)
            if known and not alert.recovered:
                again = alert.time != known.time
                self.problems[alert.key] = dataclasses.replace(
                    known, time=alert.time, count=known.count + again
                )
                continue
            if known:
                told = dataclasses.replace(
                    alert, severity=known.severity, title=known.title, count=known.count
                )
                del self.problems[alert.key]
            elif alert.recovered:
                continue
            else:
                told = self.problems[alert.key] = alert
            for name in alerting.destinations(told):
                self.outbox.setdefault(name, []).append(told)

    def deliver(self, alerting: Alerting) -> dict[str, str]:
        """Deliver what is waiting, a message for each notifier.

        Returns:
            What became of each delivery, by notifier: how many, or why it failed. What failed stays
            in the outbox; what a notifier is owed that is no longer configured is dropped.
        """
        outcome, waiting = {}, {}
        for name, alerts in sorted(self.outbox.items()):
            if name not in alerting.notifiers:
                outcome[name] = f"{len(alerts)} dropped: there is no such notifier any more"
                continue
            try:
                alerting.notifiers[name].send(alerts)
            except Exception as error:
                waiting[name] = alerts
                outcome[name] = f"{len(alerts)} waiting: {type(error).__name__}: {error}"
            else:
                outcome[name] = f"{len(alerts)} delivered"
        self.outbox = waiting
        return outcome
