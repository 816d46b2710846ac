"""What is broken, what has been said of it, and what still has to be delivered.

It is stored when a tick is over (`ledger_store.py`). A process that is killed between a delivery
and that moment delivers the same once more; nothing is lost.
"""

import dataclasses
import json
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ml_assets.resources.alerts import Alert, Alerting

MOST_WAITING = 2000
"""How many alerts may wait for a notifier; of more, the oldest are dropped."""
REMEMBERED = timedelta(days=30)
"""How long a problem of a partition is kept: nobody may ever look at the partition again."""
UNREADABLE_RUN = "unreadable run "
"""How the key of an alert begins that is about a run whose record is damaged."""
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
        unread: Runs that have ended and cannot be read: how they ended, and when.
        heartbeat: When the heartbeat was last sent, and why it failed.
        unsaved: Why the ledger could not be written to its file.
    """

    since: float
    positions: dict[str, str] = field(default_factory=dict)
    awaiting: dict[str, float] = field(default_factory=dict)
    problems: dict[str, Alert] = field(default_factory=dict)
    outbox: dict[str, list[Alert]] = field(default_factory=dict)
    configuration: str = ""
    unread: dict[str, tuple[str, float]] = field(default_factory=dict)
    heartbeat: dict[str, Any] = field(default_factory=dict)
    unsaved: str = ""

    @classmethod
    def load(cls, text: str | None, *, since: float) -> "Ledger":
        """What `dump` wrote, or an empty ledger that begins at `since`."""
        return cls.from_values(json.loads(text)) if text else cls(since)

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> "Ledger":
        """The ledger of plain values.

        Raises:
            TypeError: It is none.
            AttributeError: The same.
        """
        problems = values.get("problems", {}).items()
        outbox = values.get("outbox", {}).items()
        read = {
            "problems": {key: Alert(**alert) for key, alert in problems},
            "outbox": {name: [Alert(**alert) for alert in alerts] for name, alerts in outbox},
            "unread": {run: tuple(ended) for run, ended in values.get("unread", {}).items()},
        }
        return cls(**values | read)

    def dump(self) -> str:
        """The ledger as JSON."""
        return json.dumps(asdict(self))

    def forget(self, alerting: Alerting, now: datetime) -> None:
        """Drop what no route wants, and after `REMEMBERED` what may never be seen again.

        That is what is about a partition, or a run that cannot be read.
        """

        def is_old(alert: Alert) -> bool:
            return bool(alert.time) and datetime.fromisoformat(alert.time) < now - REMEMBERED

        self.unread = {
            run: ended
            for run, ended in self.unread.items()
            if ended[1] > (now - REMEMBERED).timestamp()
        }
        self.problems = {
            key: problem
            for key, problem in self.problems.items()
            if alerting.destinations(problem)
            and not ((problem.partition or key.startswith(UNREADABLE_RUN)) and is_old(problem))
        }

    def note(self, seen: Iterable[Alert], alerting: Alerting) -> None:
        """Take up what was seen, oldest first: a thing that breaks, and one that is well again.

        What is broken already is counted, not said again; what was well already is passed over, and
        so is what no route wants. An alert without a time is about something that lasts; it gets
        the time when it was first seen.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        for alert in seen:
            known = self.problems.get(alert.key)
            if known and not alert.recovered:
                time = alert.time or known.time
                again = time != known.time
                self.problems[alert.key] = dataclasses.replace(
                    known, time=time, count=known.count + again
                )
                continue
            told = dataclasses.replace(alert, time=alert.time or now)
            if known:
                told = dataclasses.replace(
                    told,
                    severity=known.severity,
                    group=known.group,
                    title=known.title,
                    count=known.count,
                )
                del self.problems[alert.key]
            elif alert.recovered or not alerting.destinations(alert):
                continue
            else:
                self.problems[alert.key] = told
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
        self.outbox = {name: alerts[-MOST_WAITING:] for name, alerts in self.outbox.items()}
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
