"""Times as feeds write them, as nanoseconds since 1970 in UTC.

Loaded when a step runs.
"""

import re
from collections.abc import Callable
from typing import Literal, cast

import polars as pl

from ml_assets.ml.days import utc_times
from ml_assets.ml.errors import DataError

DAY_NS = 86_400 * 10**9
LAST_NS = 2**63 - 1
_STEP_BACK_NS = 60 * 10**9

# Epochs are told apart by their size. Up to year 9999, which feeds write for "never", each unit is
# taken to be itself, so that the next finer one begins in 1978; what is too far away is null.
_YEAR_10000 = 253_402_300_800
_UNITS = ((_YEAR_10000, 10**9), (_YEAR_10000 * 10**3, 10**6), (_YEAR_10000 * 10**6, 10**3))
_ODD_TIMES = r"^\s*(?:[^12\s]|1[^9]|2[^01])|:60"
_LAST_US = LAST_NS // 1000 - 1
_CLOCK = re.compile(r"\s*\d\d?:\d\d")
_SINCE_MIDNIGHT = re.compile(r"\s*\d{1,8}(\.\d*)?\s*")
_EPOCH = r"^\s*(\d{1,19})(?:\.(\d*))?\s*$"
_ISO = (
    r"^\s*(\d{4})[-/.]?(\d\d)[-/.]?(\d\d)"
    r"(?:[Tt ]\s*(\d\d)(?::?(\d\d)(?::?(\d\d)(?:[.,](\d+))?)?)?)?"
    r"\s*(Z|z|UTC|[+-]\d\d(?::?\d\d)?)?\s*$"
)


Unit = Literal["us", "ns"]


def utc(times: pl.Series, zone: str, before: int | None) -> pl.Series:
    """Times as Int64 nanoseconds, null where they cannot be read.

    Args:
        times: Timestamps with or without a time zone, dates, epochs in seconds, milliseconds,
            microseconds or nanoseconds, or any of these as text.
        zone: The time zone of those that do not say theirs. An hour that a clock shows twice is
            the second one from where times step back.
        before: The last time read before these, in the order of arrival.
    """
    kind = times.dtype
    if isinstance(kind, pl.Datetime):
        return _stamps(times, zone, before)
    if kind == pl.Date:
        return _stamps(times.cast(pl.Datetime("us")), zone, before)
    if kind.is_integer():
        return _epochs(times.cast(pl.Int64, strict=False), None)
    if kind.is_numeric():
        times = times.cast(pl.Float64)
        whole = times.floor()
        return _epochs(whole.cast(pl.Int64, strict=False), times - whole)
    return _texts(times.cast(pl.String, strict=False), zone, before)


def of_days(dates: pl.Series, times: pl.Series) -> pl.Series:
    """Dates and times of the day as one text; times with a date of their own as they are.

    Raises:
        DataError: The times are numbers since midnight, of whatever unit.
    """
    first = str(next(iter(times.drop_nulls().head(1)), ""))
    if times.dtype == pl.Time or _CLOCK.match(first):
        days, clocks = (series.cast(pl.String, strict=False) for series in (dates, times))
        return days.str.strip_chars() + " " + clocks.str.strip_chars()
    if _SINCE_MIDNIGHT.fullmatch(first):
        raise DataError(
            "beside the dates times of the day such as 08:00:00, or times since 1970",
            first,
            "write the times of the day with colons",
        )
    return times


def _stamps(times: pl.Series, zone: str, before: int | None) -> pl.Series:
    """Timestamps of Parquet or Iceberg; those too far away for nanoseconds are null."""
    kind = cast("pl.Datetime", times.dtype)
    factor = {"ms": 10**6, "us": 10**3, "ns": 1}[kind.time_unit]
    counts = times.dt.epoch(kind.time_unit)
    if factor > 1:
        near = counts.is_between(1 - LAST_NS // factor, LAST_NS // factor - 1)
        counts = counts.zip_with(near.fill_null(value=False), _nothing(counts)) * factor
    return counts if kind.time_zone else _local(counts.cast(pl.Datetime("ns")), zone, before)


def _epochs(whole: pl.Series, fraction: pl.Series | None) -> pl.Series:
    """Epochs of whatever unit; the fraction is one of that unit."""
    frame = pl.DataFrame({"whole": whole, "fraction": fraction if fraction is not None else 0.0})
    count, rest = pl.col("whole"), pl.col("fraction")
    found: pl.Expr = count
    for limit, factor in reversed(_UNITS):
        exact = count * factor + (rest * factor).round().cast(pl.Int64)
        near = pl.when(count <= LAST_NS // factor - 1).then(exact)
        found = pl.when(count < limit).then(near).otherwise(found)
    return frame.select(pl.when(count >= 0).then(found)).to_series()


def _texts(texts: pl.Series, zone: str, before: int | None) -> pl.Series:
    """The way of writing that fits the first text is tried on all; the rest one way each."""
    ways: list[Callable[[pl.Series], pl.Series]] = [
        lambda found: _epochs(found.cast(pl.Int64, strict=False), None),
        _zoned,
        _decimals,
        lambda found: _local(_naive(found), zone, before),
        lambda found: _general(found, zone, before),
    ]
    found = pl.Series(dtype=pl.Int64).extend_constant(None, len(texts))
    for way in ways:
        left = found.is_null() & texts.is_not_null()
        if not left.any():
            break
            # Most feeds write all times alike: a look at some saves a pass over all.
        if way(texts.filter(left).head(1000)).is_null().all() and way is not ways[-1]:
            continue
        found = found.zip_with(~left, way(texts) if left.all() else _scattered(way, texts, left))
    return found


def _scattered(
    way: Callable[[pl.Series], pl.Series], texts: pl.Series, left: pl.Series
) -> pl.Series:
    """What a way makes of the texts that are left, each in its place."""
    return way(pl.select(pl.when(left).then(texts)).to_series())


def _zoned(texts: pl.Series) -> pl.Series:
    """RFC 3339 with a time zone."""

    def read(unit: Unit) -> pl.Series:
        found = texts.str.to_datetime("%+", time_unit=unit, time_zone="UTC", strict=False)
        return found.dt.replace_time_zone(None)

    return _near(texts, read).dt.epoch("ns")


def _naive(texts: pl.Series) -> pl.Series:
    """ISO 8601 without a time zone."""
    plain = texts.str.replace("T", " ", literal=True)
    return _near(plain, lambda unit: _walls(plain, unit))


def _walls(plain: pl.Series, unit: Unit) -> pl.Series:
    return plain.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit=unit, strict=False)


def _near(texts: pl.Series, read: Callable[[Unit], pl.Series]) -> pl.Series:
    """Times in nanoseconds; null where these cannot say them, and at second 60.

    What is too far away would wrap around into some other year, and 23:59:60 is read as the next
    day. Most texts are plainly neither, and are read once.
    """
    found = read("ns")
    if not texts.str.contains(_ODD_TIMES).any():
        return found
    leap = texts.str.contains(":60", literal=True)
    near = read("us").dt.epoch("us").is_between(-_LAST_US, _LAST_US) & ~leap
    return found.zip_with(near.fill_null(value=False), _nothing(found))


def _decimals(texts: pl.Series) -> pl.Series:
    """Epochs with a fraction, kept to the last of nine digits."""
    parts = texts.str.extract_groups(_EPOCH).struct.unnest()
    whole, digits = parts["1"].cast(pl.Int64, strict=False), parts["2"].fill_null("")
    unit = _epochs(whole, None)
    nanos = digits.str.slice(0, 9).str.pad_end(9, "0").cast(pl.Int64, strict=False)
    frame = pl.DataFrame({"whole": whole, "unit": unit, "nanos": nanos})
    # Rounded to the nanosecond below; a unit is never more than a second.
    scale = pl.col("unit") // pl.col("whole").replace(0, None)
    return frame.select(
        pl.col("unit") + (pl.col("nanos") * scale.fill_null(10**9)) // 10**9
    ).to_series()


def _general(texts: pl.Series, zone: str, before: int | None) -> pl.Series:
    """All that is left: compact dates, minutes, commas, offsets of hours."""
    parts = texts.str.extract_groups(_ISO).struct.rename_fields(list("YmdHMSfz")).struct.unnest()
    clock = parts.select(
        pl.format(
            "{}-{}-{} {}:{}:{}.{}",
            *("Y", "m", "d"),
            *(pl.col(name).fill_null("00") for name in "HMS"),
            pl.col("f").fill_null("0").str.slice(0, 9),
        )
    ).to_series()
    clock = pl.select(pl.when(parts["S"].fill_null("") != "60").then(clock)).to_series()
    offset = parts["z"].str.replace("(?i)^(z|utc)$", "+00").str.replace(":", "", literal=True)
    signed = offset.str.pad_end(5, "0").cast(pl.Int64, strict=False)
    minutes = signed.sign() * (signed.abs() // 100 * 60 + signed.abs() % 100)
    wall = _walls(clock, "ns")
    micros = _walls(clock, "us").dt.epoch("us")
    # Past the ends of nanoseconds both wrap around; what is near once the offset is off is right.
    stated = wall.dt.epoch("ns") - minutes * 60 * 10**9
    near = (micros - minutes * 60 * 10**6).is_between(-_LAST_US, _LAST_US)
    stated = stated.zip_with(near.fill_null(value=False), _nothing(stated))
    local = (micros.is_between(-_LAST_US, _LAST_US) & offset.is_null()).fill_null(value=False)
    return stated.zip_with(
        offset.is_not_null(), _local(wall.zip_with(local, _nothing(wall)), zone, before)
    )


def _nothing(like: pl.Series) -> pl.Series:
    return like.clear().extend_constant(None, len(like))


def _local(wall: pl.Series, zone: str, before: int | None) -> pl.Series:
    """Times that a clock of the zone shows, in UTC; null where it never shows them."""
    if zone == "UTC":
        return wall.dt.epoch("ns")
    inside = wall.dt.epoch("ns").is_between(2 * DAY_NS - LAST_NS, LAST_NS - 2 * DAY_NS)
    if not inside.all():
        wall = wall.zip_with(inside.fill_null(value=False), _nothing(wall))
    first, second = (pl.Series(times).dt.epoch("ns") for times in utc_times(wall.to_numpy(), zone))
    twice = first != second
    if not twice.any():
        return first
    return first.zip_with(~_again(first, twice, before), second)


def _again(first: pl.Series, twice: pl.Series, before: int | None) -> pl.Series:
    """Which of the times shown twice are the second: those after a step back."""
    frame = pl.DataFrame({"first": first, "twice": twice.fill_null(value=False)})
    latest = pl.max_horizontal(pl.col("first").cum_max().forward_fill(), pl.lit(before))
    back = pl.col("twice") & (pl.col("first") < latest - _STEP_BACK_NS)
    month = pl.col("first") // (30 * DAY_NS)
    return frame.select(pl.col("twice") & back.cum_max().over(month)).to_series()
