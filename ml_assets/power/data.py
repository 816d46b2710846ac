"""From the lines of a meter to readings: typed, ordered, de-duplicated, gaps marked.

Where the lines come from is the injected source's business. A line that is left out, or that is
kept although something is odd about it, is quarantined with its reason; none is lost silently.

Source: Hebrail and Berard (2006), "Individual household electric power consumption", UCI Machine
Learning Repository, DOI 10.24432/C58K54.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import numpy as np

from ml_assets.ml.days import calendar_days, local_days, midnight, require_days, utc_times
from ml_assets.ml.errors import DataError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

HEADER = (
    "Date;Time;Global_active_power;Global_reactive_power;Voltage;Global_intensity;"
    "Sub_metering_1;Sub_metering_2;Sub_metering_3"
)
FILE_NAME = "household_power_consumption.txt"
ARCHIVE_NAME = "individual+household+electric+power+consumption.zip"
URL = f"https://archive.ics.uci.edu/static/public/235/{ARCHIVE_NAME}"
SHA256 = "4259c9d7ece5dbee9ab8d53682baac68d791c864f0f64a52b4043cb3b90894b7"
FIRST_DAY, LAST_DAY = "2006-12-17", "2010-11-25"
"""The first and the last whole day of UCI's file, whose digest is that of the text."""

SAMPLE_NAME = "household_power.zip"
SAMPLE_SHA256 = "41d93407132bcab3c09ab76c5305ddc13fa8d2affe42f02fad1e2300f38f6ee1"
SAMPLE_FIRST_DAY, SAMPLE_LAST_DAY, SAMPLE_WEEKS = "2008-01-07", "2008-07-06", 26
RECORDS = {"sample": (SAMPLE_FIRST_DAY, SAMPLE_WEEKS), "uci": ("2006-12-18", 205)}
"""What can be replayed: the first Monday, and the number of whole weeks."""

COLUMNS = {
    "active_power_kw": (0.0, 30.0),
    "reactive_power_kvar": (0.0, 10.0),
    "voltage_v": (100.0, 300.0),
    "current_a": (0.0, 150.0),
    "sub_metering_1_wh": (0.0, 500.0),
    "sub_metering_2_wh": (0.0, 500.0),
    "sub_metering_3_wh": (0.0, 500.0),
}
"""The measured columns, in the order of the lines, and what is possible in a household."""

EXCLUDED = ("truncated", "wrong_type", "nonexistent_time", "impossible_value", "duplicate")
KEPT = ("daylight_saving_repeat", "out_of_order")
"""The reasons for which a line is quarantined: left out of the readings, or kept in them.

`wrong_type` is also what has too many fields or the date of another day; `out_of_order` is what
goes back in time from the line before it.
"""

_FIELDS = 2 + len(COLUMNS)


def arrived(
    lines: "pa.Table", start: datetime, end: datetime, timezone: str, source: str
) -> "pa.Table":
    """The lines of some days as the lakehouse keeps them.

    Args:
        lines: `day` date32, `line` int64 and `text`, as a source gives them.
        start: Midnight at which the first day begins, with a time zone.
        end: Midnight at which the last day ends.
        timezone: IANA name of the time zone of the days.
        source: Where the lines come from.

    Returns:
        `partition_time_utc` (the midnight at which the line's day begins), `line`, `text` and
        `source`.

    Raises:
        DataError: A day has no lines.
    """
    import polars as pl

    days = pl.DataFrame(
        [(day, midnight(day, timezone)) for day in calendar_days(start, end, timezone)],
        schema={"day": pl.Date, "partition_time_utc": pl.Datetime("us", "UTC")},
        orient="row",
    )
    found = pl.DataFrame(lines)
    require_days(
        days["day"].to_list(),
        set(found["day"].unique()),
        source,
        "see that these days have arrived, and leave out those that never will",
    )
    return (
        found.join(days, on="day", maintain_order="left")
        .select("partition_time_utc", "line", "text", source=pl.lit(source))
        .to_arrow()
    )


def require_minutes(readings: "pa.Table", start: datetime, end: datetime) -> None:
    """Raise `DataError` unless there is a row for every minute from `start` to before `end`."""
    import pyarrow.compute as pc

    times, first, last = readings["event_time_utc"], start.astimezone(UTC), end.astimezone(UTC)
    inside = pc.and_(pc.greater_equal(times, first), pc.less(times, last))
    found = pc.sum(inside).as_py() or 0
    expected = int((last - first).total_seconds()) // 60
    if found != expected:
        raise DataError(
            f"{expected} minutes from {start} to {end} in the table power.readings",
            f"{found} minutes",
            "materialize raw_readings and readings of these days first",
        )


@dataclass(frozen=True)
class Cleaned:
    """What became of the lines of some days.

    Attributes:
        readings: One row a minute of the days: `event_time_utc`, the measured columns (float64,
            null where nothing was measured) and `is_gap` (there is no active power).
        quarantine: The odd lines: `partition_time_utc`, `line`, `text`, `reason`, `excluded`.
        by_day: Number of lines, of missing minutes, and of lines by reason, of each day.
    """

    readings: "pa.Table"
    quarantine: "pa.Table"
    by_day: dict[date, dict[str, int]]

    @property
    def counts(self) -> dict[str, int]:
        """The same of all days together."""
        first, *others = self.by_day.values()
        return {name: first[name] + sum(day[name] for day in others) for name in first}


def clean(
    raw: "pa.Table", start: datetime, end: datetime, timezone: str, max_excluded_share: float
) -> Cleaned:
    """Type, order and de-duplicate the lines of some days, and mark the gaps.

    The wall-clock hour that occurs twice when summer time ends is told apart by the order of
    the lines: its second pass is kept as standard time, and quarantined for the record.

    Args:
        raw: `partition_time_utc` (the midnight at which the line's day begins), `line` int64 and
            `text` (`d/m/yyyy;hh:mm:ss;` and the measured columns, `?` or nothing for missing).
        start: Midnight at which the first day begins, with a time zone.
        end: Midnight at which the last day ends.
        timezone: IANA name of the time zone of the meter's clock.
        max_excluded_share: Largest share of a day's lines that may be left out.

    Raises:
        DataError: A day has no lines, or more than that share of them had to be left out.
    """
    import polars as pl

    arrived = pl.DataFrame(raw).with_columns(
        day=pl.Series(local_days(raw["partition_time_utc"], timezone), dtype=pl.Date)
    )
    require_days(
        calendar_days(start, end, timezone),
        set(arrived["day"].unique()),
        "the table power.raw_readings",
        "materialize raw_readings for these days",
    )
    lines = _judged(_parsed(arrived, timezone))
    excluded = pl.col("reason").is_in(EXCLUDED)
    _require_share(lines, excluded, timezone, max_excluded_share)
    odd = lines.filter(pl.col("reason").is_not_null())
    quarantine = odd.select("partition_time_utc", "line", "text", "reason", excluded=excluded)
    readings = _on_every_minute(lines.filter(~excluded.fill_null(False)), start, end)
    return Cleaned(
        readings.to_arrow(), quarantine.to_arrow(), _by_day(lines, readings, start, end, timezone)
    )


def _by_day(
    lines: "pl.DataFrame",
    readings: "pl.DataFrame",
    start: datetime,
    end: datetime,
    timezone: str,
) -> dict[date, dict[str, int]]:
    """What is counted of each day."""
    import polars as pl

    times = readings.filter("is_gap")["event_time_utc"]
    gaps = pl.DataFrame({"day": pl.Series(local_days(times.to_numpy(), timezone), dtype=pl.Date)})
    arrived, missing = (dict(rows["day"].value_counts().iter_rows()) for rows in (lines, gaps))
    odd = {
        (day, reason): count
        for day, reason, count in lines.group_by("day", "reason").len().iter_rows()
    }
    return {
        day: {
            "lines": arrived.get(day, 0),
            "missing_minutes": missing.get(day, 0),
            **{reason: odd.get((day, reason), 0) for reason in (*EXCLUDED, *KEPT)},
        }
        for day in calendar_days(start, end, timezone)
    }


def _parsed(lines: "pl.DataFrame", timezone: str) -> "pl.DataFrame":
    """The lines with their fields: null where a field is missing or cannot be read."""
    import polars as pl

    texts = [f"text_{number}" for number in range(_FIELDS)]
    # Split once: an expression that occurs ten times is computed ten times.
    split = (
        lines.sort("partition_time_utc", "line")
        .with_columns(parts=pl.col("text").str.split(";"))
        .with_columns(
            pl.col("parts").list.len().alias("fields"),
            *(
                pl.col("parts").list.get(number, null_on_oob=True).str.strip_chars().alias(text)
                for number, text in enumerate(texts)
            ),
        )
    )
    wall = pl.concat_str(*texts[:2], separator=" ").str.to_datetime(
        "%d/%m/%Y %H:%M:%S%.f", time_unit="us", strict=False
    )
    unreadable = [
        pl.col(name).is_finite().not_()
        | (pl.col(name).is_null() & pl.col(text).is_in(["", "?"]).not_())
        for name, text in zip(COLUMNS, texts[2:], strict=True)
    ]
    return (
        split.with_columns(
            *(
                pl.col(text).cast(pl.Float64, strict=False).alias(name)
                for name, text in zip(COLUMNS, texts[2:], strict=True)
            ),
            wall=wall.dt.truncate("1m"),
            again=pl.struct("partition_time_utc", "text").is_first_distinct().not_(),
        )
        .with_columns(
            unreadable=pl.any_horizontal(*unreadable).fill_null(False),
            # The first time that the clock shows a minute of the day, and any later time.
            later=(pl.col("wall").cum_count().over("day", "wall", "again") > 1),
        )
        .drop("parts", *texts)
        .pipe(_timed, timezone)
    )


def _timed(lines: "pl.DataFrame", timezone: str) -> "pl.DataFrame":
    """The lines with their times in UTC: null where the clock shows no such time on their day.

    Where it is put back over midnight, the day that had begun goes on, and what the clock shows of
    the day before is no time of that day.
    """
    import polars as pl

    wall = lines.select(pl.when(pl.col("wall").dt.date() == pl.col("day")).then("wall")).to_series()
    first, last = utc_times(wall.to_numpy(), timezone)
    time = np.where(lines["later"].to_numpy(), last, first)
    time[local_days(time, timezone) != lines["day"].to_numpy()] = np.datetime64("NaT")
    return lines.with_columns(
        pl.Series(name, values, pl.Datetime("us")).dt.replace_time_zone("UTC")
        for name, values in (("first_pass", first), ("event_time_utc", time))
    )


def _judged(lines: "pl.DataFrame") -> "pl.DataFrame":
    """The lines with the reason why they are quarantined, null if they are not."""
    import polars as pl

    impossible = pl.any_horizontal(
        *(pl.col(name).is_between(low, high).not_() for name, (low, high) in COLUMNS.items())
    ).fill_null(False)
    faults = lines.with_columns(
        reason=pl.when(pl.col("fields") < _FIELDS)
        .then(pl.lit("truncated"))
        .when(
            (pl.col("fields") > _FIELDS)
            | pl.col("unreadable")
            | pl.col("wall").is_null()
            | (pl.col("wall").dt.date() != pl.col("day"))
        )
        .then(pl.lit("wrong_type"))
        .when(pl.col("event_time_utc").is_null())
        .then(pl.lit("nonexistent_time"))
        .when(impossible)
        .then(pl.lit("impossible_value"))
    )
    sound = pl.col("reason").is_null()
    time = pl.col("event_time_utc")
    return faults.with_columns(
        reason=pl.when(sound.not_())
        .then("reason")
        .when(time.is_first_distinct().over(sound).not_())
        .then(pl.lit("duplicate"))
        .when(time != pl.col("first_pass"))
        .then(pl.lit("daylight_saving_repeat"))
        .when(time < time.shift().over(sound, "day"))
        .then(pl.lit("out_of_order"))
    )


def _require_share(
    lines: "pl.DataFrame", excluded: "pl.Expr", timezone: str, max_excluded_share: float
) -> None:
    import polars as pl

    # How many lines a change of the clock makes impossible tells nothing of the day.
    counted = excluded & (pl.col("reason") != "nonexistent_time")
    days = lines.group_by("day", maintain_order=True).agg(share=counted.fill_null(False).mean())
    bad = days.sort("day").filter(days.sort("day")["share"] > max_excluded_share)
    if len(bad):
        shares = ", ".join(f"{day} {share:.1%}" for day, share in bad.head(5).iter_rows())
        reasons = lines.filter(excluded)["reason"].value_counts(sort=True).iter_rows()
        raise DataError(
            f"at most {max_excluded_share:.1%} of a day's lines left out",
            f"{len(bad)} of {len(days)} days with more: {shares}; lines left out in all: "
            f"{', '.join(f'{count} {reason}' for reason, count in reasons)}",
            "look at their lines in the table power.raw_readings; mend the source and launch the "
            "job again (a re-execution from the failure finds the same lines), or raise "
            f"max_excluded_share (the meter's clock is taken to be {timezone})",
        )


def _on_every_minute(lines: "pl.DataFrame", start: datetime, end: datetime) -> "pl.DataFrame":
    """The lines on the grid of all minutes of the window, gaps marked."""
    import polars as pl

    utc = pl.Datetime("us", "UTC")
    window = start.astimezone(UTC), end.astimezone(UTC)
    minutes = pl.datetime_range(*window, "1m", closed="left", eager=True, time_unit="us")
    grid = pl.DataFrame({"event_time_utc": minutes.cast(utc)})
    measured = lines.select("event_time_utc", *COLUMNS)
    return grid.join(measured, on="event_time_utc", how="left", maintain_order="left").with_columns(
        is_gap=pl.col("active_power_kw").is_null()
    )
