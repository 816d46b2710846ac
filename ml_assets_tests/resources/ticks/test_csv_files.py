"""Lines that are written alike are read at once, and as if each had been looked at by itself."""

import pytest
from polars.testing import assert_frame_equal

from ml_assets.resources.ticks import csv_files
from ml_assets.resources.ticks.csv_files import Lines, layout, parsed, ticks

TIMES = {
    "ISO 8601": ("2014-05-06 05:00:00.1", "2014-05-06T05:00:01", "2014-05-06 05:00:02.123456789"),
    "with a zone": ("2014-05-06T05:00:00Z", "2014-05-06T06:00:01.5+01:00", "2014-05-06 05:00:02Z"),
    "milliseconds": ("1399352400000", "1399352401000", "1399352402123"),
    "seconds": ("1399352400", "1399352401", "1399352402"),
    "nanoseconds": ("1399352400000000001", "1399352401000000000", "1399352402123456789"),
    "a date alone": ("2014-05-06 05:00:00", "2014-05-06", "2014-05-06 05:00"),
    "hours alone": ("2014-05-06 05:00:00", "2014-05-06 06", "2014-05-06 07:00:00"),
    "before 1970": ("1969-12-31 23:59:59.9", "1970-01-01 00:00:00", "1970-01-01 00:00:01"),
    "a zone late": ("2014-05-06 05:00:00", "2014-05-06 05:00:01Z", "2014-05-06 05:00:02"),
    "a leap second": ("2014-05-06 05:00:00", "2014-05-06 05:00:60", "2014-05-06 05:01:00"),
    "too far away": ("2014-05-06 05:00:00", "9999-05-06 05:00:01", "2014-05-06 05:00:02"),
    "none": ("2014-05-06 05:00:00", "", "2014-05-06 05:00:02"),
    "fractions of seconds": ("1399352400.5", "1399352401", "1399352402.25"),
}
NUMBERS = ("1", "1.5", "-2e3", "+3", " 4 ", "nan", "NaN", "inf", "-Infinity", "", "NA", "null")
NUMBERS += ("0x10", "1_000", "1,5", "12 dollars", "007", ".5", "5.", "1e400", "None")


def text(rows: list[str]) -> bytes:
    return "".join(f"{row}\n" for row in rows).encode()


def same(content: bytes, header: str, monkeypatch: pytest.MonkeyPatch, zone: str = "UTC") -> None:
    fields = layout(header, {}, "the test")
    found = ticks(Lines(content), fields, zone, None, 1)
    with monkeypatch.context() as patch:
        patch.setattr(csv_files, "_typed", lambda *_: None)
        expected = ticks(Lines(content), fields, zone, None, 1)
    assert_frame_equal(found, expected)


@pytest.mark.parametrize("times", TIMES.values(), ids=TIMES)
@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_times(times: tuple[str, ...], zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    same(text([f"{time},10.5,3" for time in times]), "time,price,size", monkeypatch, zone)


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers(number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [f"2014-05-06 05:00:00;{number};3;b", "2014-05-06 05:00:01;7;3;"]
    same(text(rows), "time;price;size;side", monkeypatch)
    same(text(rows[::-1]), "time;price;size;side", monkeypatch)


@pytest.mark.parametrize(
    "content",
    [
        b"1399352400,1,2\r\n1399352401,1,2\r\n",
        b"1399352400,1,2\n\n1399352401,1,2\n",
        b"1399352400,1,2\n1399352401,1\n",
        b"1399352400,1,2\n1399352401,1,2,3\n",
        b'1399352400,1,2\n1399352401,"1",2\n',
        b'1399352400,1,2\n1399352401,"1,2\n',
        b"1399352400,1,2\n1399352401,\xff,2\n",
        b"1399352400,1,2\n1399352401,1,2",
        b"1399352400,1,2\n139935",
        b"\n1399352400,1,2\n",
        b"1399352400,1,2",
    ],
)
def test_lines(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    same(content, "time,price,size", monkeypatch)


def test_what_is_written_alike_is_not_read_as_text() -> None:
    fields = layout("time,price,size,side,note", {}, "the test")
    content = text(["2014-05-06 05:00:00,1.5,3,buy,x", "2014-05-06 05:00:01,1.5,,sell,y"])
    found = parsed(Lines(content), fields, list(fields.roles), 5)
    assert [str(kind) for kind in found.schema.dtypes()] == [
        "Datetime(time_unit='ns', time_zone=None)",
        *("Float64", "Float64", "String", "Int64", "Boolean"),
    ]
    assert found["row"].to_list() == [5, 6]
    assert found["size"].to_list() == [3.0, None]
