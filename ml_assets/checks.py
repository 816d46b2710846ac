"""Factories of asset checks. The thresholds are each group's own (its `checks.py`).

A check looks at one property of one asset's value. A failing ERROR check means that somebody
acts; WARN is advice. A blocking check keeps everything downstream from running.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np

from ml_assets.dagster_internals import partitions as internals
from ml_assets.ml.days import later
from ml_assets.ml.drift import population_stability_index
from ml_assets.ml.evaluation import Evaluation, Quality
from ml_assets.promotion import Registration
from ml_assets.ranges import Day, days_of, pieces, refusals, refuse
from ml_assets.resources.lakehouse import Lakehouse

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        passed: The property holds.
        metadata: What was measured and what is allowed, the most useful first.
    """

    passed: bool
    metadata: dict[str, Any] = field(default_factory=dict)


def no_drift(rows: "pa.Table", since: datetime, limit: float) -> Finding:
    """Whether later rows are distributed like those before, by the population stability index.

    A column of which nothing is known in the later rows, if there are any, fails too.

    Args:
        rows: A column of times in UTC, then those to compare.
        since: When the later rows begin.
        limit: The largest index that a column may have.
    """
    later = rows[0].to_numpy() >= np.datetime64(since.astimezone(UTC).replace(tzinfo=None))
    found, unknown = {}, []
    for name in rows.column_names[1:]:
        values = rows[name].to_numpy()
        found[name] = population_stability_index(values[~later], values[later])
        if later.any() and not np.isfinite(values[later]).any():
            unknown.append(name)
    worst = float(np.nanmax([*found.values(), 0.0]))
    return Finding(
        worst <= limit and not unknown,
        {"largest": worst, "unknown": unknown, **found, "allowed": limit},
    )


def property_check(
    key: Sequence[str],
    value_type: type,
    holds: Callable[[Any], Finding],
    *,
    partitions: dg.PartitionsDefinition | None = None,
    blocking: bool = False,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
) -> dg.AssetChecksDefinition:
    """A check named and described by the function `holds`.

    Args:
        key: Key of the asset to look at.
        value_type: Type of the asset's value.
        holds: Looks at the value; its name states what is true when it passes.
        partitions: The asset's partitions; the check looks at the one at hand.
        blocking: A failure keeps everything downstream from running.
        severity: Of a failure.
    """

    def check(value: Any) -> dg.AssetCheckResult:
        finding = holds(value)
        return dg.AssetCheckResult(
            passed=finding.passed, severity=severity, metadata=finding.metadata
        )

    check.__annotations__["value"] = value_type
    return dg.asset_check(
        asset=dg.AssetKey(key),
        name=holds.__name__,
        description=holds.__doc__,
        blocking=blocking,
        partitions_def=partitions,
    )(check)


def table_check(
    key: Sequence[str],
    partitions: dg.TimeWindowPartitionsDefinition,
    holds: Callable[["pa.Table", datetime, datetime], Finding],
    *,
    columns: Sequence[str],
    lookback_days: int = 0,
    latest_day: bool = False,
    piece_days: int = 92,
    blocking: bool = False,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
) -> dg.AssetChecksDefinition:
    """A check of the partitions at hand of a table in the lakehouse.

    In a range it looks at each day by itself, as when the day is made alone, and is stored as a
    result of that day. What blocks keeps the days that fail from the tables after it, no others.

    Args:
        key: Key of the asset, `(group, table)`.
        partitions: The asset's partitions.
        holds: Looks at the rows, and is told where the day begins and ends; its name states what
            is true when it passes.
        columns: The columns to look at; the rows come in the order of time.
        lookback_days: How many days of rows before the day it sees; if there are any, it looks at
            all rows of a range at once, and tells of its latest day.
        latest_day: It sees the latest day of a range only.
        piece_days: How many days of a long range are read at once.
        blocking: A failure keeps everything downstream from running.
        severity: Of a failure.
    """
    group, table = key

    @dg.asset_check(
        asset=dg.AssetKey(key),
        name=holds.__name__,
        description=holds.__doc__,
        blocking=blocking,
        partitions_def=partitions,
        required_resource_keys={f"{group}_lakehouse"},
    )
    def check(context: dg.AssetCheckExecutionContext):  # type: ignore[no-untyped-def]
        lakehouse = getattr(context.resources, f"{group}_lakehouse")
        days = days_of(context, partitions)
        if len(days) == 1:
            [result] = look(lakehouse, days).values()
            return result
        refused = refusals(context)
        days = [day for day in days if day.key not in refused]
        seen = days[-1:] if latest_day else days
        results: dict[str, dg.AssetCheckResult] = {}
        for piece in [seen] if seen and lookback_days else pieces(seen, piece_days):
            results |= look(lakehouse, piece)
        return _evaluated(context, days, results)

    def look(lakehouse: Lakehouse, days: Sequence[Day]) -> dict[str, dg.AssetCheckResult]:
        """The result of each day; of the latest one, where the check looks back."""
        windows = [(day.start, day.end) for day in days]
        if lookback_days:
            windows, days = [(days[0].start, days[-1].end)], days[-1:]
        read = [(later(start, -lookback_days, partitions.timezone), end) for start, end in windows]
        parts = lakehouse.read_days(f"{group}.{table}", read, columns)
        findings = [holds(rows, *window) for rows, window in zip(parts, windows, strict=True)]
        return {
            day.key: dg.AssetCheckResult(
                passed=finding.passed, severity=severity, metadata=finding.metadata
            )
            for day, finding in zip(days, findings, strict=True)
        }

    return check


def _evaluated(
    context: dg.AssetCheckExecutionContext,
    days: Sequence[Day],
    results: dict[str, dg.AssetCheckResult],
) -> Iterator[Any]:
    """Store the results of the days of a range.

    Of a check that blocks, those that fail are left out by the tables after it in the same run;
    where there are none, they fail the step.
    """
    [spec] = context.check_specs
    bad = {
        day: {
            "by": spec.asset_key.to_user_string(),
            "check": spec.name,
            "expected": f"{spec.name} ({spec.description})",
            "found": ", ".join(f"{name} {told.value}" for name, told in result.metadata.items()),
            "remedy": "mend the source and materialize the day again",
        }
        for day, result in results.items()
        if spec.blocking and not result.passed and result.severity == dg.AssetCheckSeverity.ERROR
    }
    left_out = bool(bad) and refuse(context, days, bad)
    for evaluation in internals.evaluations(context, results):
        if evaluation.partition in bad and not left_out:
            yield evaluation
        else:
            context.op_execution_context.log_event(evaluation)  # type: ignore[arg-type]
    yield dg.Output(None)


def floor_check(
    key: Sequence[str], quality: Quality, partitions: dg.PartitionsDefinition | None = None
) -> dg.AssetChecksDefinition:
    """The check `{metric}_above_floor`, or `_below_ceiling`, on an evaluation.

    `registered_model` refuses what fails it, and the champion stays.
    """

    def holds(evaluation: Evaluation) -> Finding:
        found = evaluation.metrics[quality.metric]
        return Finding(
            evaluation.reaches(quality), {quality.metric: found, "allowed": quality.limit}
        )

    side = "below_ceiling" if quality.lower_is_better else "above_floor"
    holds.__name__ = f"{quality.metric}_{side}"
    holds.__doc__ = f"The {quality.metric} on the test set is no worse than {quality.limit}."
    return property_check(key, Evaluation, holds, partitions=partitions)


def baseline_check(
    key: Sequence[str], quality: Quality, partitions: dg.PartitionsDefinition | None = None
) -> dg.AssetChecksDefinition:
    """The check `beats_{baseline}`, or `not_worse_than_{baseline}`, on an evaluation.

    `registered_model` refuses what fails it, and the champion stays.
    """

    def holds(evaluation: Evaluation) -> Finding:
        found = evaluation.metrics[quality.metric]
        naive = evaluation.baselines[quality.baseline]
        return Finding(
            evaluation.beats_baseline(quality), {quality.metric: found, quality.baseline: naive}
        )

    if quality.tolerance:
        holds.__name__ = f"not_worse_than_{quality.baseline}"
        holds.__doc__ = (
            f"The {quality.metric} on the test set is at most {quality.tolerance:.0%} worse than "
            f"that of {quality.baseline}."
        )
    else:
        holds.__name__ = f"beats_{quality.baseline}"
        holds.__doc__ = (
            f"The {quality.metric} on the test set is better than that of {quality.baseline}."
        )
    return property_check(key, Evaluation, holds, partitions=partitions)


def no_regression_check(
    key: Sequence[str], partitions: dg.PartitionsDefinition | None = None
) -> dg.AssetChecksDefinition:
    """The check `no_regression_against_champion` on a registration."""

    def no_regression_against_champion(registration: Registration) -> Finding:
        """The challenger is not worse than the champion beyond the noise of the test rows."""
        return Finding(
            not registration.regressed,
            {
                "reason": registration.reason,
                "gain": registration.gain,
                "gain_low": registration.gain_low,
                "gain_high": registration.gain_high,
            },
        )

    return property_check(key, Registration, no_regression_against_champion, partitions=partitions)
