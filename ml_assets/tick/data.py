"""From the ticks of a source to clean ticks: ordered, without duplicates, without bad prints.

Where ticks come from is the injected source's business. A row that is left out, or that is kept
although something is odd about it, is quarantined with its reason; exact duplicates are counted.
How fine the feed's clock is aside, no later tick plays a part in judging an earlier one: what a bar
holds was known at its end.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

from ml_assets.ml.days import calendar_days, midnight, nanoseconds
from ml_assets.ml.errors import DataError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

URL = "https://data.binance.vision/data/spot/daily/trades/{symbol}/{symbol}-trades-{date}.zip"
URL_COLUMNS = "trade_id,price,qty,quote_qty,time,is_buyer_maker,is_best_match"
"""An exchange's public archive, and the columns of its files, which have no header."""
SAMPLE_NAME = "ticks.parquet"
SAMPLE_SHA256 = "aec36a3181f64998e75efe60f0ba2c37f9cc5dade7e1a198badb803c7d76f6ae"
SAMPLE_FIRST_DAY, SAMPLE_LAST_DAY, SAMPLE_WEEKS = "2013-10-07", "2013-10-11", 1

EXCLUDED = (
    "unreadable",
    "one_sided_quote",
    "no_price",
    "no_size",
    "non_positive_price",
    "non_positive_size",
    "crossed_quote",
    "suspicious",
    "outlier",
)
KEPT = ("out_of_order",)
"""The reasons for which a row is quarantined: left out of the ticks, or kept in them."""

NEAR, FAR = 5, 25
OUTLIER_JUMP = 0.005
OUTLIER_DEVIATIONS = 10.0
OUTLIER_STEPS = 3.0
"""What makes a price an outlier; `_outliers` tells the rule.

In five days of SPY's and BAC's trades of October 2013 they quarantine 56 of 1,887,460 and 24 of
573,620: trades reported late or at an average price, up to 2 % beside the market. In thirteen days
of XAUUSD's quotes of May 2014 it is 2 of 2,022,969: the first two after the payrolls of 2 May.
"""

IdenticalTrades = Literal["auto", "keep", "remove"]

_VALUES = ("price", "size", "bid", "ask")
_COLUMNS = ("event_time_ns", *_VALUES, "side", "suspicious", "row", "text")
_COARSE_NS = 10**6


def in_order(times: np.ndarray, numbers: np.ndarray) -> bool:
    """Whether times ascend, and with equal times the numbers of the rows."""
    ahead = times[1:] > times[:-1]
    return bool((ahead | ((times[1:] == times[:-1]) & (numbers[1:] >= numbers[:-1]))).all())


def arrived(
    ticks: "pa.Table", start: datetime, end: datetime, timezone: str, source: str
) -> "pa.Table":
    """The ticks of some days as the lakehouse keeps them.

    Args:
        ticks: As a source gives them, in the order in which they arrived.
        start: Midnight at which the first day begins, with a time zone.
        end: Midnight at which the last day ends.
        timezone: IANA name of the time zone of the days.
        source: Where the ticks come from.

    Returns:
        The same columns, and `partition_time_utc` (the midnight at which the tick's day begins;
        a tick without a readable time belongs where the one before it does), `arrival` int64
        (its number among those of the day, from 1) and `source`.

    Raises:
        DataError: A tick is not of these days.
    """
    import polars as pl
    import pyarrow as pa

    stamps = pl.Series(ticks["event_time_ns"])
    place = stamps.fill_null(strategy="forward").fill_null(strategy="backward")
    times = place.fill_null(nanoseconds(start)).to_numpy()
    outside = (times < nanoseconds(start)) | (times >= nanoseconds(end))
    if outside.any():
        shown = np.datetime64(int(times[outside][0]), "ns")
        raise DataError(
            f"ticks from {start.isoformat()} to before {end.isoformat()} from {source}",
            f"{outside.sum()} others, the first of {shown} UTC",
            "correct the source: it gave ticks that it was not asked for",
        )
    days = [midnight(day, timezone) for day in calendar_days(start, end, timezone)]
    edges = np.array([nanoseconds(day) for day in days])
    number = np.searchsorted(edges, times, "right") - 1
    arrival = np.empty(len(times), np.int64)
    for day in range(len(days)):
        inside = np.flatnonzero(number == day)
        arrival[inside] = np.arange(1, len(inside) + 1)
    begins = edges.astype("datetime64[ns]").astype("datetime64[us]")[number]
    named = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(times), np.int8)), [source])
    return (
        ticks.append_column("partition_time_utc", pa.array(begins, pa.timestamp("us", "UTC")))
        .append_column("source", named)
        .append_column("arrival", pa.array(arrival))
    )


@dataclass(frozen=True)
class Cleaned:
    """What became of the ticks of some days.

    Attributes:
        ticks: In the order of time, those of one nanosecond in that of their rows:
            `event_time_utc` (in microseconds), `event_time_ns`, `price`, `size`, `bid`, `ask`,
            `side`, `row`.
        quarantine: The odd rows: `partition_time_utc`, `arrival`, the columns of the source,
            `reason` and `excluded`.
        counts: Number of rows, of ticks, of exact duplicates, of rows by reason, and of trades
            kept though another of the same nanosecond is identical (`identical_trades`).
    """

    ticks: "pa.Table"
    quarantine: "pa.Table"
    counts: dict[str, int]


def clean(
    raw: "pa.Table",
    start: datetime,
    end: datetime,
    *,
    identical_trades: IdenticalTrades = "auto",
    outlier_jump: float = OUTLIER_JUMP,
    max_excluded_share: float = 1.0,
) -> Cleaned:
    """Order and de-duplicate the ticks of some days, and leave out the bad prints.

    A row is an exact duplicate if all its values have been there before. Quotes are easily told:
    the second says nothing new. Identical trades may be two: of SPY's trades in October 2013,
    stamped in milliseconds, more than every sixth is like one before it in every column of the
    feed. So identical trades that come one upon another are kept by "auto" if the feed's clock
    shows milliseconds or less (all times of the day are whole milliseconds), and removed if it is
    finer. Those that come again later, after the feed has stepped back in time or begun to count
    its rows anew, were sent twice, and are removed in any case: as many as were there before.

    Args:
        raw: What `arrived` gives, in any order.
        start: Midnight at which the first day begins, with a time zone.
        end: Midnight at which the last day ends.
        identical_trades: What to do with identical trades that come one upon another.
        outlier_jump: The least distance in log price from which on a price may be an outlier.
        max_excluded_share: Largest share of a day's rows that may be left out, duplicates aside.

    Raises:
        DataError: A row is not of these days, or more than that share had to be left out.
    """
    import polars as pl

    rows = pl.DataFrame(raw.select(["partition_time_utc", "arrival", *_COLUMNS]))
    window = start.astimezone(UTC), end.astimezone(UTC)
    inside = rows["partition_time_utc"].is_between(*window, closed="left")
    if not inside.all():
        raise DataError(
            f"raw ticks of the days from {start.isoformat()} to before {end.isoformat()}",
            f"{(~inside).sum()} of other days",
            "read the table tick.raw_ticks by the same window",
        )
    midnights = rows["partition_time_utc"].to_physical().to_numpy()
    if not in_order(midnights, rows["arrival"].to_numpy()):
        rows = rows.sort("partition_time_utc", "arrival")
        midnights = rows["partition_time_utc"].to_physical().to_numpy()
    edges = [0, *(np.flatnonzero(np.diff(midnights)) + 1).tolist(), len(rows)]
    days = [
        _day(rows[first:after], identical_trades, outlier_jump) for first, after in pairwise(edges)
    ]
    _require_share(days, max_excluded_share)
    counts = {name: sum(day.counts[name] for day in days) for name in days[0].counts}
    return Cleaned(
        pl.concat([day.ticks for day in days]).to_arrow(),
        pl.concat([day.quarantine for day in days]).to_arrow(),
        counts,
    )


@dataclass(frozen=True)
class _Day:
    """What became of a day's rows, as in `Cleaned`."""

    ticks: "pl.DataFrame"
    quarantine: "pl.DataFrame"
    counts: dict[str, int]


def _day(rows: "pl.DataFrame", identical_trades: IdenticalTrades, outlier_jump: float) -> _Day:
    """One day's rows, in the order of arrival."""
    import polars as pl

    rows = rows.with_columns(pl.col("side").cast(pl.Int8), pl.col("suspicious").cast(pl.Boolean))
    wrong = rows.select(pl.any_horizontal(*_faults().values()).fill_null(value=False)).to_series()
    sound = rows.filter(~wrong) if wrong.any() else rows
    copies = _copies(sound, identical_trades)
    kept = sound.filter(~copies.sent_again) if copies.sent_again.any() else sound
    late = pl.repeat(value=False, n=len(kept), eager=True)
    if not in_order(kept["event_time_ns"].to_numpy(), kept["row"].to_numpy()):
        kept = kept.with_columns(late=pl.col("event_time_ns") < pl.col("event_time_ns").cum_max())
        kept = kept.sort("event_time_ns", "row", maintain_order=True)
        late = kept.drop_in_place("late")
    bad = pl.Series(_outliers(kept["price"].to_numpy(), outlier_jump))
    odd = pl.concat(
        [
            rows.filter(wrong).with_columns(reason=_first_fault()),
            kept.filter(late & ~bad).with_columns(reason=pl.lit("out_of_order")),
            kept.filter(bad).with_columns(reason=pl.lit("outlier")),
        ]
    ).sort("arrival")
    quarantine = odd.select(
        *("partition_time_utc", "arrival", *_COLUMNS, "reason"),
        excluded=pl.col("reason").is_in(EXCLUDED),
    )
    ticks = kept.select("event_time_ns", *_VALUES, "side", "row")
    ticks = (ticks.filter(~bad) if bad.any() else ticks).select(
        (pl.col("event_time_ns") // 1000).cast(pl.Datetime("us", "UTC")).alias("event_time_utc"),
        pl.all(),
    )
    found = dict(odd["reason"].value_counts().iter_rows())
    return _Day(
        ticks,
        quarantine,
        {
            "raw_rows": len(rows),
            "ticks": len(ticks),
            "duplicate": int(copies.sent_again.sum()),
            "identical_trades": copies.kept,
            **{reason: found.get(reason, 0) for reason in (*EXCLUDED, *KEPT)},
        },
    )


@cache
def _faults() -> "dict[str, pl.Expr]":
    """What makes a row, looked at by itself, a bad print, by the reason; the first counts."""
    import polars as pl

    price, size, bid, ask = map(pl.col, _VALUES)
    infinite = pl.any_horizontal(pl.col(name).is_finite().not_() for name in _VALUES)
    quote = bid.is_not_null() | ask.is_not_null()
    one_sided = quote & (bid.fill_null(0) * ask.fill_null(0) == 0)
    unreadable = pl.col("text").is_not_null() | pl.col("event_time_ns").is_null()
    return {
        "unreadable": unreadable | infinite.fill_null(value=False),
        "one_sided_quote": one_sided,
        "no_price": price.is_null(),
        "no_size": ~quote & size.is_null(),
        "non_positive_price": (price <= 0) | (bid < 0) | (ask < 0),
        "non_positive_size": size <= 0,
        "crossed_quote": bid > ask,
        "suspicious": pl.col("suspicious"),
    }


@cache
def _first_fault() -> "pl.Expr":
    """The reason of the first fault that a row has."""
    import polars as pl

    return pl.coalesce(pl.when(fault).then(pl.lit(reason)) for reason, fault in _faults().items())


@dataclass(frozen=True)
class _Copies:
    """Which rows are exact duplicates, and how many identical trades are not taken for that."""

    sent_again: "pl.Series"
    kept: int


def _copies(sound: "pl.DataFrame", identical_trades: IdenticalTrades) -> _Copies:
    import polars as pl

    times, numbers = sound["event_time_ns"].to_numpy(), sound["row"].to_numpy()
    # A delivery goes on as long as rows are counted upwards and the time does not step back.
    begins = (times[1:] < times[:-1]) | (numbers[1:] <= numbers[:-1])
    sent_again = np.zeros(len(sound), bool)
    names = ["event_time_ns", *_VALUES, "side"]
    values = [name for name in names if sound[name].null_count() < len(sound)]
    coarse = bool((times // _COARSE_NS * _COARSE_NS == times).all())
    several = identical_trades == "keep" or (identical_trades == "auto" and coarse)
    if several and "bid" not in values and "ask" not in values and not begins.any():
        # Nothing is removed, and times ascend: to count among neighbours, by hashes, will do.
        beside = np.concatenate([[False], times[1:] == times[:-1], [False]])
        alike = sound.select(values)
        alike = alike.filter(pl.Series(beside[1:] | beside[:-1])) if len(times) else alike
        different = alike.select(pl.struct(*values).hash().n_unique()).item() if values else 0
        return _Copies(pl.Series(sent_again), len(alike) - different)
    same_time = sound["event_time_ns"].is_duplicated()
    if not same_time.any():
        return _Copies(pl.Series(sent_again), 0)
    delivery = pl.Series(np.concatenate([[0], np.cumsum(begins)])[: len(times)])
    alike = sound.select(*values, trade=pl.col("bid").is_null(), delivery=delivery).filter(
        same_time
    )
    number = pl.int_range(pl.len()).over(*values, "delivery") if several else pl.lit(0)
    alike = alike.with_columns(number=pl.when("trade").then(number).otherwise(0))
    again = alike.select(~pl.struct(*values, "number").is_first_distinct()).to_series()
    sent_again[same_time.to_numpy()] = again.to_numpy()
    kept = int(((alike["number"] > 0) & ~again).sum())
    return _Copies(pl.Series(sent_again), kept)


def _outliers(prices: np.ndarray, jump: float) -> np.ndarray:
    """Which prices of a day are far from those right before them.

    A price is an outlier if its logarithm is farther away than a limit, both from the median of
    the 5 ticks before it and from that of the 25 before it. So one that the market comes back from
    is one, and a jump is believed after three ticks, which are lost. The limit is
    the largest of `jump`, 10 times the median absolute deviation of those 25, and 3 times the
    smallest step that the price has made so far that day (on a cheap stock a cent is much). The
    first five ticks of a day cannot be judged.

    Args:
        prices: `(n,)` float64, positive, in the order of time.
        jump: The least distance in log price.

    Returns:
        `(n,)` bool.
    """
    bad = np.zeros(len(prices), bool)
    if len(prices) <= NEAR:
        return bad
    logs = np.log(prices)
    # To be far from the median of five is to be far from three of them: few are.
    far = sum(
        (np.abs(logs[NEAR:] - logs[NEAR - back : -back]) > jump).astype(np.int8)
        for back in range(1, NEAR + 1)
    )
    suspects = np.flatnonzero(far >= NEAR // 2 + 1) + NEAR
    if not len(suspects):
        return bad
    steps = np.abs(np.diff(prices))
    smallest = np.minimum.accumulate(np.where(steps > 0, steps, np.inf))[suspects - 1]
    padded = np.concatenate([np.full(FAR, np.nan), logs])
    before = np.lib.stride_tricks.sliding_window_view(padded, FAR)[suspects]
    median_of = np.nanmedian if suspects[0] < FAR else np.median  # much the faster one
    median = median_of(before, axis=1)
    deviation = median_of(np.abs(before - median[:, None]), axis=1)
    found = logs[suspects]
    distance = np.minimum(
        np.abs(found - median), np.abs(found - np.median(before[:, -NEAR:], axis=1))
    )
    limit = np.maximum(jump, OUTLIER_DEVIATIONS * deviation)
    limit = np.maximum(limit, OUTLIER_STEPS * smallest / prices[suspects])
    bad[suspects] = distance > limit
    return bad


def _require_share(days: list[_Day], largest: float) -> None:
    bad = []
    for day in days:
        left_out = int(day.quarantine["excluded"].sum())
        if left_out > largest * day.counts["raw_rows"]:
            date = day.quarantine["partition_time_utc"][0]
            bad.append(f"{date:%Y-%m-%d %H:%M} UTC {left_out / day.counts['raw_rows']:.1%}")
    if bad:
        raise DataError(
            f"at most {largest:.1%} of a day's ticks left out",
            f"{len(bad)} of {len(days)} days with more, which begin at: {', '.join(bad[:5])}",
            "look at them in the table tick.raw_ticks; mend the source and launch the job again "
            "(a re-execution from the failure finds the same ticks), or raise max_excluded_share",
        )
