"""Days, lines and readings made for a test."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa

from ml_assets.ml.days import midnight
from ml_assets.power import data

PARIS = "Europe/Paris"
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
SPRING, AUTUMN = date(2008, 3, 30), date(2008, 10, 26)
"""The days of 23 and of 25 hours in Paris."""


def begins(day: date, timezone: str = PARIS) -> datetime:
    return midnight(day, timezone)


def arrived(lines: pa.Table, start: datetime, end: datetime, timezone: str = PARIS) -> pa.Table:
    return data.arrived(lines, start, end, timezone, "test")


def measured(start: datetime, end: datetime, seed: int = 0, gaps: float = 0.02) -> pa.Table:
    """Readings with random values for every minute, some of which are missing."""
    count = int((end - start) / MINUTE)
    random = np.random.default_rng(seed)
    times = np.datetime64(start.astimezone(UTC).replace(tzinfo=None), "us") + np.arange(count) * (
        np.timedelta64(1, "m")
    )
    columns = {
        name: pa.array(random.gamma(2.0, 0.5, count), mask=random.random(count) < gaps)
        for name in data.COLUMNS
    }
    return pa.table({"event_time_utc": pa.array(times, pa.timestamp("us", "UTC")), **columns})
