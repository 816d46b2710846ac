import gzip
import io
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml_assets.ml.errors import DataError
from ml_assets.power import data
from ml_assets_tests.resources.readings.texts import (
    ALWAYS,
    COLUMNS,
    DAY,
    MONDAY,
    THREE_DAYS,
    VALUES,
    line,
    local,
    rows,
    text,
)

UCI = data.HEADER.split(";")
FOUND = "7/1/2008;00:01:00;0.242;0.05;241.6;1;0;0;?"
NUMBERS = [0.242, 0.05, 241.6, 1, 0, 0, None]


def texts(directory: Path) -> list[str]:
    return [one for _, _, one in rows(local(directory).read(*ALWAYS))]


def parquet(times: dict[str, pa.Array], names: list[str], kind: pa.DataType | None = None) -> bytes:
    values = {
        name: pa.array([value], kind or pa.float64())
        for name, value in zip(names, NUMBERS, strict=True)
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(times | values), buffer)
    return buffer.getvalue()


def csv(*lines: str) -> bytes:
    return "\n".join(lines).encode()


def test_a_window_reads_the_files_of_its_days_only(tmp_path: Path) -> None:
    for number in range(3):
        day = MONDAY + number * DAY
        (tmp_path / f"readings_{day}.csv").write_bytes(text(line(day), line(day, "00:01:00")))
    (tmp_path / f"readings_{MONDAY + 3 * DAY}.csv").write_bytes(b"not to be read")
    source = local(tmp_path)
    assert rows(source.read(MONDAY + DAY, MONDAY + 3 * DAY)) == [
        (MONDAY + DAY, 2, line(MONDAY + DAY)),
        (MONDAY + DAY, 3, line(MONDAY + DAY, "00:01:00")),
        (MONDAY + 2 * DAY, 2, line(MONDAY + 2 * DAY)),
        (MONDAY + 2 * DAY, 3, line(MONDAY + 2 * DAY, "00:01:00")),
    ]
    assert rows(source.read(MONDAY + 9 * DAY, MONDAY + 10 * DAY)) == []


def test_the_digest_is_of_the_days_files(tmp_path: Path) -> None:
    for number in range(2):
        day = MONDAY + number * DAY
        (tmp_path / f"{day}.csv").write_bytes(text(line(day)))
    source = local(tmp_path)
    digests = [source.digest(MONDAY + n * DAY, MONDAY + (n + 1) * DAY) for n in range(3)]
    assert len(set(digests)) == 3
    (tmp_path / f"{MONDAY}.csv").write_bytes(text(line(MONDAY, "00:01:00")))
    changed = [source.digest(MONDAY + n * DAY, MONDAY + (n + 1) * DAY) for n in range(3)]
    assert changed[0] != digests[0]
    assert changed[1:] == digests[1:]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("2008-01-07.csv", csv(data.HEADER, FOUND)),
        ("house-2008-01-07-v2.CSV", csv(data.HEADER.upper(), FOUND, "")),
        ("2008-01-07.csv.gz", gzip.compress(csv(data.HEADER, FOUND), mtime=0)),
        ("2008-01-07.csv", csv(data.HEADER.replace(";", ","), FOUND.replace(";", ","))),
        (
            "2008-01-07.csv",
            csv(
                '\ufeff"Voltage","extra",' + ",".join(name for name in UCI if name != "Voltage"),
                '"241.6","x,y",7/1/2008,00:01:00,0.242,0.05,1,0,0,',
            ),
        ),
        (
            "2008-01-07.csv",
            csv(",".join(COLUMNS), "2008-01-07 00:01:00,0.242,0.05,241.6,1,0,0,"),
        ),
        (
            "2008-01-07.csv",
            csv(";".join(COLUMNS), "2008-01-06T23:01Z;0.242;0.05;241.6;1;0;0;?"),
        ),
        (
            "2008-01-07.parquet",
            parquet({"Date": pa.array(["7/1/2008"]), "Time": pa.array(["00:01:00"])}, UCI[2:]),
        ),
        (
            "2008-01-07.parquet",
            parquet(
                {"date": pa.array([MONDAY]), "time": pa.array([time(0, 1)])}, UCI[2:], pa.float32()
            ),
        ),
        *(
            ("2008-01-07.parquet", parquet({"EVENT_TIME": times}, COLUMNS[1:]))
            for times in (
                pa.array(["2008-01-07 00:01"]).cast(pa.timestamp("ns")),
                pa.array(["2008-01-06 23:01Z"]).cast(pa.timestamp("us", "UTC")),
                pa.array(["2008-01-06T23:01:00+00:00"]),
            )
        ),
    ],
)
def test_every_form_becomes_that_of_uci(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    [(day, _, found)] = rows(local(tmp_path).read(MONDAY, MONDAY + DAY))
    assert day == MONDAY
    # 32 bits hold 1 as 1, as do 64; Arrow writes neither with a decimal point.
    assert found == FOUND


def test_what_is_in_uci_s_form_is_not_touched(tmp_path: Path) -> None:
    lines = [line(MONDAY, values="?;?;?;?;?;?;"), "garbage", f'"{line(MONDAY)}', line(MONDAY)[:-9]]
    (tmp_path / "2008-01-07.csv").write_bytes(text(*lines))
    assert texts(tmp_path) == lines


def test_lines_of_another_day_stay_with_the_file_s_day(tmp_path: Path) -> None:
    (tmp_path / "2008-01-07.csv").write_bytes(text(line(MONDAY + DAY), line(MONDAY)))
    assert [day for day, _, _ in rows(local(tmp_path).read(*ALWAYS))] == [MONDAY, MONDAY]


def test_what_cannot_be_read_stays_in_the_text(tmp_path: Path) -> None:
    (tmp_path / "2008-01-07.csv").write_bytes(
        csv(
            ",".join(COLUMNS),
            "noon,a,b,c,1e-5,NaN,-0,?",
            "",
            '"2008-01-07 00:01:00,1,2,3',
            "2008-01-07 00:01:00.5,1,2,3,4,5,6,7",
            "1,2,3,4,5,6,7,8,9",
            "0001-01-01 00:00:00+14:00,1,2,3,4,5,6,7",
            "x" * 200_000,
            "a\rb,1,2,3,4,5,6,7",
        )
    )
    assert rows(local(tmp_path).read(*ALWAYS)) == [
        (MONDAY, 2, "noon;;a;b;c;1e-5;NaN;-0;?"),
        (MONDAY, 4, "2008-01-07 00:01:00,1,2,3"),
        (MONDAY, 5, "7/1/2008;00:01:00.500000;1;2;3;4;5;6;7"),
        (MONDAY, 6, "1;2;3;4;5;6;7;8;9"),
        (MONDAY, 7, "0001-01-01 00:00:00+14:00;;1;2;3;4;5;6;7"),
        (MONDAY, 8, "x" * 200_000),
        (MONDAY, 9, "a\rb,1,2,3,4,5,6,7"),
    ]


def test_missing_values_and_odd_types_of_parquet_are_kept(tmp_path: Path) -> None:
    columns = {
        "event_time": pa.array(["2008-01-07 00:01:00.5", None]).cast(pa.timestamp("ms")),
        "active_power_kw": pa.array([float("nan"), 1e-05]),
        "reactive_power_kvar": pa.array([Decimal("0.050"), None]),
        "voltage_v": pa.array(["241.600", ""]),
        "current_a": pa.array([1, None], pa.int16()),
        "sub_metering_1_wh": pa.array([None, None]),
        "sub_metering_2_wh": pa.array(["high", "?"]).dictionary_encode(),
        "sub_metering_3_wh": pa.array([float("inf"), -1.0]),
    }
    pq.write_table(pa.table(columns), tmp_path / "2008-01-07.parquet")
    assert rows(local(tmp_path).read(*ALWAYS)) == [
        (MONDAY, 1, "7/1/2008;00:01:00.500;?;0.050;241.600;1;?;high;inf"),
        (MONDAY, 2, "?;?;0.00001;?;?;?;?;?;-1"),
    ]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_the_repeated_hour_comes_twice_in_the_order_of_the_file(tmp_path: Path, kind: str) -> None:
    start = datetime(2008, 10, 25, 23, 30, tzinfo=UTC)
    times = [start + number * timedelta(minutes=30) for number in range(5)]
    path = tmp_path / f"2008-10-26.{kind}"
    if kind == "csv":
        readings = (f"{time.isoformat()},{VALUES.replace(';', ',')}" for time in times)
        path.write_bytes(csv(",".join(COLUMNS), *readings))
    else:
        values = {name: pa.array(["1"] * 5) for name in COLUMNS[1:]}
        pq.write_table(pa.table({"event_time": pa.array(times), **values}), path)
    clock = [one.split(";")[:2] for one in texts(tmp_path)]
    assert [day for day, _ in clock] == ["26/10/2008"] * 5
    assert [time for _, time in clock] == [
        f"{time}:00" for time in ("01:30", "02:00", "02:30", "02:00", "02:30")
    ]


def test_a_parquet_file_without_rows_has_no_lines(tmp_path: Path) -> None:
    empty = pa.table({name: pa.array([], pa.string()) for name in UCI})
    pq.write_table(empty, tmp_path / "2008-01-07.parquet")
    empty = pa.table({name: pa.array([], pa.timestamp("us", "UTC")) for name in COLUMNS})
    pq.write_table(empty, tmp_path / "2008-01-08.parquet")
    assert texts(tmp_path) == []


def test_a_parquet_file_without_times_keeps_its_rows(tmp_path: Path) -> None:
    values = {name: pa.array(["1"]) for name in COLUMNS[1:]}
    unknown = pa.array([None], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"event_time": unknown, **values}), tmp_path / "2008-01-07.parquet")
    assert texts(tmp_path) == [";".join("??1111111")]


@pytest.mark.parametrize(
    "name", ["2008-01-07.csv", "2008-01-07.csv.gz", "2008-01-07.parquet", "2008-01-07.PARQUET"]
)
@pytest.mark.parametrize("damage", [lambda content: content[:-20], lambda _: b"PAR1"])
def test_damaged_files_are_refused(
    tmp_path: Path, name: str, damage: Callable[[bytes], bytes]
) -> None:
    content = {
        "csv": csv("Date;Time", "1;2"),
        "gz": gzip.compress(THREE_DAYS),
        "parquet": parquet({"event_time": pa.array([MONDAY])}, COLUMNS[1:]),
    }[name.lower().rpartition(".")[2]]
    (tmp_path / name).write_bytes(damage(content))
    with pytest.raises(DataError, match=rf"{name}.*remedy: (supply the file|rename)"):
        texts(tmp_path)


def test_parquet_columns_that_are_no_values_are_refused(tmp_path: Path) -> None:
    columns = {name: pa.array([[1.0]]) for name in COLUMNS}
    pq.write_table(pa.table(columns), tmp_path / "2008-01-07.parquet")
    with pytest.raises(DataError, match=r"times and numbers: .*2008-01-07.parquet.*remedy: supply"):
        texts(tmp_path)


def test_a_directory_that_looks_like_a_partition_adds_no_column(tmp_path: Path) -> None:
    directory = tmp_path / "Voltage=1"
    directory.mkdir()
    columns = {name: pa.array(["2"]) for name in UCI}
    pq.write_table(pa.table(columns), directory / "2008-01-07.parquet")
    assert texts(directory) == [";".join("2" * 9)]


def test_a_gzip_file_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    (tmp_path / "2008-01-07.csv.gz").write_bytes(gzip.compress(THREE_DAYS))
    with pytest.raises(DataError, match=r"at most 100 unpacked bytes.*remedy: supply the file"):
        local(tmp_path, max_bytes=100).read(*ALWAYS)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_other_columns_are_refused(tmp_path: Path, kind: str) -> None:
    names = [*COLUMNS[:3], "volts", *COLUMNS[4:]]
    path = tmp_path / f"2008-01-07.{kind}"
    path.write_bytes(csv(",".join(names)))
    if kind == "parquet":
        pq.write_table(pa.table({name: pa.array([1.0]) for name in names}), path)
    with pytest.raises(DataError, match=r"voltage_v.*found event_time.*volts.*rename the columns"):
        texts(tmp_path)


def test_two_files_for_a_day_are_refused(tmp_path: Path) -> None:
    for name in ("2008-01-07.csv", "again-2008-01-07.csv.gz"):
        (tmp_path / name).write_bytes(text())
    with pytest.raises(DataError, match=r"2008-01-07.csv and again-.*remedy: remove one of them"):
        local(tmp_path).read(MONDAY, MONDAY + DAY)


def test_names_without_a_day_are_passed_over(tmp_path: Path) -> None:
    for name in ("2008-01-07.csv", "2008-13-07.csv", "12008-01-08.csv", "2008-01-08.txt", "x.csv"):
        (tmp_path / name).write_bytes(text(line(date(2008, 1, 7))))
    assert texts(tmp_path) == [line(MONDAY)]
