"""A table over a range of days in one run: each day is stored, reported and refused by itself.

A day whose data are not what was promised is left out by the tables after it; the last table of the
run fails for all of them. A day that is made alone fails at once, and what comes after it waits.
What a table's days are made of is in the groups' `assets.py`, and what Dagster is asked besides
its public names in `dagster_internals/partitions.py`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar, cast

import dagster as dg

from ml_assets.dagster_internals import partitions as internals
from ml_assets.ml.ahead import ahead
from ml_assets.ml.errors import DataError
from ml_assets.reporting import explained

Made = TypeVar("Made")
Reason = dict[str, str]
"""Why a day was refused: `by` which asset, `expected`, `found`, `remedy`, perhaps `check`."""

_SHOWN = 5
_ALIKE = 3


class Day(NamedTuple):
    """A partition: its key, and the midnights at which it begins and ends."""

    key: str
    start: datetime
    end: datetime


Days = Sequence[Day]
Store = Callable[[Made, Days], Sequence[Mapping[str, Any]]]


def each_day(
    context: dg.AssetExecutionContext,
    make: Callable[[datetime, datetime], Made],
    store: Store[Made],
    *,
    days_at_once: int = 1,
    prefetch: bool = False,
) -> dg.MaterializeResult:
    """Make and store the days at hand, and report each of them as soon as it is stored.

    Days that this run, or the one that it goes on from, has stored are not made again.

    Args:
        context: Of the table's asset.
        make: Makes what is to be stored of the days between two midnights.
        store: Stores that, and tells the metadata of each of the days.
        days_at_once: How many days are made, and stored, together.
        prefetch: The next days are made while these are stored.

    Raises:
        dagster.Failure: A day is not what was promised, and no table after this one is to be made
            in the same run; or not one day is.
    """
    days = days_of(context, context.assets_def.partitions_def)
    if len(days) == 1:
        with explained(context):
            [metadata] = store(make(days[0].start, days[0].end), days)
        return dg.MaterializeResult(metadata=metadata)
    # Dagster takes what a generator yields as it comes.
    events = _events(context, days, _Range(context, make, store), days_at_once, prefetch=prefetch)
    return cast("dg.MaterializeResult", events)


def _events(
    context: dg.AssetExecutionContext,
    days: Days,
    work: "_Range[Made]",
    days_at_once: int,
    *,
    prefetch: bool,
) -> Iterator[dg.AssetMaterialization | dg.MaterializeResult]:
    refused = refusals(context)
    done = internals.stored(context)
    wanted = [day for day in days if day.key not in refused and day.key not in done]
    yield from work.made(list(pieces(wanted, days_at_once)), prefetch=prefetch)
    left = {day.key for day in days} - refused.keys() - work.failed.keys()
    last = not left or not internals.range_assets_after(context)
    if last and (refused or work.failed):
        raise _failure(context.asset_key, days, refused | work.failed)
    if work.failed:
        internals.log_failure(context, _failure(context.asset_key, days, work.failed))
    yield dg.MaterializeResult(metadata=internals.REPORTED)


def days_of(context: internals.Context, partitions: dg.PartitionsDefinition | None) -> list[Day]:
    """The days at hand, in their order."""
    assert isinstance(partitions, dg.TimeWindowPartitionsDefinition)  # noqa: S101
    windows = ((key, partitions.time_window_for_partition_key(key)) for key in _keys(context))
    return [Day(key, window.start, window.end) for key, window in windows]


def _keys(context: internals.Context) -> Sequence[str]:
    return context.op_execution_context.partition_keys


def refusals(context: internals.Context) -> dict[str, Reason]:
    """The days that tables before this step, or checks of them, refused in this run."""
    own = ""
    if isinstance(context, dg.AssetCheckExecutionContext):
        own = context.check_specs[0].asset_key.to_user_string()
    found: dict[str, Reason] = {}
    for _, metadata in internals.failures(context):
        days: Any = metadata["days"].value if "days" in metadata else {}
        for day, reason in days.items():
            # A check looks at what another check of the same table refused.
            if not ("check" in reason and reason["by"] == own):
                found.setdefault(day, reason)
    return found


def refuse(context: dg.AssetCheckExecutionContext, days: Days, reasons: dict[str, Reason]) -> bool:
    """Have the tables after a check leave days out; not possible if there are none, or no days."""
    if len(days) <= len(reasons) or not internals.range_assets_after(context):
        return False
    [spec] = context.check_specs
    internals.log_failure(context, _failure(spec.asset_key, days, reasons))
    return True


def runs(days: Days) -> Iterator[list[Day]]:
    """The days in runs without a day left out between them.

    >>> from datetime import timedelta
    >>> first, second, _, fourth = (
    ...     Day(str(n), datetime(2024, 3, n), datetime(2024, 3, n + 1)) for n in range(1, 5))
    >>> [[day.key for day in run] for run in runs([first, second, fourth])]
    [['1', '2'], ['4']]
    """
    run: list[Day] = []
    for day in days:
        if run and run[-1].end != day.start:
            yield run
            run = []
        run.append(day)
    if run:
        yield run


def pieces(days: Days, length: int) -> Iterator[list[Day]]:
    """The runs of days in pieces that fit in memory."""
    for run in runs(days):
        for first in range(0, len(run), length):
            yield run[first : first + length]


class _Range(Generic[Made]):
    """Makes days, some at a time; where some are not what was promised, fewer at a time.

    Attributes:
        failed: The days that are not what was promised, and why.
    """

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        make: Callable[[datetime, datetime], Made],
        store: Store[Made],
    ) -> None:
        self.failed: dict[str, Reason] = {}
        self._asset = context.asset_key.to_user_string()
        self._make, self._store = make, store
        self._event = internals.Materializations(context).event
        self._stored = 0

    def made(self, pieces: list[list[Day]], *, prefetch: bool) -> Iterator[dg.AssetMaterialization]:
        """The events of the days of all pieces, each after the day was stored."""
        results = ahead(self._attempt, pieces) if prefetch else map(self._attempt, pieces)
        for piece, result in zip(pieces, results, strict=True):
            yield from self._finish(piece, result)

    def _attempt(self, days: list[Day]) -> Made | DataError:
        try:
            return self._make(days[0].start, days[-1].end)
        except DataError as error:
            return error.with_traceback(None)  # whose frames hold the rows

    def _finish(
        self, days: list[Day], result: Made | DataError
    ) -> Iterator[dg.AssetMaterialization]:
        if not isinstance(result, DataError):
            try:
                told = self._store(result, days)
            except DataError as error:
                result = error.with_traceback(None)
            else:
                self._stored += len(days)
                for day, metadata in zip(days, told, strict=True):
                    yield self._event(day.key, metadata)
                return
        if len(days) == 1 or self._is_the_source_s(result):
            reason = {"expected": result.expected, "found": result.found, "remedy": result.remedy}
            self.failed |= {day.key: {"by": self._asset, **reason} for day in days}
            return
        middle = len(days) // 2
        for half in (days[:middle], days[middle:]):
            yield from self._finish(half, self._attempt(half))

    def _is_the_source_s(self, error: DataError) -> bool:
        """Whether the first days all failed with these very words, which so are of no day.

        A download with another digest, say, is not tried once for each of a thousand days.
        """
        alike = [reason["found"] == error.found for reason in self.failed.values()]
        return not self._stored and len(alike) >= _ALIKE and all(alike)


def _failure(asset: dg.AssetKey, days: Days, refused: Mapping[str, Reason]) -> dg.Failure:
    """What is told of days that could not be made."""
    name = asset.to_user_string()
    missing = sorted({day.key for day in days} & refused.keys())
    lines = [
        f"{name}, partition {days[0].key} to {days[-1].key}: {len(missing)} of {len(days)} days "
        f"could not be made: {_listed(missing)}"
    ]
    alike: dict[tuple[str, ...], list[str]] = {}
    for day in missing:
        alike.setdefault(tuple(refused[day].values()), []).append(day)
    for same in alike.values():
        reason = refused[same[0]]
        lines.append(f"{reason['by']}, partition {_listed(same)}: {_told(reason)}")
    shown = lines[: 1 + _SHOWN]
    if more := len(lines) - len(shown):
        shown.append(f"and {more} more reasons, which are in the metadata")
    first = {name: refused[missing[0]][name] for name in ("expected", "found", "remedy")}
    return dg.Failure(
        "\n".join(shown),
        metadata={
            **(first if len(alike) == 1 else {}),
            "days": dg.MetadataValue.json({day: refused[day] for day in missing}),
        },
        allow_retries=False,
    )


def _told(reason: Reason) -> str:
    return "expected {expected}; found {found}; remedy: {remedy}".format(**reason)


def _listed(days: Sequence[str]) -> str:
    more = f" and {len(days) - _SHOWN} more" if len(days) > _SHOWN else ""
    return ", ".join(days[:_SHOWN]) + more
