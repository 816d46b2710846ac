from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from ml_assets.ml.days import midnight, nanoseconds
from ml_assets.ml.errors import DataError
from ml_assets.tick import features
from ml_assets.tick.features import FEATURES, LOOKBACK_DAYS, TIME, WARM_UP_BARS

DAY = timedelta(days=1)
SECOND = 10**9
START = datetime(2013, 10, 7, tzinfo=UTC)
NEW_YORK = "America/New_York"
KINDS = [("time", 60), ("time", 7 * 60), ("tick", 1), ("tick", 13), ("volume", 40), ("dollar", 5e3)]


def ticks(days: int = 3, a_day: int = 3000, seed: int = 1, quotes: bool = False) -> pa.Table:
    """Clean ticks of some days, from 08:00 to midnight UTC; several in a nanosecond."""
    random = np.random.default_rng(seed)
    times = np.concatenate(
        [
            nanoseconds(START + day * DAY)
            + np.sort(random.integers(8 * 3600, 86_400, a_day)) * SECOND
            + random.integers(0, 2) * 12_345
            for day in range(days)
        ]
    )
    count = len(times)
    price = np.round(100 * np.exp(np.cumsum(random.normal(0, 2e-4, count))), 2)
    half = random.integers(1, 4, count) / 100
    nothing = np.full(count, np.nan)
    found = {
        "event_time_ns": times,
        "price": price,
        "size": nothing if quotes else random.integers(1, 5, count).astype(float),
        "bid": price - half if quotes else nothing,
        "ask": price + half if quotes else nothing,
        "side": random.choice([-1, 1], count).astype(np.int8),
        "row": np.arange(1, count + 1),
    }
    frame = pl.DataFrame(found, nan_to_null=True)
    silent = quotes or (pl.col("event_time_ns") // (600 * SECOND)) % 3 == 0
    side = pl.when(silent).then(None).otherwise("side").cast(pl.Int8)
    return frame.with_columns(side=side).to_arrow()


def of_day(table: pa.Table, number: int, zone: str = "UTC") -> pa.Table:
    begin = midnight(START.date() + number * DAY, zone)
    column = pl.col("event_time_ns")
    inside = (column >= nanoseconds(begin)) & (column < nanoseconds(begin + DAY))
    return pl.DataFrame(table).filter(inside).to_arrow()


def assert_same(found: pa.Table, expected: pa.Table) -> None:
    """Bit by bit, and the name of the column if not."""
    assert found.schema == expected.schema
    for name in found.column_names:
        ours, theirs = (table[name].combine_chunks() for table in (found, expected))
        if pa.types.is_floating(ours.type):
            assert ours.is_null().equals(theirs.is_null()), name
            values = (side.to_numpy(zero_copy_only=False) for side in (ours, theirs))
            np.testing.assert_array_equal(*(np.nan_to_num(v, nan=-9e9) for v in values), name)
        else:
            assert ours.equals(theirs), name


# Bars, against an oracle that goes from tick to tick.


def groups(table: pa.Table, kind: str, size: float, zone: str) -> list[list[dict]]:
    """The ticks of each bar, filled one tick after the other."""
    found: list[list[dict]] = []
    state: tuple = ()
    for tick in table.to_pylist():
        time = datetime.fromtimestamp(tick["event_time_ns"] // SECOND, UTC)
        day = midnight(time.astimezone(ZoneInfo(zone)).date(), zone)
        if not state or state[0] != day:
            done, number = 0.0, 0
        if kind == "time":
            number = (tick["event_time_ns"] - nanoseconds(day)) // int(size * SECOND)
        else:
            number = int(done // size)
            done += {
                "tick": 1,
                "volume": tick["size"],
                "dollar": (tick["size"] or 0) * tick["price"],
            }[kind]
        if (day, number) != state:
            found.append([])
        state = (day, number)
        found[-1].append(tick)
    return found


@pytest.mark.parametrize("zone", ["UTC", NEW_YORK])
@pytest.mark.parametrize(("kind", "size"), KINDS)
def test_a_bar_is_what_its_ticks_come_to(kind: str, size: float, zone: str) -> None:
    table = ticks(2, 1500)
    bars = features.bars(table, kind, size, zone)
    expected = groups(table, kind, size, zone)
    assert len(bars) == len(expected)
    for bar, part in zip(bars.to_pylist(), expected, strict=True):
        price = [tick["price"] for tick in part]
        volume = [tick["size"] for tick in part]
        sides = [tick["side"] for tick in part]
        assert bar["open"] == price[0]
        assert bar["close"] == price[-1]
        assert (bar["high"], bar["low"]) == (max(price), min(price))
        assert bar["ticks"] == len(part)
        assert bar["volume"] == sum(volume)
        assert bar["vwap"] == pytest.approx(np.average(price, weights=volume))
        if any(sides):
            for name, sign in (("buy_volume", 1), ("sell_volume", -1)):
                known = zip(volume, sides, strict=True)
                assert bar[name] == sum(size for size, side in known if side == sign)
        else:
            assert bar["buy_volume"] is bar["sell_volume"] is None
        assert bar["spread"] is None


@pytest.mark.parametrize(("kind", "size"), KINDS[:4])
def test_bars_of_quotes_have_a_spread_and_no_volume(kind: str, size: float) -> None:
    table = ticks(2, 700, quotes=True)
    bars = features.bars(table, kind, size)
    for bar, part in zip(bars.to_pylist(), groups(table, kind, size, "UTC"), strict=True):
        spreads = [tick["ask"] - tick["bid"] for tick in part]
        assert bar["spread"] == pytest.approx(np.mean(spreads))
        assert bar["close"] == part[-1]["price"]
        assert {bar[name] for name in ("volume", "vwap", "buy_volume", "sell_volume")} == {None}


@pytest.mark.parametrize("zone", ["UTC", NEW_YORK])
@pytest.mark.parametrize(("kind", "size"), KINDS)
def test_no_bar_spans_two_days_and_a_day_alone_has_the_bars_it_has_in_a_range(
    kind: str, size: float, zone: str
) -> None:
    table = ticks(3)
    whole = features.bars(table, kind, size, zone)
    parts = [
        features.bars(of_day(table, number, zone), kind, size, zone) for number in range(-1, 4)
    ]
    assert_same(pa.concat_tables(parts), whole)
    assert len(parts[0]) == 0
    for number, part in enumerate(parts, start=-1):
        begin = midnight(START.date() + number * DAY, zone)
        assert part["bar"].to_pylist() == list(range(len(part)))
        for bar in part.to_pylist():
            assert begin <= bar[TIME] <= bar["end_time_utc"] <= begin + DAY


def test_time_bars_begin_on_the_grid_and_are_left_out_where_nothing_was_traded() -> None:
    table = ticks(1, 200)
    bars = features.bars(table, "time", 60).to_pylist()
    assert 150 < len(bars) < 200
    assert all(bar["end_time_utc"] - bar[TIME] == timedelta(minutes=1) for bar in bars)
    assert all(bar[TIME].second == bar[TIME].microsecond == 0 for bar in bars)


def test_the_last_time_bar_of_a_day_ends_with_it() -> None:
    last = features.bars(ticks(1), "time", 7 * 3600).to_pylist()[-1]
    assert (last[TIME], last["end_time_utc"]) == (START + timedelta(hours=21), START + DAY)


def test_other_bars_begin_with_their_first_tick_and_end_no_earlier_than_their_last() -> None:
    table = ticks(1)
    times = table["event_time_ns"].to_numpy()
    for kind, size in KINDS[2:]:
        bars = features.bars(table, kind, size)
        last = np.cumsum(bars["ticks"].to_numpy()) - 1
        begins, ends = (bars[name].to_numpy().astype("int64") for name in (TIME, "end_time_utc"))
        assert (begins == times[last - bars["ticks"].to_numpy() + 1] // 1000).all()
        assert (ends >= times[last] / 1000).all()
        assert (ends - 1 < times[last] / 1000).all()


def test_the_order_in_which_ticks_are_given_does_not_matter() -> None:
    table = ticks(2)
    mixed = table.take(pa.array(np.random.default_rng(3).permutation(len(table))))
    for kind, size in KINDS:
        assert_same(features.bars(mixed, kind, size), features.bars(table, kind, size))


def test_bars_cut_off_at_a_tick_are_the_same_before_it() -> None:
    table = ticks(2)
    for kind, size in KINDS:
        whole = features.bars(table, kind, size)
        for end in (1, 777, 3000, 4321):
            cut = features.bars(table.slice(0, end), kind, size)
            assert_same(cut.slice(0, len(cut) - 1), whole.slice(0, len(cut) - 1))


def test_no_ticks_give_no_bars_no_features_and_no_windows() -> None:
    bars = features.bars(ticks(1).slice(0, 0), "time", 60)
    assert len(bars) == 0
    assert bars.schema == features.bars(ticks(1), "time", 60).schema
    rows = features.compute(bars, START, START + DAY)
    assert rows.schema == computed(ticks(1), 0, 1).schema


@pytest.mark.parametrize(("kind", "size"), [("time", 0), ("volume", -1), ("tick", 1.5)])
def test_a_size_that_is_none_is_refused(kind: str, size: float) -> None:
    with pytest.raises(DataError, match="a positive size of bars"):
        features.bars(ticks(1), kind, size)


@pytest.mark.parametrize("kind", ["volume", "dollar"])
def test_quotes_have_no_volume_to_make_bars_of(kind: str) -> None:
    with pytest.raises(DataError, match=f"sizes of trades for {kind} bars; found quotes"):
        features.bars(ticks(1, quotes=True), kind, 10)


# Features, against pandas and loops.


def computed(
    table: pa.Table, first: int, days: int, kind: str = "time", size: float = 60
) -> pa.Table:
    bars = features.bars(table, kind, size)
    return features.compute(bars, START + first * DAY, START + (first + days) * DAY)


def recursive(values: np.ndarray, length: int, alpha: float) -> np.ndarray:
    """An average with infinite memory, which begins as the mean of the first `length`."""
    found = np.full(len(values), np.nan)
    first = int(np.flatnonzero(np.isfinite(values))[0])
    found[first + length - 1] = np.mean(values[first : first + length])
    for number in range(first + length, len(values)):
        found[number] = alpha * values[number] + (1 - alpha) * found[number - 1]
    return found


def oracle(bars: pd.DataFrame) -> dict[str, np.ndarray]:
    """The features of bars that follow one another, by their textbook definitions."""
    close, logs = bars["close"], np.log(bars["close"])
    volume = np.log(1 + bars["volume"].fillna(bars["ticks"]).astype(float))
    middle, spread = close.rolling(20).mean(), close.rolling(20).std(ddof=0)
    gain, loss = (
        recursive(np.maximum(sign * close.diff().to_numpy(), 0), 14, 1 / 14) for sign in (1, -1)
    )
    values = close.to_numpy()
    ema = {length: recursive(values, length, 2 / (length + 1)) for length in (12, 26)}
    # The fast average of the MACD begins where the slow one does.
    fast = recursive(np.where(np.arange(len(values)) < 14, np.nan, values), 12, 2 / 13)
    line = fast - ema[26]
    signal = recursive(line, 9, 0.2)
    line[:33] = np.nan
    since = (bars[TIME] - bars[TIME].dt.normalize()) / pd.Timedelta(days=1)
    returns = logs.diff()
    return {
        "return_1": returns,
        "return_5": logs - logs.shift(5),
        "return_15": logs - logs.shift(15),
        "sma_15": close / close.rolling(15).mean() - 1,
        "sma_60": close / close.rolling(60).mean() - 1,
        "ema_12": close / ema[12] - 1,
        "ema_26": close / ema[26] - 1,
        "bollinger_position_20": (close - (middle - 2 * spread)) / (4 * spread),
        "bollinger_width_20": 4 * spread / middle,
        "rsi_14": 100 * gain / (gain + loss),
        "macd_line": line / close,
        "macd_signal": signal / close,
        "macd_histogram": (line - signal) / close,
        "realised_volatility_30": (returns**2).rolling(30).sum() ** 0.5,
        "volume_zscore_60": (volume - volume.rolling(60).mean()) / volume.rolling(60).std(ddof=0),
        "time_of_day_sin": np.sin(2 * np.pi * since),
        "time_of_day_cos": np.cos(2 * np.pi * since),
    }


@pytest.mark.parametrize("quotes", [False, True])
def test_every_feature_is_what_its_name_says(quotes: bool) -> None:
    table = ticks(2, quotes=quotes)
    bars = features.bars(table, "time", 60).to_pandas()
    rows = computed(table, 0, 2)
    second = int((bars[TIME] < START + DAY).sum())
    for first, begin, end in ((0, 0, second), (second - WARM_UP_BARS, second, len(bars))):
        expected = oracle(bars.iloc[first:end].reset_index(drop=True))
        assert list(expected) == list(FEATURES)
        for name, values in expected.items():
            found = rows[name].to_numpy()[begin:end]
            assert found.dtype == np.float32
            wanted = np.asarray(values)[begin - first :]
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(("kind", "size"), [("time", 60), ("tick", 7), ("volume", 40)])
def test_a_day_alone_has_the_features_it_has_in_a_range(kind: str, size: float) -> None:
    table = ticks(4)
    bars = pl.DataFrame(features.bars(table, kind, size))
    whole = computed(table, 0, 4, kind, size)
    days = pl.DataFrame(whole).with_row_index()
    for number in range(4):
        start, end = START + number * DAY, START + (number + 1) * DAY
        before = bars.filter(pl.col(TIME) < start).tail(WARM_UP_BARS)
        own = bars.filter(pl.col(TIME).is_between(start, end, closed="left"))
        alone = features.compute(pl.concat([before, own]).to_arrow(), start, end)
        inside = days.filter(pl.col(TIME).is_between(start, end, closed="left"))["index"]
        assert_same(alone, whole.slice(inside[0], len(inside)))


@pytest.mark.parametrize(("kind", "size"), [("time", 60), ("tick", 7)])
def test_no_feature_changes_when_the_future_is_cut_off_or_another(kind: str, size: float) -> None:
    table = ticks(2)
    bars = features.bars(table, kind, size)
    window = START, START + 2 * DAY
    whole = features.compute(bars, *window)
    random = np.random.default_rng(5)
    for end in (1, 2, 33, 34, 60, 61, 400, len(bars) // 2, len(bars) - 1):
        cut = features.compute(bars.slice(0, end), *window)
        assert_same(cut, whole.slice(0, end))
        frame = pl.DataFrame(bars).with_row_index()
        later = pl.col("index") >= end
        garbage = [
            pl.when(later).then(pl.Series(random.uniform(1, 1e4, len(frame)))).otherwise(name)
            for name in ("open", "high", "low", "close", "volume", "vwap")
        ]
        names = ("open", "high", "low", "close", "volume", "vwap")
        other = frame.with_columns(
            expr.alias(name) for name, expr in zip(names, garbage, strict=True)
        )
        assert_same(features.compute(other.drop("index").to_arrow(), *window).slice(0, end), cut)


def test_every_feature_is_known_after_the_first_hour_and_varies() -> None:
    rows = computed(ticks(1), 0, 1)
    for name in FEATURES:
        values = rows[name].to_numpy()
        assert np.isfinite(values[60:]).all(), name
        assert len(np.unique(values[60:])) > 100, name


def test_features_do_not_depend_on_the_unit_of_the_price() -> None:
    bars = pl.DataFrame(features.bars(ticks(1), "time", 60))
    scaled = bars.with_columns(pl.col("open", "high", "low", "close", "vwap") / 4096)
    rows, others = (
        features.compute(table.to_arrow(), START, START + DAY) for table in (bars, scaled)
    )
    for name in FEATURES:
        np.testing.assert_allclose(rows[name], others[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_where_nothing_moves_features_are_in_the_middle() -> None:
    table = ticks(1)
    frame = pl.DataFrame(table).with_columns(price=pl.lit(166.93), size=pl.lit(100.0))
    rows = computed(frame.to_arrow(), 0, 1, "tick", 1)
    last = {name: rows[name][-1].as_py() for name in FEATURES}
    assert last["bollinger_position_20"] == 0.5
    assert last["rsi_14"] == 50
    still = [name for name in FEATURES if not name.startswith(("boll", "rsi", "time"))]
    assert all(abs(last[name]) < 1e-12 for name in still)
    assert all(np.isfinite(list(last.values())))


def test_indicators_begin_anew_after_a_gap_of_more_days_than_they_look_back() -> None:
    table = ticks(LOOKBACK_DAYS + 2)
    frame = pl.DataFrame(table)
    gap = frame.filter(
        (pl.col("event_time_ns") < nanoseconds(START + DAY))
        | (pl.col("event_time_ns") >= nanoseconds(START + (LOOKBACK_DAYS + 1) * DAY))
    ).to_arrow()
    anew = computed(gap, LOOKBACK_DAYS + 1, 1)
    assert np.isnan(anew["return_1"][0].as_py())
    short = computed(gap, 0, LOOKBACK_DAYS + 2)
    assert_same(short.slice(len(short) - len(anew)), anew)
    assert features.lookback(START, "UTC") == START - LOOKBACK_DAYS * DAY


def test_the_time_of_day_is_that_of_the_time_zone() -> None:
    start = midnight(date(2013, 10, 7), NEW_YORK)
    bars = features.bars(ticks(1), "time", 60, NEW_YORK)
    rows = features.compute(bars, start, start + DAY, NEW_YORK)
    since = (rows[TIME][0].as_py() - start) / DAY
    assert rows["time_of_day_sin"][0].as_py() == pytest.approx(np.sin(2 * np.pi * since), abs=1e-6)


# Series.


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return computed(ticks(3), 0, 3)


def test_a_series_holds_the_rows_in_the_order_of_time(rows: pa.Table) -> None:
    frame = pl.DataFrame(rows)
    found = features.series(frame.sample(fraction=1.0, shuffle=True, seed=0).to_arrow(), "here")
    assert found.names == [*FEATURES, "volatility"]
    assert found.features.dtype == np.float32
    np.testing.assert_array_equal(found.features[:, 3], frame[FEATURES[3]].to_numpy())
    np.testing.assert_array_equal(found.price, frame["close"].to_numpy())
    np.testing.assert_array_equal(found.times, frame["end_time_utc"].to_numpy())
    assert found.source == "here"
    assert (found.sessions == 0).all()


def test_the_volatility_of_a_bar_is_that_of_its_range(rows: pa.Table) -> None:
    bars = pl.DataFrame(features.bars(ticks(3), "time", 60))
    expected = np.log(bars["high"] / bars["low"]).to_numpy() / np.sqrt(4 * np.log(2))
    np.testing.assert_allclose(rows["volatility"].to_numpy(), expected, atol=1e-9)
    assert (expected > 0).any()


def test_the_return_after_a_break_is_unknown(rows: pa.Table) -> None:
    found = features.series(rows, "")
    begins = rows[TIME].to_numpy()[1:]
    breaks = (begins - rows["end_time_utc"].to_numpy()[:-1]) / np.timedelta64(1, "h")
    assert (breaks > 1).any()
    steps = np.where(breaks > 1, np.nan, np.diff(np.log(found.price)))
    np.testing.assert_allclose(found.log_return, [np.nan, *steps], atol=1e-15)


def test_a_session_ends_with_a_long_gap(rows: pa.Table) -> None:
    frame = pl.DataFrame(rows).tail(500)
    shift = timedelta(days=LOOKBACK_DAYS, hours=12)
    moved = pl.when(pl.int_range(pl.len()) < 200).then(pl.col(TIME) - shift).otherwise(TIME)
    found = features.series(frame.with_columns(moved.alias(TIME)).to_arrow(), "")
    assert found.sessions.tolist() == [0] * 200 + [1] * 300


def test_bars_of_two_kinds_and_no_bars_are_refused(rows: pa.Table) -> None:
    hourly = features.compute(
        features.bars(ticks(3), "time", 3600), START + 2 * DAY, START + 3 * DAY
    )
    with pytest.raises(DataError, match=r"one kind in here; found time 3600, time 60; remedy"):
        features.series(pa.concat_tables([rows, hourly]), "here")
    with pytest.raises(DataError, match="no bars"):
        features.series(rows.slice(0, 0), "here")


@pytest.mark.parametrize(("hours", "known"), [(4, 0), (1, 201)])
def test_bars_that_are_too_large_for_the_look_back_are_refused(hours: int, known: int) -> None:
    """Of hours, Mondays and Tuesdays find too few; of four hours all days do."""
    open_days = [day for day in range(40) if day % 7 < 5]
    traded = pa.concat_tables(of_day(ticks(40, 200), day) for day in open_days)
    rows = computed(traded, 0, 40, size=3600 * hours)
    found = features.series(rows, "here")
    message = (
        rf"of 60 bars of time {hours * 3600} of which all features.*sma_60 at {known} of "
        rf"{len(rows)} bars in here; remedy: choose smaller bars \(TICK_BAR_SIZE\).*the 5 days"
    )
    with pytest.raises(DataError, match=message):
        features.require_known(found, 60)


def test_bars_that_suit_the_look_back_and_too_few_bars_pass(rows: pa.Table) -> None:
    features.require_known(features.series(rows, ""), 60)
    features.require_known(features.series(rows.slice(0, 60), ""), 60)


def test_the_digest_tells_every_value(rows: pa.Table) -> None:
    digest = features.series(rows, "").data_digest
    assert features.series(rows, "elsewhere").data_digest == digest
    for name in ("close", "volatility", *FEATURES):
        values = rows[name].to_numpy().copy()
        values[500] += 0.01
        changed = rows.set_column(rows.column_names.index(name), name, pa.array(values))
        assert features.series(changed, "").data_digest != digest, name
    frame = pl.DataFrame(rows)
    for moved in (TIME, "end_time_utc"):
        # The last one, so that the order stays as it is.
        last = pl.int_range(pl.len()) == pl.len() - 1
        later = pl.col(moved) + pl.duration(seconds=last.cast(pl.Int64))
        changed = frame.with_columns(later.alias(moved)).to_arrow()
        assert features.series(changed, "").data_digest != digest, moved
    other = frame.with_columns(bar_type=pl.lit("time 61")).to_arrow()
    assert features.series(other, "").data_digest != digest
