"""Texts are read through the local source, as a group reads them."""

from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from ml_assets.ml.errors import DataError
from ml_assets.power import data
from ml_assets.resources.readings import lines
from ml_assets_tests.resources.readings.texts import (
    ALWAYS,
    DAY,
    MONDAY,
    THREE_DAYS,
    VALUES,
    line,
    local,
    rows,
    text,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / data.FILE_NAME


@pytest.fixture(params=[16, 1000, 1 << 22])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file is cut into blocks must not matter."""
    monkeypatch.setattr(lines, "_BLOCK", request.param)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_window_has_its_days_line_by_line(path: Path, end: str, blocks: None) -> None:
    path.write_bytes(THREE_DAYS.replace(b"\r\n", end.encode()))
    found = rows(local(path.parent).read(MONDAY + DAY, MONDAY + 2 * DAY))
    assert found == [
        (MONDAY + DAY, 26 + hour, line(MONDAY + DAY, f"{hour:02}:00:00")) for hour in range(24)
    ]


def test_windows_side_by_side_give_every_line_once(path: Path, blocks: None) -> None:
    path.write_bytes(THREE_DAYS)
    source = local(path.parent)
    days = [MONDAY + number * DAY for number in range(3)]
    found = [row for day in days for row in rows(source.read(day, day + DAY))]
    assert found == rows(source.read(*ALWAYS))
    assert [number for _, number, _ in found] == list(range(2, 74))


def test_a_last_line_without_an_end_is_a_line(path: Path, blocks: None) -> None:
    path.write_bytes(text(line(MONDAY), line(MONDAY + DAY)).rstrip())
    assert rows(local(path.parent).read(*ALWAYS)) == [
        (MONDAY, 2, line(MONDAY)),
        (MONDAY + DAY, 3, line(MONDAY + DAY)),
    ]


def test_days_out_of_order_are_found_wherever_they_are(path: Path, blocks: None) -> None:
    late, early = line(MONDAY + DAY), line(MONDAY)
    path.write_bytes(text(late, early, early, late, early))
    source = local(path.parent)
    assert [number for _, number, _ in rows(source.read(MONDAY, MONDAY + DAY))] == [3, 4, 6]
    assert [day for day, _, _ in rows(source.read(*ALWAYS))] == [
        MONDAY + DAY,
        MONDAY,
        MONDAY,
        MONDAY + DAY,
        MONDAY,
    ]


def test_lines_without_a_date_belong_to_the_day_before_them(path: Path, blocks: None) -> None:
    garbage = ["", "31/2/2008;00:00:00;1", "x", "2008-01-08;00:00:00;1", "8/1/08;", "8/1/2008"]
    path.write_bytes(text("first", line(MONDAY), *garbage, line(MONDAY + DAY), "last"))
    found = rows(local(path.parent).read(*ALWAYS))
    assert [(day, number) for day, number, _ in found] == [
        *((MONDAY, number) for number in (2, 3, 5, 6, 7, 8, 9)),
        *((MONDAY + DAY, number) for number in (10, 11)),
    ]
    assert [one for _, _, one in found] == [
        *("first", line(MONDAY), *garbage[1:]),
        *(line(MONDAY + DAY), "last"),
    ]


def test_dates_may_have_leading_zeros(path: Path) -> None:
    path.write_bytes(text(f"07/01/2008;00:00:00;{VALUES}"))
    assert rows(local(path.parent).read(*ALWAYS)) == [(MONDAY, 2, f"07/01/2008;00:00:00;{VALUES}")]


def test_bytes_that_are_no_text_stay_visible(path: Path) -> None:
    path.write_bytes(text(line(MONDAY)) + b"\xff\x00\r\xfe\r\n\r\n" + text(line(MONDAY))[-40:])
    found = rows(local(path.parent).read(*ALWAYS))
    assert [number for _, number, _ in found] == [2, 3, 5]
    assert found[1][2] == "\\xff\x00\r\\xfe"


def test_a_day_without_lines_gives_no_rows(path: Path) -> None:
    path.write_bytes(THREE_DAYS)
    source = local(path.parent)
    assert rows(source.read(MONDAY - DAY, MONDAY)) == []
    assert rows(source.read(MONDAY, MONDAY)) == []


def test_a_file_with_only_a_header_has_no_rows(path: Path) -> None:
    path.write_bytes(text())
    assert rows(local(path.parent).read(*ALWAYS)) == []


def test_a_file_that_changed_is_read_anew(path: Path) -> None:
    path.write_bytes(text(line(MONDAY)))
    source = local(path.parent)
    before = source.digest(*ALWAYS)
    assert len(source.read(*ALWAYS)) == 1
    with path.open("ab") as file:
        file.write(f"{line(MONDAY + DAY)}\r\n".encode())
    assert len(source.read(*ALWAYS)) == 2
    assert source.digest(*ALWAYS) != before


def test_a_file_is_searched_for_its_days_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searched = []
    find_runs = lines.find_runs
    monkeypatch.setattr(
        lines, "find_runs", lambda *args, **named: searched.append(1) or find_runs(*args, **named)
    )
    path.write_bytes(THREE_DAYS)
    for number in range(3):
        # Another resource each time, as in the runs of one process.
        local(path.parent).read(MONDAY + number * DAY, MONDAY + (number + 1) * DAY)
    assert searched == [1]


@pytest.mark.parametrize(
    "header", [data.HEADER.lower(), "\ufeff" + data.HEADER.upper(), f"{data.HEADER} "]
)
def test_the_header_may_be_in_any_case(path: Path, header: str) -> None:
    path.write_bytes(f"{header}\n{line(MONDAY)}\n".encode())
    assert rows(local(path.parent).read(*ALWAYS)) == [(MONDAY, 2, line(MONDAY))]


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n", THREE_DAYS.partition(b"\n")[2]])
def test_another_header_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"header Date;Time.*remedy: supply a file in the form"):
        local(path.parent).read(*ALWAYS)


def test_a_file_without_a_single_date_is_refused(path: Path) -> None:
    path.write_bytes(text("2008-01-07;00:00:00;1"))
    with pytest.raises(DataError, match=r"31/12/2008; in .*found none.*2008-01-07.*remedy"):
        local(path.parent).read(*ALWAYS)


def test_dates_are_moved_and_what_is_no_date_stays() -> None:
    texts = [line(MONDAY), "07/01/2008;x", "31/2/2008;x", "garbage", "", "7/1/2008", "9/1/2008;\r"]
    found = lines.moved(
        pa.table([[MONDAY] * len(texts), range(len(texts)), texts], schema=lines.SCHEMA),
        timedelta(days=366),
    )
    day = MONDAY + timedelta(days=366)
    moved = [line(day), "7/1/2009;x", "31/2/2008;x", "garbage", "", "7/1/2008", "9/1/2009;\r"]
    assert rows(found) == [(day, number, one) for number, one in enumerate(moved)]


def test_a_date_beyond_the_calendar_stays() -> None:
    texts = ["31/12/9999;x"]
    table = pa.table([[MONDAY], [1], texts], schema=lines.SCHEMA)
    assert lines.moved(table, DAY)["text"].to_pylist() == texts
    assert rows(lines.moved(table.slice(1), DAY)) == []
    assert date(9999, 12, 31) == ALWAYS[1]
