from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest
from pydantic import ValidationError

from ml_assets.ml.errors import DataError
from ml_assets.power import data
from ml_assets.resources.readings import LocalReadings, ReadingsSource, ReplayedReadings
from ml_assets_tests.resources.readings.texts import DAY, MONDAY, line, local, rows, text

WEEK = timedelta(weeks=1)


@pytest.fixture
def replayed(tmp_path: Path) -> ReplayedReadings:
    """Two weeks with a line a day, and lines that are no use on the first and the ninth day."""
    days = [line(MONDAY + number * DAY, f"00:{number:02}:00") for number in range(16)]
    days[8:9] = ["garbage", "31/2/2008;00:00:00;1", days[8]]
    (tmp_path / data.FILE_NAME).write_bytes(text("first", *days))
    return ReplayedReadings(source=local(tmp_path), first_day=MONDAY.isoformat(), weeks=2)


def test_the_record_s_own_days_are_as_they_arrived(replayed: ReplayedReadings) -> None:
    window = (MONDAY, MONDAY + 2 * WEEK)
    assert rows(replayed.read(*window)) == rows(replayed.source.read(*window))


def test_a_day_is_replayed_with_its_date(replayed: ReplayedReadings) -> None:
    day = date(2026, 2, 3)
    assert (day - MONDAY).days % 14 == 8
    assert rows(replayed.read(day, day + DAY)) == [(day, 13, line(day, "00:08:00"))]


def test_lines_without_a_date_come_along_as_they_are(replayed: ReplayedReadings) -> None:
    first, eighth = MONDAY + 4 * WEEK, MONDAY + 4 * WEEK + 7 * DAY
    assert rows(replayed.read(first, first + DAY)) == [
        (first, 2, "first"),
        (first, 3, line(first, "00:00:00")),
    ]
    assert rows(replayed.read(eighth, eighth + DAY)) == [
        (eighth, 10, line(eighth, "00:07:00")),
        (eighth, 11, "garbage"),
        (eighth, 12, "31/2/2008;00:00:00;1"),
    ]


def test_a_window_over_the_end_of_the_record_begins_it_anew(replayed: ReplayedReadings) -> None:
    start = MONDAY - 5 * WEEK + 3 * DAY
    found = rows(replayed.read(start, start + 40 * DAY))
    dated = [(day, one) for day, _, one in found if one.count(";") == 8]
    assert dated == [
        (day, line(day, f"00:{(day - MONDAY).days % 14:02}:00"))
        for day in (start + number * DAY for number in range(40))
    ]


def test_windows_side_by_side_give_the_same_as_one(replayed: ReplayedReadings) -> None:
    start = date(2026, 1, 1)
    days = [start + number * DAY for number in range(30)]
    found = [row for day in days for row in rows(replayed.read(day, day + DAY))]
    assert found == rows(replayed.read(start, start + 30 * DAY))
    assert rows(replayed.read(start, start)) == []


def test_the_digest_tells_the_day_and_the_source(
    replayed: ReplayedReadings, tmp_path: Path
) -> None:
    windows = [(day, day + DAY) for day in (MONDAY, MONDAY + 2 * WEEK)]
    before = [replayed.digest(*window) for window in windows]
    assert before == [replayed.digest(*window) for window in windows]
    (tmp_path / data.FILE_NAME).write_bytes(text(line(MONDAY)))
    assert len({*before, *(replayed.digest(*window) for window in windows)}) == 4


def test_only_a_replay_knows_after_how_many_days_it_repeats(replayed: ReplayedReadings) -> None:
    assert replayed.unique_days == 14
    assert replayed.source.unique_days is None


def test_the_description_names_the_source(replayed: ReplayedReadings, tmp_path: Path) -> None:
    assert replayed.describe() == f"replay of 2 weeks from 2008-01-07: local: {tmp_path}"


def test_errors_are_those_of_the_source(tmp_path: Path) -> None:
    source = ReplayedReadings(source=local(tmp_path), first_day="2008-01-07", weeks=2)
    with pytest.raises(DataError, match="remedy: put them there"):
        source.read(MONDAY, MONDAY + DAY)


@pytest.mark.parametrize("changes", [{"weeks": 0}, {"first_day": "7/1/2008"}])
def test_an_impossible_record_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=str(next(iter(changes)))):
        ReplayedReadings(
            **{"source": local(tmp_path), "first_day": "2008-01-07", "weeks": 2} | changes
        )


def test_an_asset_gets_whichever_source_is_bound(
    replayed: ReplayedReadings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("READINGS_DIRECTORY", str(tmp_path))

    @dg.asset
    def raw_readings(readings: ReadingsSource) -> dg.MaterializeResult:
        found = readings.read(MONDAY, MONDAY + DAY)
        return dg.MaterializeResult(metadata={"rows": len(found), "source": readings.describe()})

    named = LocalReadings(
        **replayed.source.model_dump(exclude={"directory"}),
        directory=dg.EnvVar("READINGS_DIRECTORY"),
    )
    nested = ReplayedReadings(source=named, first_day="2008-01-07", weeks=2)
    for source in (replayed, replayed.source, nested):
        result = dg.materialize([raw_readings], resources={"readings": source})
        [found] = result.asset_materializations_for_node("raw_readings")
        assert found.metadata["rows"].value == 2
        assert found.metadata["source"].value.endswith(f"local: {tmp_path}")
