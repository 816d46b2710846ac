"""What is broken, what has been said of it, and what still has to be delivered.

The ledger is the sensor's cursor: Dagster stores it when a tick is over. A process that is killed
between a delivery and that moment delivers the same once more; nothing is lost.
"""

import dataclasses
import json
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta

from ml_assets.resources.alerts import Alert, Alerting

REMEMBERED = timedelta(days=30)
"""How long a problem of a partition is kept: nobody may ever look at the partition again."""
BUDGET = timedelta(seconds=30)
"""How long all deliveries of a tick may take: Dagster ends the tick after a minute."""


@dataclass
class Ledger:
    """The state between two ticks.

    Attributes:
        since: Nothing that happened before this time, in seconds since 1970, is looked at.
        positions: How far each kind of event has been read.
        awaiting: Failed runs that Dagster will execute again, and when they failed.
        problems: What is broken, by key.
        outbox: What has to be delivered, by notifier, oldest first.
        configuration: The last configuration that was right, as JSON; secrets are names in it.
    """

    since: float
    positions: dict[str, str] = field(default_factory=dict)
    awaiting: dict[str, float] = field(default_factory=dict)
    problems: dict[str, Alert] = field(default_factory=dict)
    outbox: dict[str, list[Alert]] = field(default_factory=dict)
    configuration: str = ""

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

    def forget(self, alerting: Alerting, now: datetime) -> None:
        """Drop the problems that no route wants, and those of partitions after `REMEMBERED`."""
        self.problems = {
            key: problem
            for key, problem in self.problems.items()
            if alerting.destinations(problem)
            and not (problem.partition and datetime.fromisoformat(problem.time) < now - REMEMBERED)
        }

    def note(self, seen: Iterable[Alert], alerting: Alerting) -> None:
        """Take up what was seen, oldest first: a thing that breaks, and one that is well again.

        What is broken already is counted, not said again; what was well already is passed over, and
        so is what no route wants.
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
            elif alert.recovered or not alerting.destinations(alert):
                continue
            else:
                told = self.problems[alert.key] = alert
            for name in alerting.destinations(told):
                self.outbox.setdefault(name, []).append(told)

    def deliver(self, alerting: Alerting) -> dict[str, str]:
        """Deliver what is waiting, a message for each notifier, side by side within `BUDGET`.

        Returns:
            What became of each delivery, by notifier: how many, or why it failed. What failed or is
            not over in time stays in the outbox; what a notifier is owed that is no longer
            configured is dropped.
        """
        outcome, sending = {}, {}
        pool = ThreadPoolExecutor(max(len(self.outbox), 1))
        for name, alerts in sorted(self.outbox.items()):
            if notifier := alerting.notifiers.get(name):
                sending[name] = pool.submit(notifier.send, tuple(alerts))
            else:
                outcome[name] = f"{len(alerts)} dropped: there is no such notifier any more"
        wait(sending.values(), BUDGET.total_seconds())
        # Whoever is late is not waited for: a notifier's own time-outs end its thread.
        pool.shutdown(wait=False)
        failures = {name: _failure(delivery) for name, delivery in sending.items()}
        for name, failure in failures.items():
            became = f"waiting: {failure}" if failure else "delivered"
            outcome[name] = f"{len(self.outbox[name])} {became}"
        self.outbox = {name: self.outbox[name] for name, failure in failures.items() if failure}
        return outcome


def _failure(delivery: Future[None]) -> str:
    """Why there was no delivery; empty if there was one."""
    if not delivery.done():
        return f"not over after {BUDGET.total_seconds():g} s"
    error = delivery.exception()
    return f"{type(error).__name__}: {error}" if error else ""
