"""What happened in a simulated month, night by night, and whether all ended well."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import date

import numpy as np


@dataclass
class Night:
    """A night and the morning after it.

    Attributes:
        day: The date of the morning.
        due: The schedules that were due.
        fault: What was done, to which group; empty if nothing.
        happened: What became of the runs of the night.
        told: What the alerts of the night said, in short.
        expected: How many alerts were expected.
        remedy: What put it right.
        recovered: How many recoveries were told in the morning.
        megabytes: What the data directory held in the end, by its parts.
    """

    day: date
    due: list[str] = field(default_factory=list)
    fault: str = ""
    happened: str = ""
    told: list[str] = field(default_factory=list)
    expected: int = 0
    remedy: str = ""
    recovered: list[str] = field(default_factory=list)
    megabytes: dict[str, float] = field(default_factory=dict)

    def problems(self) -> list[str]:
        """What was not as expected."""
        found = []
        told, recovered = _of_faults(self.told), _of_faults(self.recovered)
        if len(told) != self.expected:
            found.append(f"{self.day}: expected {self.expected} alerts; found {told}")
        if recovered != told:
            found.append(f"{self.day}: told {told}, but recovered {recovered}")
        return found

    def row(self) -> list[str]:
        """The night as a row of the table."""
        total = sum(self.megabytes.values())
        return [
            f"{self.day:%a %m-%d}",
            ", ".join(self.due),
            self.fault,
            self.happened,
            "; ".join(self.told),
            self.remedy,
            f"{total:.0f}",
        ]


VERDICT = "no_regression_against_champion"
"""A check that fails without a fault: a small training is now and then worse than the champion."""


def _of_faults(alerts: list[str]) -> list[str]:
    return sorted(alert for alert in alerts if VERDICT not in alert)


PRUNED = ("artifacts", "mlflow", "optuna")
"""Parts of the data directory in which nothing stays that is old and not needed."""
MORE = 1.25
"""By what factor a pruned part, or the growth of another, may be larger than it ever was before."""


def weeks(nights: list[Night]) -> list[Night]:
    """The nights in which upkeep and retention ran."""
    return [night for night in nights if any(job.endswith("_retention") for job in night.due)]


def growth(nights: list[Night]) -> list[str]:
    """Where the disk grows faster than it may, from one Sunday to the next, when old is old.

    What is pruned stays as it is. Tables grow by their days, and Dagster's record by its runs: no
    faster than in the weeks before.
    """
    sundays = [night.megabytes for night in weeks(nights)]
    if len(sundays) < 3:
        return []
    found = []
    for part in sundays[-1]:
        sizes = [megabytes.get(part, 0.0) for megabytes in sundays]
        *before, latest = sizes if part in PRUNED else np.diff(sizes)
        if latest > max(*before, 1.0) * MORE:
            found.append(f"{part}: {', '.join(f'{size:.0f}' for size in sizes)} MB on Sundays")
    return found


COLUMNS = ["day", "due", "fault", "what happened", "told", "put right by", "MB"]


def said(statuses: list[str]) -> str:
    """Statuses of runs in short.

    >>> said(["SUCCESS", "FAILURE", "SUCCESS"])
    '2 success, 1 failure'
    """
    counts = Counter(status.lower() for status in statuses)
    return ", ".join(f"{counts[name]} {name}" for name in sorted(counts, reverse=True))
