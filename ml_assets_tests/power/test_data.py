import random
import re
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from ml_assets.ml.errors import DataError
from ml_assets.power import data
from ml_assets_tests.power.days import AUTUMN, DAY, MINUTE, PARIS, SPRING, arrived, begins

MONDAY = date(2008, 1, 7)
VALUES = "0.242;0.050;241.600;1.000;0.000;0.000;1.000"
NUMBERS = (0.242, 0.05, 241.6, 1.0, 0.0, 0.0, 1.0)


def line(time: str, values: str = VALUES, day: date = MONDAY) -> str:
    return f"{day.day}/{day.month}/{day.year};{time};{values}"


def raw(*texts: str, day: date = MONDAY, timezone: str = PARIS) -> pa.Table:
    """The lines of one day as `arrived` gives them."""
    return pa.table(
        {
            "partition_time_utc": pa.array(
                [begins(day, timezone)] * len(texts), pa.timestamp("us", "UTC")
            ),
            "line": pa.array(range(1, len(texts) + 1), pa.int64()),
            "text": pa.array(texts, pa.string()),
        }
    )


def clean(
    *texts: str, day: date = MONDAY, timezone: str = PARIS, share: float = 1.0
) -> data.Cleaned:
    window = (begins(day, timezone), begins(day + DAY, timezone))
    return data.clean(raw(*texts, day=day, timezone=timezone), *window, timezone, share)


def found(cleaned: data.Cleaned) -> dict[datetime, tuple[float | None, ...]]:
    """The minutes with any value, and their values."""
    rows = [tuple(row.values())[:-1] for row in cleaned.readings.to_pylist()]
    return {row[0]: row[1:] for row in rows if any(value is not None for value in row[1:])}


def reasons(cleaned: data.Cleaned) -> list[tuple[int, str, bool]]:
    columns = ("line", "reason", "excluded")
    return [tuple(row[name] for name in columns) for row in cleaned.quarantine.to_pylist()]


def at(hour: int, minute: int = 0, day: date = MONDAY) -> datetime:
    """A time in UTC."""
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)


def test_a_line_is_the_reading_of_its_minute() -> None:
    cleaned = clean(line("01:00:00"), line("01:01:59"))
    assert found(cleaned) == {at(0): NUMBERS, at(0, 1): NUMBERS}
    assert len(cleaned.quarantine) == 0
    assert cleaned.counts["lines"] == 2
    assert cleaned.counts["missing_minutes"] == 1438
    assert cleaned.readings.column_names == ["event_time_utc", *data.COLUMNS, "is_gap"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "truncated"),
        ("7/1/2008;00:01:00", "truncated"),
        (line("00:01:00", "0.2;0.1;240;1;0;0"), "truncated"),
        ("7/1/2", "truncated"),
        (line("00:01:00", f"{VALUES};0"), "wrong_type"),
        (line("00:01:00", VALUES.replace("241.600", "many")), "wrong_type"),
        (line("00:01:00", VALUES.replace("241.600", "nan")), "wrong_type"),
        (line("00:01:00", VALUES.replace("241.600", "NaN")), "wrong_type"),
        (line("00:01:00", VALUES.replace("241.600", "inf")), "wrong_type"),
        (line("00:01:00", VALUES.replace("241.600", "-Infinity")), "wrong_type"),
        (line("00:01:00", VALUES.replace("241.600", "1e999")), "wrong_type"),
        (line("00:01:00", VALUES.replace("241.600", "241,6")), "wrong_type"),
        (line("00:01:00", VALUES.replace("241.600", "??")), "wrong_type"),
        (line("24:01:00"), "wrong_type"),
        (line("00:60:00"), "wrong_type"),
        (line(""), "wrong_type"),
        (line("?"), "wrong_type"),
        (f"31/2/2008;00:01:00;{VALUES}", "wrong_type"),
        (f"2008-01-07;00:01:00;{VALUES}", "wrong_type"),
        (line("00:01:00", day=MONDAY + DAY), "wrong_type"),
        (line("00:01:00", day=MONDAY - DAY), "wrong_type"),
        (line("00:01:00", VALUES.replace("241.600", "99.9")), "impossible_value"),
        (line("00:01:00", VALUES.replace("0.242", "-0.001")), "impossible_value"),
        (line("00:01:00", VALUES.replace("0.242", "30.001")), "impossible_value"),
        (line("00:00:00", VALUES.replace("0.242", "5")), "duplicate"),
        (line("00:00:59"), "duplicate"),
        (line("00:00:00"), "duplicate"),
    ],
)
def test_a_line_of_no_use_is_left_out_with_its_reason(text: str, reason: str) -> None:
    cleaned = clean(line("00:00:00"), text, line("00:02:00"))
    assert reasons(cleaned) == [(2, reason, True)]
    assert cleaned.quarantine["text"].to_pylist() == [text]
    assert cleaned.quarantine["partition_time_utc"].to_pylist() == [begins(MONDAY)]
    assert found(cleaned) == {begins(MONDAY): NUMBERS, begins(MONDAY) + 2 * MINUTE: NUMBERS}
    assert cleaned.counts[reason] == 1


@pytest.mark.parametrize("name", data.COLUMNS)
def test_the_bounds_of_what_is_possible_belong_to_it(name: str) -> None:
    values = VALUES.split(";")
    low, high = data.COLUMNS[name]
    for value, impossible in ((low, 0), (high, 0), (low - 0.01, 1), (high + 0.01, 1)):
        values[list(data.COLUMNS).index(name)] = str(value)
        cleaned = clean(line("00:00:00", ";".join(values)))
        assert cleaned.counts["impossible_value"] == impossible


@pytest.mark.parametrize("missing", ["?", "", " ", " ? "])
def test_a_missing_value_is_nothing_odd(missing: str) -> None:
    cleaned = clean(
        line("00:00:00", VALUES.replace("241.600", missing)),
        line("00:01:00", ";".join([missing] * 7)),
    )
    assert found(cleaned) == {begins(MONDAY): (0.242, 0.05, None, 1.0, 0.0, 0.0, 1.0)}
    assert len(cleaned.quarantine) == 0


def test_a_minute_without_active_power_is_a_gap() -> None:
    cleaned = clean(
        line("00:00:00"), line("00:01:00", VALUES.replace("0.242", "?")), line("00:03:00")
    )
    gaps = cleaned.readings["is_gap"].to_pylist()
    assert gaps[:4] == [False, True, True, False]
    assert all(gaps[4:])
    assert cleaned.counts["missing_minutes"] == sum(gaps) == 1438


def test_a_time_that_the_clock_skips_is_left_out() -> None:
    texts = [line(time, day=SPRING) for time in ("01:59:00", "02:00:00", "02:59:00", "03:00:00")]
    cleaned = clean(*texts, day=SPRING)
    assert reasons(cleaned) == [(2, "nonexistent_time", True), (3, "nonexistent_time", True)]
    assert list(found(cleaned)) == [at(0, 59, SPRING), at(1, 0, SPRING)]
    assert len(clean(*texts, day=SPRING, timezone="UTC").quarantine) == 0


def test_the_hour_that_occurs_twice_is_kept_twice() -> None:
    clock = ("01:59:00", "02:00:00", "02:30:00", "02:00:00", "02:30:00", "03:00:00")
    texts = [
        line(time, VALUES.replace("0.242", str(number)), AUTUMN)
        for number, time in enumerate(clock)
    ]
    cleaned = clean(*texts, day=AUTUMN)
    times = [(23, 59), (0, 0), (0, 30), (1, 0), (1, 30), (2, 0)]
    expected = [at(hour, minute, AUTUMN) for hour, minute in times]
    expected[0] -= DAY
    assert list(found(cleaned)) == expected
    assert [values[0] for values in found(cleaned).values()] == [0, 1, 2, 3, 4, 5]
    assert reasons(cleaned) == [
        (4, "daylight_saving_repeat", False),
        (5, "daylight_saving_repeat", False),
    ]
    assert clean(*texts, day=AUTUMN, timezone="UTC").counts["duplicate"] == 2


def test_a_line_sent_twice_is_no_second_pass_of_the_hour() -> None:
    first, second = (line("02:30:00", VALUES.replace("0.242", value), AUTUMN) for value in "12")
    cleaned = clean(first, first, second, second, second, day=AUTUMN)
    assert {time: values[0] for time, values in found(cleaned).items()} == {
        at(0, 30, AUTUMN): 1,
        at(1, 30, AUTUMN): 2,
    }
    assert [reason for _, reason, _ in reasons(cleaned)] == [
        "duplicate",
        "daylight_saving_repeat",
        "duplicate",
        "duplicate",
    ]


def test_a_third_pass_is_a_duplicate() -> None:
    texts = [line("02:30:00", VALUES.replace("0.242", value), AUTUMN) for value in "123"]
    assert reasons(clean(*texts, day=AUTUMN)) == [
        (2, "daylight_saving_repeat", False),
        (3, "duplicate", True),
    ]


def test_a_late_line_is_kept_in_its_place() -> None:
    cleaned = clean(*(line(f"00:0{minute}:00") for minute in (0, 2, 1, 3)))
    assert list(found(cleaned)) == [begins(MONDAY) + number * MINUTE for number in range(4)]
    assert reasons(cleaned) == [(3, "out_of_order", False)]


@pytest.mark.parametrize(("day", "hours"), [(SPRING, 23), (AUTUMN, 25), (MONDAY, 24)])
def test_a_day_has_as_many_minutes_as_its_clock_shows(day: date, hours: int) -> None:
    readings = clean(line("00:00:00", day=day), day=day).readings
    times = readings["event_time_utc"].to_pylist()
    assert times == [begins(day) + number * MINUTE for number in range(60 * hours)]


def test_midnights_may_be_given_in_any_zone() -> None:
    zone = ZoneInfo(PARIS)
    window = [datetime(day.year, day.month, day.day, tzinfo=zone) for day in (AUTUMN, AUTUMN + DAY)]
    texts = [line("02:30:00", day=AUTUMN)]
    cleaned = data.clean(raw(*texts, day=AUTUMN), *window, PARIS, 1.0)
    assert cleaned.readings.equals(clean(*texts, day=AUTUMN).readings)


def test_too_many_lines_of_no_use_name_the_day_and_the_remedy() -> None:
    texts = [line("00:00:00"), *(line(f"00:0{minute}:00") for minute in range(1, 4)), "x", "y"]
    assert clean(*texts, share=2 / 6).counts["truncated"] == 2
    message = (
        r"at most 33\.0% of a day's lines left out; found 1 of 1 days with more: 2008-01-07 33\.3%;"
        r" lines left out in all: 2 truncated; remedy: .*power\.raw_readings.*max_excluded_share"
    )
    with pytest.raises(DataError, match=message):
        clean(*texts, share=0.33)


def test_kept_lines_do_not_count_as_left_out() -> None:
    assert clean(line("00:01:00"), line("00:00:00"), share=0.0).counts["out_of_order"] == 1


def test_a_day_without_lines_is_named() -> None:
    window = (begins(MONDAY - DAY), begins(MONDAY + 2 * DAY))
    message = (
        r"lines of all 3 days in .*power\.raw_readings; "
        r"found none of 2 days: 2008-01-06, 2008-01-08; remedy: materialize raw_readings"
    )
    with pytest.raises(DataError, match=message):
        data.clean(raw(line("00:00:00")), *window, PARIS, 1.0)


def table(*lines: tuple[date, int, str]) -> pa.Table:
    schema = pa.schema([("day", pa.date32()), ("line", pa.int64()), ("text", pa.string())])
    names = ("day", "line", "text")
    return pa.Table.from_pylist([dict(zip(names, one, strict=True)) for one in lines], schema)


def test_lines_arrive_with_the_midnight_of_their_day_and_their_source() -> None:
    given = [(AUTUMN, 7, "a"), (AUTUMN, 8, ""), (AUTUMN + DAY, 1, "é;ü")]
    found = arrived(table(*given), begins(AUTUMN), begins(AUTUMN + 2 * DAY))
    assert found.to_pylist() == [
        {"partition_time_utc": begins(day), "line": number, "text": text, "source": "test"}
        for day, number, text in given
    ]
    assert found.schema.field("partition_time_utc").type == pa.timestamp("us", "UTC")


def test_a_day_on_which_no_line_arrived_is_named() -> None:
    with pytest.raises(
        DataError, match=r"3 days in test; found none of 2 days: 2008-01-06, 2008.*arrived"
    ):
        arrived(table((MONDAY, 1, "a")), begins(MONDAY - DAY), begins(MONDAY + 2 * DAY))


def test_the_sample_is_clean(readings: pa.Table) -> None:
    assert len(readings) == data.SAMPLE_WEEKS * 7 * 1440
    assert sum(readings["is_gap"].to_pylist()) == 8


# Against an oracle: what the documentation says, line by line, without a data frame.

WALL = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4});(\d\d):(\d\d):(\d\d);")


def wall_time(text: str) -> datetime | None:
    if not (match := WALL.match(text)):
        return None
    day, month, year, hour, minute, _ = map(int, match.groups())
    try:
        return datetime(year, month, day, hour, minute)  # noqa: DTZ001 - what a clock shows
    except ValueError:
        return None


def value(field: str) -> float | None:
    return None if field in {"", "?"} else float(field)


def utc_times(wall: datetime) -> list[datetime]:
    """The times at which the clock in Paris shows `wall`: none, one or two."""
    zone = ZoneInfo(PARIS)
    found = {wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    return sorted(time for time in found if time.astimezone(zone).replace(tzinfo=None) == wall)


def oracle(texts: list[str], day: date) -> tuple[dict[datetime, list[float | None]], list[Any]]:
    """What becomes of the lines of one day in Paris."""
    kept: dict[datetime, list[float | None]] = {}
    odd: list[tuple[int, str, bool]] = []
    seen: set[str] = set()
    shown: Counter[datetime] = Counter()
    before: datetime | None = None
    for number, text in enumerate(texts, start=1):
        fields = [field.strip() for field in text.split(";")]
        wall = wall_time(text)
        wall = wall if wall and wall.date() == day else None
        if wall and text not in seen:
            shown[wall] += 1
        first_copy = text not in seen
        seen.add(text)
        if len(fields) < 9:
            odd.append((number, "truncated", True))
            continue
        try:
            values = [value(field) for field in fields[2:]]
        except ValueError:
            values = [float("nan")]
        unreadable = any(v is not None and not abs(v) < float("inf") for v in values)
        if len(fields) > 9 or unreadable or wall is None:
            odd.append((number, "wrong_type", True))
            continue
        times = utc_times(wall)
        if not times:
            odd.append((number, "nonexistent_time", True))
            continue
        if any(
            v is not None and not low <= v <= high
            for v, (low, high) in zip(values, data.COLUMNS.values(), strict=True)
        ):
            odd.append((number, "impossible_value", True))
            continue
        # A copy of a line stands for the first pass, which that line was or came after.
        time = times[-1] if first_copy and shown[wall] > 1 else times[0]
        if time in kept:
            odd.append((number, "duplicate", True))
        else:
            kept[time] = values
            if time != times[0]:
                odd.append((number, "daylight_saving_repeat", False))
            elif before is not None and time < before:
                odd.append((number, "out_of_order", False))
        before = time
    return kept, odd


VALUES_INSTEAD = ("?", "", "nan", "inf", "x", "-1", "1e9", "300.0", "300.1", " 1 ")
MUTATIONS = (
    *("lost", "cut", "longer", "other day", "other time", "twice", "again, changed", "swapped"),
    *VALUES_INSTEAD,
)


def changed(text: str, kind: str, day: date, chance: random.Random) -> str:
    fields = text.split(";")
    if kind == "cut":
        return text[: chance.randrange(len(text))]
    if kind == "longer":
        return f"{text};{chance.choice(['', '0', '?'])}"
    if kind == "other day":
        other = day + chance.choice([-1, 1]) * DAY
        fields[0] = f"{other.day}/{other.month}/{other.year}"
    elif kind == "other time":
        fields[1] = f"0{chance.randrange(5)}:{chance.randrange(60):02}:{chance.randrange(60):02}"
    elif kind == "again, changed":
        fields[2] = "1.234"
    elif kind in VALUES_INSTEAD:
        fields[chance.randrange(2, 9)] = kind
    return ";".join(fields)


def mutated(texts: list[str], day: date, chance: random.Random) -> list[str]:
    """The lines of a day with everything that can happen to them, each now and then."""
    found: list[str] = []
    for text in texts:
        kind = chance.choice([*["as it is"] * 12, *MUTATIONS])
        if kind in {"twice", "again, changed"}:
            found.append(text)
        if kind != "lost":
            found.append(changed(text, kind, day, chance))
        if kind == "swapped":
            found[-2:] = reversed(found[-2:])
    return found


def clock(day: date) -> list[str]:
    """The first hours of a day as a meter shows them, in Paris."""
    start = begins(day)
    times = [start + number * MINUTE for number in range(60 * 6)]
    walls = [time.astimezone(ZoneInfo(PARIS)) for time in times]
    return [f"{wall.day}/{wall.month}/{wall.year};{wall:%H:%M}:00" for wall in walls]


def on_days(days: list[date], lines: pa.Table, seed: int) -> dict[date, list[str]]:
    """Real values of the sample, mutated, as the readings of some days."""
    chance = random.Random(seed)
    values = [text.split(";", 2)[2] for text in lines["text"][: 360 * len(days)].to_pylist()]
    return {
        day: mutated([f"{a};{b}" for a, b in zip(clock(day), values, strict=False)], day, chance)
        for day in days
    }


def cleaned_range(days: dict[date, list[str]]) -> data.Cleaned:
    tables = [raw(*texts, day=day) for day, texts in days.items()]
    window = (begins(min(days)), begins(max(days) + DAY))
    return data.clean(pa.concat_tables(tables), *window, PARIS, 1.0)


@pytest.mark.parametrize("day", [SPRING, AUTUMN, MONDAY])
@pytest.mark.parametrize("seed", range(4))
def test_cleaning_does_what_it_says_line_by_line(day: date, seed: int, lines: pa.Table) -> None:
    texts = on_days([day], lines, seed)[day]
    cleaned = clean(*texts, day=day)
    kept, odd = oracle(texts, day)
    assert reasons(cleaned) == odd
    assert {reason for _, reason, _ in odd} >= {"truncated", "wrong_type", "duplicate"}
    expected = {time: tuple(values) for time, values in sorted(kept.items()) if any_known(values)}
    assert found(cleaned) == expected


def any_known(values: list[float | None]) -> bool:
    return any(value is not None for value in values)


@pytest.mark.parametrize("seed", range(3))
def test_no_line_is_lost(seed: int, lines: pa.Table) -> None:
    texts = on_days([SPRING, SPRING + DAY], lines, seed)
    cleaned = cleaned_range(texts)
    counts = cleaned.counts
    assert counts["lines"] == sum(map(len, texts.values()))
    excluded = sum(cleaned.quarantine["excluded"].to_pylist())
    assert excluded == sum(counts[reason] for reason in data.EXCLUDED)
    assert len(cleaned.quarantine) - excluded == sum(counts[reason] for reason in data.KEPT)
    kept = sum(len(oracle(texts[day], day)[0]) for day in texts)
    assert counts["lines"] == kept + excluded
    assert counts["missing_minutes"] == sum(cleaned.readings["is_gap"].to_pylist())
    given = Counter(text for day in texts.values() for text in day)
    assert not Counter(cleaned.quarantine["text"].to_pylist()) - given


@pytest.mark.parametrize("seed", range(3))
def test_a_day_alone_is_cleaned_as_in_a_range(seed: int, lines: pa.Table) -> None:
    texts = on_days([AUTUMN - DAY, AUTUMN, AUTUMN + DAY], lines, seed)
    whole = cleaned_range(texts)
    for day in texts:
        alone = cleaned_range({day: texts[day]})
        for part, column in (("readings", "event_time_utc"), ("quarantine", "partition_time_utc")):
            times = getattr(whole, part)[column].to_pylist()
            inside = [begins(day) <= time < begins(day + DAY) for time in times]
            assert getattr(alone, part).equals(getattr(whole, part).filter(pa.array(inside)))


def test_a_stray_line_of_another_day_changes_nothing_on_that_day() -> None:
    stray = line("02:30:00", VALUES.replace("0.242", "9"), AUTUMN)
    texts = [line("02:30:00", VALUES.replace("0.242", value), AUTUMN) for value in "12"]
    for before in (stray, texts[0]):
        whole = cleaned_range({AUTUMN - DAY: [before], AUTUMN: texts})
        assert {time: values[0] for time, values in found(whole).items()} == {
            at(0, 30, AUTUMN): 1,
            at(1, 30, AUTUMN): 2,
        }


def test_the_order_in_which_lines_are_read_does_not_count(lines: pa.Table) -> None:
    texts = on_days([AUTUMN], lines, 0)[AUTUMN]
    given = raw(*texts, day=AUTUMN)
    order = list(range(len(given)))
    random.Random(0).shuffle(order)
    window = (begins(AUTUMN), begins(AUTUMN + timedelta(days=1)))
    cleaned = data.clean(given.take(order), *window, PARIS, 1.0)
    assert cleaned.quarantine.equals(clean(*texts, day=AUTUMN).quarantine)
    assert cleaned.readings.equals(clean(*texts, day=AUTUMN).readings)
