"""The clock of the whole process, set to whatever moment the simulation has reached.

It moves `time.time`, which Dagster, MLflow and PyIceberg ask, Dagster's own clock, and that of our
modules that ask `datetime`. Files' times on disk and SQLite's stay those of the machine.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from unittest import mock

ASKING = (
    "ml_assets.monitoring.definitions",
    "ml_assets.monitoring.watch",
    "ml_assets.resources.lakehouse.upkeep",
    "ml_assets.retention",
)
"""Our modules that ask `datetime` for the time."""


class Clock:
    """It goes on by itself, as fast as any other, from wherever it was set."""

    def __init__(self, moment: datetime) -> None:
        self.advance_to(moment)

    def now(self) -> datetime:
        return self._set_to + timedelta(seconds=time.perf_counter() - self._since)

    def timestamp(self) -> float:
        return self.now().timestamp()

    def advance_to(self, moment: datetime) -> None:
        """It never goes back: work may have taken longer than until `moment`."""
        if not hasattr(self, "_set_to") or moment > self.now():
            self._set_to, self._since = moment, time.perf_counter()

    def advance(self, by: timedelta) -> None:
        self.advance_to(self.now() + by)

    @contextmanager
    def running(self) -> Iterator[None]:
        """While this lasts, whoever asks for the time is told this clock's."""
        clock = self

        class Moved(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:
                return clock.now().astimezone(tz or UTC)

        with ExitStack() as patches:
            patches.enter_context(mock.patch("time.time", self.timestamp))
            patches.enter_context(
                mock.patch("dagster._time._mockable_get_current_datetime", clock.now)
            )
            for module in ASKING:
                patches.enter_context(mock.patch(f"{module}.datetime", Moved))
            yield
