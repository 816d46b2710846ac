import gzip
import os
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import polars as pl
import pyarrow as pa
import pytest
from pydantic import ValidationError

from ml_assets.ml.ahead import ahead
from ml_assets.ml.errors import DataError
from ml_assets.resources.ticks import FileTicks, SampleTicks, TickSource, csv_files, index
from ml_assets.resources.ticks.parts import Form, Part
from ml_assets_tests.resources.ticks.feeds import (
    ALWAYS,
    DAY,
    HOUR,
    MONDAY,
    QUOTES,
    SCHEMA,
    TRADES,
    files,
    ns,
    parquet,
    rows,
    sample_frame,
    values,
    write,
)

SAMPLE = SampleTicks(
    file_name="ticks.parquet",
    sha256="aec36a3181f64998e75efe60f0ba2c37f9cc5dade7e1a198badb803c7d76f6ae",
)
FOUND = {"event_time_ns": ns(MONDAY + 8 * HOUR), "price": 13.94, "size": 500.0, "row": 1}
QUOTED = {"event_time_ns": ns(MONDAY), "bid": 1.0, "ask": 3.0, "price": 2.0, "row": 1}


def trades(*times: datetime) -> list[str]:
    return [f"{time.isoformat()},{10 + number},100" for number, time in enumerate(times)]


def forget() -> None:
    """As another process would: only what is kept in a cache directory is known."""
    index._looked_through.cache_clear()
    index._parts.cache_clear()


def quotes(directory: Path, *lines: str) -> list[dict[str, object]]:
    write(directory, "quotes.csv", QUOTES, *(f"2013-10-07,{line}" for line in lines))
    return rows(files(directory).read(*ALWAYS))


def test_the_sample_is_bundled_and_whole() -> None:
    found = SAMPLE.read(*ALWAYS)
    assert len(found) == 573_620
    assert [str(day) for day in SAMPLE.days()] == [f"2013-10-{day:02}" for day in range(7, 12)]
    assert rows(found.slice(0, 1)) == [
        FOUND | {"event_time_ns": 1381132800614000000, "suspicious": False}
    ]
    assert SAMPLE.describe() == "sample: ml_assets/samples/ticks.parquet"


def test_days_side_by_side_give_the_same_as_one_window() -> None:
    days = [SAMPLE.read(MONDAY + number * DAY, MONDAY + (number + 1) * DAY) for number in range(5)]
    assert pa.concat_tables(days).equals(SAMPLE.read(*ALWAYS))


@pytest.mark.parametrize(
    ("changes", "match"),
    [({"sha256": "0" * 64}, "SHA-256 0000"), ({"file_name": "other.parquet"}, "no such file")],
)
def test_a_damaged_or_missing_sample_is_refused(changes: dict[str, str], match: str) -> None:
    source = SampleTicks(**SAMPLE.model_dump() | changes)
    with pytest.raises(DataError, match=f"{match}.*remedy: install the package again"):
        source.read(*ALWAYS)


@pytest.mark.parametrize(
    "form", ["csv", "crlf", "gz", "ns", "quoted", "parquet", "groups", "local"]
)
def test_the_same_trades_in_every_form_give_the_same_table(tmp_path: Path, form: str) -> None:
    frame = sample_frame()
    expected = pa.table(
        {
            "event_time_ns": frame["timestamp"].dt.epoch("ns").to_arrow(),
            "price": frame["price"].to_arrow(),
            "size": frame["size"].cast(pl.Float64).to_arrow(),
            "suspicious": frame["suspicious"].to_arrow(),
            "row": pa.array(range(1, 4001)),
        }
    )
    iso = frame.with_columns(pl.col("timestamp").dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"))
    local = pl.col("timestamp").dt.convert_time_zone("America/New_York")
    if form == "gz":
        (tmp_path / "t.csv.gz").write_bytes(gzip.compress(iso.write_csv().encode()))
    elif form == "parquet":
        frame.write_parquet(tmp_path / "t.parquet")
    elif form == "groups":
        frame.cast({"price": pl.Decimal(10, 4), "size": pl.UInt32}).write_parquet(
            tmp_path / "t.parquet", row_group_size=700, statistics=False
        )
    else:
        forms = {
            "csv": iso,
            "crlf": iso,
            "ns": frame.cast({"timestamp": pl.Int64}),
            "quoted": iso,
            "local": frame.with_columns(local.dt.strftime("%Y-%m-%d %H:%M:%S%.9f")),
        }
        forms[form].write_csv(
            tmp_path / "t.csv",
            line_terminator="\r\n" if form == "crlf" else "\n",
            quote_style="always" if form == "quoted" else "necessary",
        )
    source = files(tmp_path, timezone="America/New_York" if form == "local" else "UTC")
    found = source.read(*ALWAYS)
    assert found.schema == SCHEMA
    assert found.select(expected.column_names).equals(expected)
    assert found["text"].null_count == found["side"].null_count == 4000
    days = [source.read(MONDAY + number * DAY, MONDAY + (number + 1) * DAY) for number in range(3)]
    assert [len(day) for day in days] == [2000, 2000, 0]
    assert pa.concat_tables(days).equals(found)


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("TIMESTAMP,Price,Size", "2013-10-07T08:00:00Z,13.94,500"),
        ("time;last;volume", "2013-10-07 08:00;13.94;500"),
        ("Date,Time,Trade Price,Qty", "2013-10-07,08:00:00.000,13.94,500"),
        ("date\ttime\tpx\tamount", "20131007\t08:00:00\t13.94\t500"),
        ("day,trade_time,lastPrice,quantity", "2013-10-07,1381132800,13.94,500"),
        ("DATE,TIME_M,Px,Vol", "2013-10-07, 8:00:00.0,13.94,500"),
        ("id|ts|last_price|trade_size|x", "7|1381132800000| 13.94 |5e2|y"),
        ('\ufeff"event_time","note","price","size"', '1381132800,"a, b",13.94,"500"'),
        ("bid,ask,datetime,price,size", "13.93,13.95,2013-10-07T08:00:00+00:00,13.94,500"),
    ],
)
def test_many_spellings_of_trades_are_known(tmp_path: Path, header: str, line: str) -> None:
    write(tmp_path, "trades.csv", header, line)
    assert rows(files(tmp_path).read(*ALWAYS)) == [FOUND]


@pytest.mark.parametrize(
    "header", ["timestamp,bid,ask", "Quote Time,Bid_Price,AskPrice", "ts,BidPrice,Offer"]
)
def test_many_spellings_of_quotes_are_known(tmp_path: Path, header: str) -> None:
    write(tmp_path, "quotes.csv", header, "2013-10-07,1,3")
    assert rows(files(tmp_path).read(*ALWAYS)) == [QUOTED]


@pytest.mark.parametrize(
    ("header", "codes", "sides"),
    [
        (
            "side",
            ["buy", "SELL", "B", "s", "1", "-1", "2", "0", "", "n"],
            [1, -1] * 3 + [-1] + [None] * 3,
        ),
        ("aggressor", ["Buyer", "seller"], [1, -1]),
        ("is_buyer_maker", ["True", "false", "1", "0", ""], [-1, 1, -1, 1, None]),
        ("isBuyerMaker", ["t", "F"], [-1, 1]),
    ],
)
def test_the_aggressor_is_told_from_many_codes(
    tmp_path: Path, header: str, codes: list[str], sides: list[int | None]
) -> None:
    write(tmp_path, "t.csv", f"{TRADES},{header}", *(f"1381132800,1,1,{code}" for code in codes))
    found = files(tmp_path).read(*ALWAYS)
    assert values(found, "side") == sides
    assert values(found, "text") == [None] * len(codes)


def test_suspicious_trades_keep_their_mark(tmp_path: Path) -> None:
    lines = [f"1381132800,1,1,{mark}" for mark in ("1", "0", "true", "False", "", "null")]
    write(tmp_path, "t.csv", f"{TRADES},suspicious", *lines)
    assert values(files(tmp_path).read(*ALWAYS), "suspicious") == [
        True,
        False,
        True,
        False,
        None,
        None,
    ]


def test_names_of_columns_can_be_given(tmp_path: Path) -> None:
    write(tmp_path, "t.csv", "Zeit,Kurs,price,Menge", "1381132800,13.94,0,500")
    source = files(tmp_path, columns={"time": "zeit", "price": "Kurs", "size": "Menge"})
    assert rows(source.read(*ALWAYS)) == [FOUND]
    assert source.digest(*ALWAYS) != files(
        tmp_path, columns=source.columns | {"price": "price"}
    ).digest(*ALWAYS)
    with pytest.raises(DataError, match=r"Umsatz.*found Zeit, Kurs.*say in `columns`"):
        files(tmp_path, columns=source.columns | {"size": "Umsatz"}).read(*ALWAYS)
    with pytest.raises(ValidationError, match=r"columns: expected some of time.*found volumen"):
        files(tmp_path, columns={"volumen": "Menge"})


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet"])
@pytest.mark.parametrize(
    "names", ["time,shares,price", "price,size", "time,bid,size", "13.94,500,1", "x"]
)
def test_an_unknown_header_is_refused_with_what_is_known(
    tmp_path: Path, kind: str, names: str
) -> None:
    content = f"{names}\n1,2,3\n".encode()
    if kind == "parquet":
        content = parquet(**{name: pa.array([1]) for name in names.split(",")})
    (tmp_path / f"t.{kind}").write_bytes(gzip.compress(content) if kind == "csv.gz" else content)
    with pytest.raises(
        DataError, match=rf"timestamp/.*price/last/.*bid/.*found {names.split(',', maxsplit=1)[0]}"
    ) as error:
        files(tmp_path).read(*ALWAYS)
    assert error.value.remedy.startswith("rename the columns, or say in `columns`")


def test_a_date_alone_is_no_time_unless_it_is_said_to_be(tmp_path: Path) -> None:
    write(tmp_path, "t.csv", "Date,price,size", "2013-10-07T08:00Z,13.94,500")
    with pytest.raises(DataError, match="found Date, price, size; remedy: rename"):
        files(tmp_path).read(*ALWAYS)
    assert rows(files(tmp_path, columns={"time": "Date"}).read(*ALWAYS)) == [FOUND]


@pytest.mark.parametrize("time", ["28800", "28800464", "28800.464", "080000"])
def test_times_since_midnight_are_refused(tmp_path: Path, time: str) -> None:
    write(tmp_path, "t.csv", "date,time,price,size", f"2013-10-07,{time},13.94,500")
    with pytest.raises(DataError, match=rf"found {time}; remedy: write the times of the day"):
        files(tmp_path).read(*ALWAYS)


def test_an_unknown_time_zone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"expected a time zone.*found 'Europe/Sceaux'"):
        files(tmp_path, timezone="Europe/Sceaux")


def test_a_file_that_changes_between_two_looks_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", TRADES, *trades(MONDAY))
    source = files(tmp_path)
    source.days()
    status, content = path.stat(), path.read_bytes()
    path.write_bytes(content.replace(b",100", b",101"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(DataError, match=r"t.csv as they were.*remedy: run again when"):
        source.read(*ALWAYS)


def test_crossed_and_one_sided_quotes_are_kept(tmp_path: Path) -> None:
    assert quotes(tmp_path, "3,1", "1,", ",3", "nan,3", "1,3", "1,3") == [
        QUOTED | {"bid": 3.0, "ask": 1.0},
        {"event_time_ns": ns(MONDAY), "bid": 1.0, "row": 2},
        {"event_time_ns": ns(MONDAY), "ask": 3.0, "row": 3},
        {"event_time_ns": ns(MONDAY), "ask": 3.0, "row": 4},
        QUOTED | {"row": 5},
        QUOTED | {"row": 6},
    ]


def test_odd_values_are_kept_and_nothing_is_put_in_order(tmp_path: Path) -> None:
    late, early = MONDAY + 9 * HOUR, MONDAY + 8 * HOUR
    lines = [
        f"{time.isoformat()},{rest}"
        for time, rest in (
            (late, "0,-1"),
            (early, "1e9,0"),
            (early, "1e9,0"),
            (late, "-3.5,inf"),
        )
    ]
    write(tmp_path, "t.csv", TRADES, *lines)
    found = files(tmp_path).read(*ALWAYS)
    assert values(found, "event_time_ns") == [ns(time) for time in (late, early, early, late)]
    assert values(found, "price") == [0, 1e9, 1e9, -3.5]
    assert values(found, "size") == [-1, 0, 0, float("inf")]


def test_what_cannot_be_read_is_kept_with_its_text(tmp_path: Path) -> None:
    text = MONDAY.isoformat()
    lines = [
        "before,1,2",
        f"{text},1,2",
        f"{text},1",
        f"{text},1,2,3",
        "",
        "garbage",
        f'"{text},1,2',
        f"{text},one,2",
        "noon,1,2",
        f'{text},"1,5",2',
        "x" * 200_000,
    ]
    path = write(tmp_path, "t.csv", TRADES, *lines)
    path.write_bytes(path.read_bytes() + f"{text},\xff,2".encode("latin-1"))
    timed = {"event_time_ns": ns(MONDAY)}
    assert rows(files(tmp_path).read(*ALWAYS)) == [
        {"price": 1.0, "size": 2.0, "row": 1, "text": lines[0]},
        timed | {"price": 1.0, "size": 2.0, "row": 2},
        timed | {"row": 3, "text": lines[2]},
        timed | {"row": 4, "text": lines[3]},
        {"row": 6, "text": "garbage"},
        {"row": 7, "text": lines[6]},
        timed | {"size": 2.0, "row": 8, "text": lines[7]},
        {"price": 1.0, "size": 2.0, "row": 9, "text": "noon,1,2"},
        timed | {"size": 2.0, "row": 10, "text": lines[9]},
        {"row": 11, "text": lines[10]},
        timed | {"size": 2.0, "row": 12, "text": f"{text},\\xff,2"},
    ]


def test_quoted_fields_may_hold_delimiters_and_be_too_few(tmp_path: Path) -> None:
    lines = ['"2013-10-07","1","2","a,b"', '"2013-10-07","1","2"', '2013-10-07,1,2,"a ""b"""']
    write(tmp_path, "t.csv", f"{TRADES},conditions", *lines)
    found = files(tmp_path).read(*ALWAYS)
    assert values(found, "size") == [2, None, 2]
    assert values(found, "text") == [None, lines[1], None]


def test_rows_of_parquet_that_cannot_be_read_are_kept_with_their_text(tmp_path: Path) -> None:
    content = parquet(
        time=pa.array([MONDAY, None, MONDAY]),
        price=pa.array(["1.5", "2", "two"]).dictionary_encode(),
        size=pa.array([Decimal("1.5"), None, Decimal("3.0")]),
    )
    (tmp_path / "t.parquet").write_bytes(content)
    assert rows(files(tmp_path).read(*ALWAYS)) == [
        {"event_time_ns": ns(MONDAY), "price": 1.5, "size": 1.5, "row": 1},
        {"price": 2.0, "row": 2, "text": ",2,"},
        {
            "event_time_ns": ns(MONDAY),
            "size": 3.0,
            "row": 3,
            "text": "2013-10-07 00:00:00.000000+00:00,two,3.0",
        },
    ]


def test_rows_without_a_time_belong_where_the_row_before_does(tmp_path: Path) -> None:
    lines = ["a,1,1", *trades(MONDAY), "b,1,1", *trades(MONDAY + DAY), "c,1,1", *trades(MONDAY)]
    write(tmp_path, "t.csv", TRADES, *lines)
    first, second = (
        files(tmp_path).read(MONDAY + number * DAY, MONDAY + (number + 1) * DAY)
        for number in range(2)
    )
    assert values(first, "row") == [1, 2, 3, 6]
    assert values(second, "row") == [4, 5]


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet"])
def test_a_day_may_begin_at_five_in_utc(tmp_path: Path, kind: str) -> None:
    for number in range(3):
        start = MONDAY + number * DAY + 5 * HOUR
        times = [start + hour * HOUR for hour in range(24)]
        path = tmp_path / f"{'cab'[number]}.{kind}"
        frame = pl.DataFrame({"time": times, "price": range(24), "size": range(24)})
        if kind == "parquet":
            frame.write_parquet(path)
        else:
            text = frame.with_columns(pl.col("time").dt.strftime("%FT%TZ")).write_csv().encode()
            path.write_bytes(gzip.compress(text) if kind == "csv.gz" else text)
    source = files(tmp_path)
    found = source.read(MONDAY + DAY, MONDAY + 2 * DAY)
    assert values(found, "event_time_ns") == [ns(MONDAY + DAY + hour * HOUR) for hour in range(24)]
    assert values(found, "row") == [*range(20, 25), *range(1, 20)]
    assert list(source.days()) == [date(2013, 10, day) for day in range(7, 11)]


def test_a_window_need_not_be_a_day_and_has_no_end(tmp_path: Path) -> None:
    write(tmp_path, "t.csv", TRADES, *trades(*(MONDAY + hour * HOUR for hour in range(48))))
    found = files(tmp_path).read(MONDAY + 3 * HOUR, MONDAY + 26 * HOUR)
    assert values(found, "row") == list(range(4, 27))
    new_york = (MONDAY + 3 * HOUR).astimezone(), (MONDAY + 26 * HOUR).astimezone()
    assert files(tmp_path).read(*new_york).equals(found)


def test_files_come_in_the_order_of_their_first_times(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", TRADES, *trades(MONDAY + 2 * HOUR))
    write(tmp_path, "b.csv", TRADES, *trades(MONDAY + HOUR, MONDAY + 3 * HOUR))
    write(tmp_path, "c.csv", TRADES, *trades(MONDAY + HOUR))
    found = values(files(tmp_path).read(*ALWAYS), "event_time_ns")
    assert found == [ns(MONDAY + hour * HOUR) for hour in (1, 3, 1, 2)]


@pytest.mark.parametrize("packed", [False, True])
def test_small_blocks_make_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    times = [MONDAY + minute * timedelta(minutes=10) for minute in range(500)]
    lines = [line for time in times for line in (*trades(time), "odd,1", "")]
    path = write(tmp_path, "t.csv", TRADES, "first,2,3", *lines, end="\r\n")
    if packed:
        (tmp_path / "t.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    whole = files(tmp_path)
    windows = [(MONDAY + number * DAY, MONDAY + (number + 1) * DAY) for number in range(4)]
    expected = [whole.read(*window) for window in windows]
    assert sum(map(len, expected)) == 1001
    forget()
    monkeypatch.setattr(csv_files, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(csv_files, "_PIECE_BYTES", 300)
    assert [whole.read(*window) for window in windows] == expected
    assert pa.concat_tables(expected).equals(whole.read(*ALWAYS))


def test_days_all_mixed_up_are_found_nevertheless(tmp_path: Path) -> None:
    times = [MONDAY + (number % 3) * DAY + number * HOUR / 60 for number in range(300)]
    write(tmp_path, "t.csv", TRADES, *trades(*times))
    source = files(tmp_path)
    for number in range(3):
        found = source.read(MONDAY + number * DAY, MONDAY + (number + 1) * DAY)
        assert values(found, "row") == list(range(number + 1, 301, 3))
    assert len(source.days()) == 3


@pytest.mark.parametrize("form", ["many files", "one file"])
def test_a_late_file_or_line_changes_the_digest_of_its_day_only(tmp_path: Path, form: str) -> None:
    days = [
        trades(*(MONDAY + number * DAY + hour * HOUR for hour in range(24))) for number in range(4)
    ]

    def save() -> None:
        if form == "one file":
            write(tmp_path, "all.csv", TRADES, *(line for day in days for line in day))
        else:
            for number, day in enumerate(days):
                write(tmp_path, f"{number}.csv", TRADES, *day)

    save()
    source = files(tmp_path)
    before = source.days()
    assert len({*before.values()}) == 4
    assert before == {
        day: source.digest(start, start + DAY)
        for day, start in (
            (date(2013, 10, 7 + number), MONDAY + number * DAY) for number in range(4)
        )
    }
    if form == "many files":
        write(tmp_path, "late.csv", TRADES, *trades(MONDAY + DAY))
    else:
        # The same number of rows: those after it keep their numbers.
        days[1][-1] = f"{days[1][-1]}0"
        save()
    after = source.days()
    assert [day.day for day in after if after[day] != before[day]] == [8]
    write(tmp_path, "new.csv", TRADES, *trades(MONDAY + 9 * DAY))
    assert source.days().items() - after.items() == {
        (date(2013, 10, 16), source.days()[date(2013, 10, 16)])
    }


def test_a_file_that_grows_leaves_the_days_before_as_they_were(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", TRADES, *trades(MONDAY, MONDAY + DAY))
    before = files(tmp_path).days()
    with path.open("a") as file:
        file.write(f"{trades(MONDAY + 2 * DAY)[0]}\n")
    after = files(tmp_path).days()
    assert len(after) == 3
    assert after.items() > before.items()


def test_a_weekend_inside_a_row_group_has_no_ticks(tmp_path: Path) -> None:
    friday = MONDAY + 4 * DAY
    content = parquet(
        time=pa.array([friday, friday + 3 * DAY]), price=pa.array([1, 2]), size=pa.array([1, 2])
    )
    (tmp_path / "t.parquet").write_bytes(content)
    source = files(tmp_path)
    assert [day.day for day in source.days()] == [11, 14]
    assert rows(source.read(friday + DAY, friday + 3 * DAY)) == []


def test_only_the_files_of_a_window_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        write(tmp_path, f"{number}.csv", TRADES, *trades(MONDAY + number * DAY))
    cache = tmp_path / "cache"
    assert len(files(tmp_path, cache_directory=str(cache)).days()) == 3
    assert len(list(cache.iterdir())) == 3
    # Another process, which finds what is known of the files, and two files that cannot be read.
    forget()
    for name in ("0.csv", "2.csv"):
        status = (tmp_path / name).stat()
        (tmp_path / name).write_bytes(b"\0" * status.st_size)
        os.utime(tmp_path / name, ns=(status.st_atime_ns, status.st_mtime_ns))
    source = files(tmp_path, cache_directory=str(cache))
    assert len(source.read(MONDAY + DAY, MONDAY + 2 * DAY)) == 1
    assert len(source.days()) == 3


def test_a_directory_is_looked_through_once_for_all_who_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        write(tmp_path, f"{number}.csv", TRADES, *trades(MONDAY + number * DAY))
    looked_at, look = [], csv_files.index

    def counted(path: Path, form: Form) -> list[Part]:
        looked_at.append(path.name)
        return look(path, form)

    monkeypatch.setattr(csv_files, "index", counted)
    days = [(MONDAY + number * DAY, MONDAY + (number + 1) * DAY) for number in range(6)]
    found = list(ahead(lambda day: files(tmp_path).read(*day), days))
    assert [len(rows) for rows in found] == [1] * 6
    assert sorted(looked_at) == [f"{number}.csv" for number in range(6)]


def test_damaged_files_are_told_when_each_has_been_looked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = []

    def damaged(path: Path, _: Form) -> list[Part]:
        looked_at.append(path.name)
        raise DataError("a whole file", path.name, "supply it again")

    monkeypatch.setattr(csv_files, "index", damaged)
    for number in range(30):
        write(tmp_path, f"{number:02}.csv", TRADES, *trades(MONDAY))
    with pytest.raises(DataError, match=r"found 00\.csv"):
        files(tmp_path).days()
    # The days that the others hold can be made.
    assert sorted(looked_at) == [f"{number:02}.csv" for number in range(30)]


def test_what_is_no_file_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, "t.csv", TRADES, *trades(MONDAY))
    (tmp_path / "gone.csv").symlink_to(tmp_path / "nowhere")
    (tmp_path / "directory.csv").mkdir()
    write(tmp_path, ".hidden.csv", TRADES, *trades(MONDAY + DAY))
    assert [day.day for day in files(tmp_path).days()] == [7]


def test_a_file_that_has_changed_is_looked_through_again(tmp_path: Path) -> None:
    source = files(tmp_path, cache_directory=str(tmp_path / "cache"))
    for number in range(3):
        write(tmp_path, "t.csv", TRADES, *trades(*[MONDAY + number * DAY] * (number + 1)))
        for _ in range(2):
            forget()
            assert [day.day for day in source.days()] == [7 + number]
            assert len(source.read(*ALWAYS)) == number + 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", b""),
        ("t.csv", b"timestamp,price,size\n"),
        ("t.csv", b"timestamp,price,size\r\n\r\n"),
        ("t.csv.gz", gzip.compress(b"", mtime=0)),
        (
            "t.parquet",
            parquet(
                time=pa.array([], pa.timestamp("ns")),
                bid=pa.array([], pa.float64()),
                ask=pa.array([], pa.float64()),
            ),
        ),
    ],
)
def test_an_empty_file_has_no_ticks(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert rows(files(tmp_path).read(*ALWAYS)) == []
    assert files(tmp_path).days() == {}


def test_a_file_without_any_readable_time_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "t.csv", TRADES, "noon,1,1")
    with pytest.raises(DataError, match=r"times in .*t.csv.*ISO 8601.*remedy: correct the times"):
        files(tmp_path).read(*ALWAYS)


@pytest.mark.parametrize("name", ["t.csv.gz", "t.parquet"])
@pytest.mark.parametrize("damage", [lambda content: content[:-20], lambda _: b"PAR1"])
def test_a_damaged_file_is_refused(
    tmp_path: Path, name: str, damage: Callable[[bytes], bytes]
) -> None:
    content = {
        "t.csv.gz": gzip.compress("\n".join([TRADES, *trades(*[MONDAY] * 99)]).encode()),
        "t.parquet": parquet(time=[MONDAY] * 99, bid=[1.0] * 99, ask=[1.0] * 99),
    }[name]
    (tmp_path / name).write_bytes(damage(content))
    with pytest.raises(DataError, match=rf"a whole .*{name}.*remedy: supply the file again"):
        files(tmp_path).read(*ALWAYS)


def test_parquet_columns_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    content = parquet(time=pa.array([MONDAY]), bid=pa.array([[1.0]]), ask=pa.array([1.0]))
    (tmp_path / "t.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"times and numbers: .*t.parquet.*remedy: supply"):
        files(tmp_path).read(*ALWAYS)


def test_a_gzip_file_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    lines = "\n".join([TRADES, *trades(*[MONDAY] * 99)]).encode()
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(lines))
    with pytest.raises(DataError, match=r"at most 100 unpacked bytes.*remedy: supply the file"):
        files(tmp_path, max_bytes=100).read(*ALWAYS)
    assert len(files(tmp_path, max_bytes=len(lines)).read(*ALWAYS)) == 99


def test_a_text_without_lines_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_files, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(csv_files, "_LINE_BYTES", 1000)
    monkeypatch.setattr(csv_files, "_PIECE_BYTES", 1000)
    write(tmp_path, "t.csv", TRADES, "\0" * 5000)
    with pytest.raises(DataError, match=r"bytes without an end; remedy: supply a text file"):
        files(tmp_path).read(*ALWAYS)


def test_a_directory_without_ticks_says_what_belongs_there(tmp_path: Path) -> None:
    write(tmp_path, ".t.csv", "half")
    write(tmp_path, "readme.txt", "half")
    with pytest.raises(DataError, match=r"trades.parquet; found none of them; remedy: put them"):
        files(tmp_path).read(*ALWAYS)
    with pytest.raises(DataError, match="found no such directory"):
        files(tmp_path / "nowhere").days()


def test_a_window_without_a_time_zone_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "t.csv", TRADES, *trades(MONDAY))
    with pytest.raises(DataError, match="remedy: pass a `datetime` with `tzinfo`"):
        files(tmp_path).read(MONDAY.replace(tzinfo=None), MONDAY + DAY)


def test_the_real_quotes_of_a_feed_are_its_numbers(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "timestamp": [MONDAY + number * timedelta(microseconds=1) for number in range(5)],
            "bid": [1291.677, 1291.652, 1291.619, 1291.64, 1291.622],
            "ask": [1292.033, 1292.043, 1292.007, 1292.026, 1292.003],
        }
    )
    frame.write_csv(tmp_path / "q.csv")
    found = files(tmp_path).read(*ALWAYS)
    for name in ("bid", "ask"):
        assert values(found, name) == frame[name].to_list()
    assert values(found, "price") == [(bid + ask) / 2 for _, bid, ask in frame.rows()]


def test_an_asset_gets_the_source_that_is_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "t.csv", "Zeit,Kurs,Menge", "1381132800,13.94,500")
    monkeypatch.setenv("TICKS_DIRECTORY", str(tmp_path))

    @dg.asset
    def raw_ticks(ticks: TickSource) -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata={"rows": len(ticks.read(*ALWAYS))})

    source = FileTicks(
        directory=dg.EnvVar("TICKS_DIRECTORY"),
        columns={"time": "Zeit", "price": "Kurs", "size": "Menge"},
    )
    result = dg.materialize([raw_ticks], resources={"ticks": source})
    [found] = result.asset_materializations_for_node("raw_ticks")
    assert found.metadata["rows"].value == 1
