"""Ranges of readings in which some days cannot be made: the others are."""

from datetime import date
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from ml_assets.ml.errors import DataError
from ml_assets.power import assets
from ml_assets_tests.power.group import TABLES, AlteredReadings, Group

NAMES = ["raw_readings", "readings", "features"]
DAYS = [f"2025-01-{day:02}" for day in range(1, 13)]
RANGE = (DAYS[0], DAYS[-1])


class Garbage(AlteredReadings):
    """The replay, with a day whose lines cannot be read."""

    def read(self, start: date, end: date) -> pa.Table:
        rows = super().read(start, end).to_pylist()
        garbage = [
            row | {"text": "garbage"} if str(row["day"]) == self.day else row for row in rows
        ]
        return pa.Table.from_pylist(garbage, schema=super().read(start, start).schema)


def materialized(group: Group) -> dict[str, list[str]]:
    return {
        name: sorted(group.instance.get_materialized_partitions(dg.AssetKey(["power", name])))
        for name in NAMES
    }


def message(result: dg.ExecuteInProcessResult) -> str:
    [failure] = result.get_step_failure_events()
    assert failure.step_key == "power__features"
    return str(failure.step_failure_data.user_failure_data.description)


@pytest.mark.parametrize("absent", [DAYS[:1], DAYS[4:6], DAYS[-1:]], ids=["first", "two", "last"])
def test_days_without_lines_are_left_out(
    empty: Group, monkeypatch: pytest.MonkeyPatch, absent: list[str]
) -> None:
    monkeypatch.setattr(assets, "PIECE_DAYS", 7)
    result = empty.run(TABLES, RANGE, power_source=AlteredReadings(absent=absent))
    good = [day for day in DAYS if day not in absent]
    assert materialized(empty) == dict.fromkeys(NAMES, good)
    told = message(result)
    assert f"{len(absent)} of 12 days could not be made: {', '.join(absent)}" in told
    for day in absent:
        assert f"power/raw_readings, partition {day}: expected lines of all 1 days" in told
    for event in result.asset_materializations_for_node("power__readings"):
        told_of = {name: value.value for name, value in event.metadata.items()}
        assert (told_of["rows"], told_of["lines"]) == (1440, 1440)
        assert told_of["window"].startswith(str(event.partition))
    # Features of later days know of the days before what there is of them, as when made alone.
    before = empty.read("features")
    for day in good[-2:]:
        assert empty.run("key:power/features", day, checks=False).success
    assert empty.read("features").to_pandas().equals(before.to_pandas())


def test_a_day_of_garbage_is_left_out(empty: Group) -> None:
    result = empty.run(TABLES, RANGE, power_source=Garbage(day=DAYS[3]))
    good = [day for day in DAYS if day != DAYS[3]]
    made = {"raw_readings": DAYS, "readings": good, "features": good}
    assert materialized(empty) == made
    assert f"power/readings, partition {DAYS[3]}: expected at most" in message(result)


def test_a_fault_of_the_whole_source_is_not_tried_for_each_day(empty: Group) -> None:
    tried: list[Any] = []

    class Nothing(AlteredReadings):
        def read(self, start: date, end: date) -> pa.Table:
            tried.append((start, end))
            raise DataError("SHA-256 of the download", "another", "do not go on")

    result = empty.run(TABLES, (DAYS[0], "2025-04-01"), power_source=Nothing())
    [failure] = result.get_step_failure_events()
    assert failure.step_key == "power__raw_readings"
    assert "91 of 91 days could not be made" in str(failure.step_failure_data.user_failure_data)
    assert len(tried) < 20
