from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from ml_assets.ml.days import midnight, nanoseconds
from ml_assets.ml.errors import DataError
from ml_assets.tick import data

DAY = timedelta(days=1)
MONDAY = datetime(2013, 10, 7, tzinfo=UTC)
OPEN = nanoseconds(MONDAY + timedelta(hours=14))
SCHEMA = {
    "event_time_ns": pl.Int64,
    **dict.fromkeys(("price", "size", "bid", "ask"), pl.Float64),
    "side": pl.Int8,
    "suspicious": pl.Boolean,
    "row": pl.Int64,
    "text": pl.String,
}
MS = 10**6


def trade(time: int, price: float | None = 100.0, size: float | None = 1.0, **more: Any) -> dict:
    """A trade so many nanoseconds after the open."""
    return {"event_time_ns": OPEN + time, "price": price, "size": size, **more}


def quote(time: int, bid: float | None, ask: float | None, **more: Any) -> dict:
    price = None if bid is None or ask is None else (bid + ask) / 2
    return {"event_time_ns": OPEN + time, "price": price, "bid": bid, "ask": ask, **more}


def table(*rows: dict) -> pa.Table:
    """Ticks as a source gives them, their rows numbered unless they say otherwise."""
    found = [{"row": number} | row for number, row in enumerate(rows, start=1)]
    return pl.DataFrame(found, SCHEMA).to_arrow()


def clean(*rows: dict, days: int = 1, **options: Any) -> data.Cleaned:
    end = MONDAY + days * DAY
    return data.clean(
        data.arrived(table(*rows), MONDAY, end, "UTC", "test"), MONDAY, end, **options
    )


def reasons(cleaned: data.Cleaned) -> list[tuple[int, str, bool]]:
    columns = ("arrival", "reason", "excluded")
    return [tuple(row[name] for name in columns) for row in cleaned.quarantine.to_pylist()]


def kept(cleaned: data.Cleaned) -> list[int]:
    return cleaned.ticks["row"].to_pylist()


def assert_nothing_lost(cleaned: data.Cleaned, rows: int) -> None:
    left_out = sum(cleaned.quarantine["excluded"].to_pylist())
    assert len(cleaned.ticks) + left_out + cleaned.counts["duplicate"] == rows
    assert cleaned.counts["raw_rows"] == rows
    assert cleaned.counts["ticks"] == len(cleaned.ticks)


def test_a_sound_trade_is_a_tick_in_nanoseconds_and_in_microseconds() -> None:
    cleaned = clean(trade(1_234_567, 100.25, 300.0, side=1))
    assert cleaned.ticks.to_pylist() == [
        {
            "event_time_utc": MONDAY + timedelta(hours=14, microseconds=1234),
            "event_time_ns": OPEN + 1_234_567,
            "price": 100.25,
            "size": 300.0,
            "bid": None,
            "ask": None,
            "side": 1,
            "row": 1,
        }
    ]
    assert cleaned.ticks.schema.field("event_time_utc").type == pa.timestamp("us", "UTC")
    assert len(cleaned.quarantine) == 0


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (trade(1, text="2013-10-07,one hundred,1"), "unreadable"),
        ({"event_time_ns": None, "price": 100.0, "size": 1.0}, "unreadable"),
        (trade(1, float("inf")), "unreadable"),
        (trade(1, size=float("inf")), "unreadable"),
        (trade(1, None), "no_price"),
        (quote(1, None, None), "no_price"),
        (trade(1, size=None), "no_size"),
        (trade(1, 0.0), "non_positive_price"),
        (trade(1, -100.0), "non_positive_price"),
        (quote(1, -1.0, 100.0), "non_positive_price"),
        (trade(1, size=0.0), "non_positive_size"),
        (trade(1, size=-1.0), "non_positive_size"),
        (quote(1, 100.0, None), "one_sided_quote"),
        (quote(1, None, 100.0), "one_sided_quote"),
        (quote(1, 0.0, 100.0), "one_sided_quote"),
        (quote(1, 100.1, 100.0), "crossed_quote"),
        (trade(1, suspicious=True), "suspicious"),
    ],
)
def test_a_bad_print_is_left_out_with_its_reason(row: dict, reason: str) -> None:
    cleaned = clean(trade(0), row, trade(2))
    assert reasons(cleaned) == [(2, reason, True)]
    assert kept(cleaned) == [1, 3]
    assert cleaned.counts[reason] == 1
    assert_nothing_lost(cleaned, 3)
    [odd] = cleaned.quarantine.to_pylist()
    assert odd["partition_time_utc"] == MONDAY
    assert {name: odd[name] for name in row} == row


def test_what_is_unusual_but_sound_stays() -> None:
    rows = (quote(0, 100.0, 100.0), quote(1, 99.9, 100.1), trade(2, size=0.001, suspicious=False))
    assert len(clean(*rows).quarantine) == 0


def test_a_late_tick_is_kept_in_its_place_and_put_on_record() -> None:
    cleaned = clean(trade(0), trade(9), trade(4), trade(5), trade(10))
    assert kept(cleaned) == [1, 3, 4, 2, 5]
    assert reasons(cleaned) == [(3, "out_of_order", False), (4, "out_of_order", False)]
    assert_nothing_lost(cleaned, 5)


def test_ticks_of_one_nanosecond_stay_in_the_order_of_their_rows() -> None:
    rows = [trade(7, 100 + number / 100) for number in range(50)]
    raw = data.arrived(table(*rows), MONDAY, MONDAY + DAY, "UTC", "test")
    mixed = raw.take(pa.array(np.random.default_rng(1).permutation(50)))
    cleaned = data.clean(mixed, MONDAY, MONDAY + DAY)
    assert kept(cleaned) == list(range(1, 51))
    assert len(cleaned.quarantine) == 0


def test_a_quote_that_says_nothing_new_is_a_duplicate() -> None:
    one = quote(0, 99.0, 101.0)
    cleaned = clean(one, one, quote(0, 99.0, 102.0), one)
    assert kept(cleaned) == [1, 3]
    assert cleaned.counts["duplicate"] == 2
    assert_nothing_lost(cleaned, 4)


def test_identical_trades_of_one_nanosecond_are_duplicates() -> None:
    cleaned = clean(trade(1), trade(1), trade(1, size=2.0), trade(1, side=1), trade(2))
    assert kept(cleaned) == [1, 3, 4, 5]
    assert cleaned.counts["duplicate"] == 1
    assert cleaned.counts["identical_trades"] == 0
    assert_nothing_lost(cleaned, 5)


def test_identical_trades_of_one_millisecond_are_several() -> None:
    cleaned = clean(trade(MS), trade(MS), trade(MS), trade(2 * MS))
    assert kept(cleaned) == [1, 2, 3, 4]
    assert cleaned.counts["duplicate"] == 0
    assert cleaned.counts["identical_trades"] == 2
    assert_nothing_lost(cleaned, 4)


@pytest.mark.parametrize(("choice", "unit", "ticks"), [("keep", 1, 3), ("remove", MS, 2)])
def test_what_becomes_of_identical_trades_can_be_chosen(choice: str, unit: int, ticks: int) -> None:
    rows = (trade(unit), trade(unit), trade(2 * unit))
    assert len(clean(*rows, identical_trades=choice).ticks) == ticks


def test_a_file_that_arrives_twice_leaves_each_trade_once() -> None:
    rows = [trade(MS * (number // 3), size=1.0) for number in range(9)]
    numbered = [row | {"row": number} for number, row in enumerate(rows, start=1)]
    later = trade(3 * MS) | {"row": 10}
    cleaned = clean(*numbered, *numbered, later)
    assert kept(cleaned) == list(range(1, 11))
    assert cleaned.counts["duplicate"] == 9
    assert cleaned.counts["identical_trades"] == 6
    assert_nothing_lost(cleaned, 19)


def test_a_trade_sent_again_later_is_a_duplicate_even_by_a_coarse_clock() -> None:
    cleaned = clean(trade(0), trade(MS), trade(MS), trade(2 * MS), trade(MS), trade(3 * MS))
    assert kept(cleaned) == [1, 2, 3, 4, 6]
    assert cleaned.counts["duplicate"] == 1
    assert cleaned.counts["identical_trades"] == 1


def prices(*values: float) -> list[dict]:
    return [trade(number * 1000, value) for number, value in enumerate(values)]


def usual(count: int) -> list[float]:
    return [100 + 0.01 * (number % 3) for number in range(count)]


def test_a_price_that_the_market_comes_back_from_is_an_outlier() -> None:
    cleaned = clean(*prices(*usual(30), 102.0, *usual(3), 98.0, 98.0, *usual(30)))
    assert reasons(cleaned) == [(number, "outlier", True) for number in (31, 35, 36)]
    assert_nothing_lost(cleaned, 66)


def test_a_jump_is_believed_once_three_ticks_are_there() -> None:
    cleaned = clean(*prices(*usual(30), *(price + 3 for price in usual(40)), *usual(20)))
    assert [number for number, _, _ in reasons(cleaned)] == [31, 32, 33, 71, 72, 73]


def test_an_outlier_is_judged_by_what_was_before_alone() -> None:
    random = np.random.default_rng(1)
    walk = 100 * np.exp(np.cumsum(random.normal(0, 3e-4, 400)))
    walk[random.integers(0, 400, 30)] *= 1.02
    whole = {number for number, _, _ in reasons(clean(*prices(*walk)))}
    assert 20 <= len(whole) <= 40
    for end in (50, 123, 200, 399):
        cut = {number for number, _, _ in reasons(clean(*prices(*walk[:end])))}
        assert cut == {number for number in whole if number <= end}


def test_a_cent_is_no_outlier_on_a_cheap_stock() -> None:
    assert len(clean(*prices(*[1.00, 1.01] * 3, *[1.00] * 40, 1.01, *[1.00] * 9)).quarantine) == 0


def test_a_restless_market_has_wider_limits() -> None:
    random = np.random.default_rng(2)
    restless = 100 * np.exp(random.normal(0, 0.01, 200))
    assert clean(*prices(*restless)).counts["outlier"] == 0


def test_the_first_ticks_of_a_day_cannot_be_judged() -> None:
    assert clean(*prices(100, 200, 100, 100, 100)).counts["outlier"] == 0
    assert clean().counts["raw_rows"] == 0


def outliers_one_by_one(values: np.ndarray, jump: float) -> list[bool]:
    """The rule, told without any vector."""
    found = []
    for number, value in enumerate(values):
        before = np.log(values[max(0, number - data.FAR) : number])
        if number < data.NEAR:
            found.append(False)
            continue
        steps = [abs(b - a) for a, b in pairwise(values[: number + 1])]
        limit = max(
            jump,
            data.OUTLIER_DEVIATIONS * np.median(np.abs(before - np.median(before))),
            data.OUTLIER_STEPS * min((s for s in steps if s > 0), default=np.inf) / value,
        )
        distances = (
            abs(np.log(value) - np.median(part)) for part in (before, before[-data.NEAR :])
        )
        found.append(min(distances) > limit)
    return found


@pytest.mark.parametrize("seed", range(6))
def test_outliers_are_those_of_the_rule_told_tick_by_tick(seed: int) -> None:
    random = np.random.default_rng(seed)
    level = random.choice([2.0, 20.0, 200.0])
    walk = level * np.exp(np.cumsum(random.normal(0, random.choice([1e-4, 1e-3, 5e-3]), 300)))
    walk[random.integers(0, 300, 25)] *= random.choice([0.97, 0.99, 1.012, 1.05], 25)
    walk = np.round(walk, 2)
    found = clean(*prices(*walk))
    assert [number for number, _, _ in reasons(found)] == (
        1 + np.flatnonzero(outliers_one_by_one(walk, data.OUTLIER_JUMP))
    ).tolist()


def ugly(random: np.random.Generator, days: int) -> list[dict]:
    """Ticks of some days with everything wrong that there is."""
    rows = []
    for day in range(days):
        for number in range(300):
            time = day * 86_400 * 10**9 + number * 50 * MS
            rows.append(trade(time, 100 + 0.01 * random.integers(0, 5), random.integers(1, 4)))
        start = len(rows) - 300
        for place in random.integers(start, len(rows), 40):
            rows.insert(place, dict(rows[place]))
        for place in random.integers(start, len(rows), 10):
            rows.append(dict(rows[place]))
            rows.append(dict(rows[place]) | {"size": 9.0})
        for place in random.integers(start + 1, len(rows), 30):
            change = random.choice(6)
            rows[place] |= [
                {"price": None},
                {"price": 150.0},
                {"size": 0.0},
                {"suspicious": True},
                {"text": "?"},
                {"event_time_ns": None, "text": "?"},
            ][change]
    return rows


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_and_a_day_alone_is_what_it_is_in_a_range(seed: int) -> None:
    rows = ugly(np.random.default_rng(seed), 3)
    end = MONDAY + 3 * DAY
    raw = data.arrived(table(*rows), MONDAY, end, "UTC", "test")
    whole = data.clean(raw, MONDAY, end)
    assert_nothing_lost(whole, len(rows))
    assert all(whole.counts[name] for name in ("duplicate", "out_of_order", "outlier"))
    parts = []
    for number in range(3):
        window = MONDAY + number * DAY, MONDAY + (number + 1) * DAY
        chosen = pl.DataFrame(raw).filter(pl.col("partition_time_utc") == window[0]).to_arrow()
        parts.append(data.clean(chosen, *window))
    assert pa.concat_tables([part.ticks for part in parts]).equals(whole.ticks)
    assert pa.concat_tables([part.quarantine for part in parts]).equals(whole.quarantine)
    for name, count in whole.counts.items():
        assert sum(part.counts[name] for part in parts) == count
    times = whole.ticks["event_time_ns"].to_numpy()
    assert (np.diff(times) >= 0).all()


def test_days_may_be_those_of_another_time_zone() -> None:
    zone = "America/New_York"
    start, end = (midnight(date(2013, 10, day), zone) for day in (7, 9))
    hours = [4 * 3600, 23 * 3600, 28 * 3600 - 1, 28 * 3600, 40 * 3600]
    midnight_ns = nanoseconds(MONDAY)
    rows = [{"event_time_ns": midnight_ns + s * 10**9, "price": 1.0, "size": 1.0} for s in hours]
    found = data.arrived(table(*rows), start, end, zone, "test")
    assert found["arrival"].to_pylist() == [1, 2, 3, 1, 2]
    assert set(found["partition_time_utc"].to_pylist()) == {start, start + DAY}
    assert set(found["source"].to_pylist()) == {"test"}
    assert len(data.clean(found, start, end).ticks) == 5
    local = [time.astimezone(ZoneInfo(zone)) for time in (start, end)]
    assert data.arrived(table(*rows), *local, zone, "test").equals(found)
    assert data.clean(found, *local).ticks.equals(data.clean(found, start, end).ticks)


def test_a_row_without_a_time_belongs_where_the_one_before_it_does() -> None:
    nowhere = {"event_time_ns": None, "text": "?"}
    rows = (nowhere, trade(0), nowhere, trade(86_400 * 10**9), nowhere)
    found = data.arrived(table(*rows), MONDAY, MONDAY + 2 * DAY, "UTC", "test")
    assert found["partition_time_utc"].to_pylist() == [MONDAY] * 3 + [MONDAY + DAY] * 2
    assert found["arrival"].to_pylist() == [1, 2, 3, 1, 2]
    lost = data.arrived(table(nowhere), MONDAY, MONDAY + DAY, "UTC", "test")
    assert lost["partition_time_utc"].to_pylist() == [MONDAY]


def test_no_ticks_are_no_ticks() -> None:
    cleaned = clean()
    assert len(cleaned.ticks) == len(cleaned.quarantine) == 0
    assert set(cleaned.counts.values()) == {0}
    assert cleaned.ticks.schema.equals(clean(trade(0)).ticks.schema)
    assert cleaned.quarantine.schema.equals(clean(trade(0, 0.0)).quarantine.schema)


def test_ticks_that_were_not_asked_for_are_refused() -> None:
    message = r"from 2013-10-07.* from test; found 1 others, the first of 2013-10-08T14:00:00"
    with pytest.raises(DataError, match=message):
        clean(trade(0), trade(86_400 * 10**9))
    raw = data.arrived(table(trade(0)), MONDAY, MONDAY + DAY, "UTC", "test")
    with pytest.raises(DataError, match=r"found 1 of other days"):
        data.clean(raw, MONDAY + DAY, MONDAY + 2 * DAY)


def test_too_many_bad_prints_name_the_day_and_the_remedy() -> None:
    rows = (trade(0), trade(1, 0.0), trade(2, 0.0), trade(3), trade(3))
    assert clean(*rows, max_excluded_share=0.4).counts["non_positive_price"] == 2
    message = r"at most 39\.0%.*found 1 of 1 days.*2013-10-07 00:00 UTC 40\.0%.*max_excluded_share"
    with pytest.raises(DataError, match=message):
        clean(*rows, max_excluded_share=0.39)
