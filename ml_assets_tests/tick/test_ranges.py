"""Ranges in which some days cannot be made: the others are, and each is told of by itself."""

import dataclasses
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from pydantic import Field

from ml_assets.ml.errors import DataError
from ml_assets.tick import assets
from ml_assets_tests.tick.group import (
    NAMES,
    TABLES,
    AlteredTicks,
    Group,
    build,
    equal,
    failures,
    files,
    metadata,
    moved,
    retries,
)

DAYS = [f"2025-04-{day:02}" for day in range(7, 12)]
RANGE = (DAYS[0], DAYS[-1])


class BadTicks(AlteredTicks):
    """A source with days that are not what was promised."""

    bad: list[str] = Field(default=[])

    def read(self, start: datetime, end: datetime) -> pa.Table:
        if str(start.date()) in self.bad:
            raise DataError("a sound day", f"garbage on {start.date()}", "mend it")
        return super().read(start, end)

    def describe(self) -> str:
        return self.source.describe()


@pytest.fixture
def empty(tmp_path: Path) -> Any:
    with dg.DagsterInstance.ephemeral() as instance:
        yield build(tmp_path, tmp_path, instance, files(tmp_path / "inbox", DAYS))


def source(group: Group, **changes: Any) -> BadTicks:
    return BadTicks(source=group.resources["tick_source"], **changes)


def materialized(group: Group) -> dict[str, list[str]]:
    return {
        name: sorted(group.instance.get_materialized_partitions(dg.AssetKey(["tick", name])))
        for name in NAMES
    }


def one_by_one(group: Group, home: Path, days: list[str]) -> Group:
    """The same days, each made by a run of its own."""
    other = build(home, home, group.instance, group.resources["tick_source"])
    for day in days:
        other.run(TABLES, day, checks=False)
    return other


@pytest.mark.parametrize(
    "bad",
    [DAYS[:1], DAYS[2:3], DAYS[-1:], [DAYS[1], DAYS[3]]],
    ids=["first", "middle", "last", "two"],
)
def test_good_days_are_made_and_bad_ones_named(
    empty: Group, tmp_path: Path, bad: list[str]
) -> None:
    result = empty.run(TABLES, RANGE, tick_source=source(empty, bad=bad))
    assert not result.success
    assert retries(result) == 0
    good = [day for day in DAYS if day not in bad]
    assert materialized(empty) == dict.fromkeys(NAMES, good)
    # The last table of the run fails for all.
    [(step, message)] = failures(result).items()
    assert step == "tick__features"
    assert f"{len(bad)} of 5 days could not be made: {', '.join(bad)}" in message
    for day in bad:
        assert f"tick/raw_ticks, partition {day}: expected a sound day; found garbage" in message
    (tmp_path / "other").mkdir()
    daily = one_by_one(empty, tmp_path / "other", good)
    for name in NAMES:
        assert equal(empty.read(name), daily.read(name)), name

    # The same range again, when they are mended.
    result = empty.run(TABLES, RANGE)
    assert result.success
    assert materialized(empty) == dict.fromkeys(NAMES, DAYS)


def test_where_all_days_are_bad_nothing_after_is_tried(empty: Group) -> None:
    result = empty.run(TABLES, RANGE, tick_source=source(empty, bad=DAYS))
    [(step, message)] = failures(result).items()
    assert step == "tick__raw_ticks"
    assert "5 of 5 days could not be made" in message
    assert materialized(empty) == {name: [] for name in NAMES}


def test_a_bad_day_alone_fails_at_once_as_it_always_did(empty: Group) -> None:
    result = empty.run(TABLES, DAYS[1], tick_source=source(empty, bad=DAYS))
    [(step, message)] = failures(result).items()
    assert step == "tick__raw_ticks"
    assert f"tick/raw_ticks, partition {DAYS[1]}: expected a sound day" in message


def test_a_bad_day_keeps_the_rows_that_it_had(empty: Group) -> None:
    assert empty.run(TABLES, RANGE, checks=False).success
    before = {name: empty.read(name) for name in NAMES}
    bad = source(empty, bad=[DAYS[2]])
    assert not empty.run(TABLES, RANGE, checks=False, tick_source=bad).success
    for name in NAMES:
        assert equal(empty.read(name), before[name]), name


def test_a_day_with_too_many_odd_ticks_is_left_out_by_bars_and_features(empty: Group) -> None:
    path = Path(empty.resources["tick_source"].directory) / f"{DAYS[1]}.parquet"
    frame = moved(DAYS[1], 1)
    frame.with_columns(price=-frame["price"]).write_parquet(path)
    config = {"ticks": {"max_excluded_share": 0.1}}
    result = empty.run(TABLES, RANGE, config=config)
    good = [day for day in DAYS if day != DAYS[1]]
    assert materialized(empty) == {"raw_ticks": DAYS} | dict.fromkeys(NAMES[1:], good)
    message = failures(result)["tick__features"]
    assert f"tick/ticks, partition {DAYS[1]}: expected at most 10.0% of a day's ticks" in message


def test_a_check_that_blocks_keeps_its_day_from_the_tables_after_it(
    empty: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = assets.data.clean

    def negative(raw: pa.Table, start: datetime, end: datetime, **rest: Any) -> Any:
        cleaned = clean(raw, start, end, **rest)
        if str(start.date()) != DAYS[3]:
            return cleaned
        place = cleaned.ticks.schema.get_field_index("price")
        prices = pa.array(-cleaned.ticks["price"].to_numpy())
        ticks = cleaned.ticks.set_column(place, "price", prices)
        return dataclasses.replace(cleaned, ticks=ticks)

    monkeypatch.setattr(assets.data, "clean", negative)
    result = empty.run(TABLES, RANGE)
    good = [day for day in DAYS if day != DAYS[3]]
    made = {"raw_ticks": DAYS, "ticks": DAYS, "bars": good, "features": good}
    assert materialized(empty) == made
    checks = result.get_asset_check_evaluations()
    bad = [(check.check_name, check.partition) for check in checks if not check.passed]
    assert bad == [("prices_and_sizes_are_positive", DAYS[3])]
    [(step, message)] = failures(result).items()
    assert step == "tick__features"
    assert f"tick/ticks, partition {DAYS[3]}: expected prices_and_sizes_are_positive" in message

    # Where nothing comes after the check, it fails as it does for a day.
    result = empty.run("key:tick/ticks", RANGE)
    assert set(failures(result)) == {"tick__ticks_prices_and_sizes_are_positive"}


def test_a_disk_that_breaks_fails_the_table_and_leaves_its_days_reported(empty: Group) -> None:
    broken = source(empty, broken=[DAYS[3]])
    result = empty.run(TABLES, RANGE, checks=False, tick_source=broken)
    assert retries(result) == 2
    events = result.asset_materializations_for_node("tick__raw_ticks")
    # What a first attempt stored, the next one does not store again.
    assert sorted(str(event.partition) for event in events) == sorted(
        materialized(empty)["raw_ticks"]
    )
    assert materialized(empty)["raw_ticks"] == DAYS[:3]
    assert materialized(empty)["ticks"] == []


def test_a_day_of_a_range_is_told_of_as_if_it_were_made_alone(empty: Group, tmp_path: Path) -> None:
    result = empty.run(TABLES, RANGE, checks=False)
    assert result.success
    (tmp_path / "other").mkdir()
    with dg.DagsterInstance.ephemeral() as instance:
        inbox = empty.resources["tick_source"]
        daily = build(tmp_path / "other", tmp_path / "other", instance, inbox)
        for day in DAYS:
            alone = daily.run(TABLES, day, checks=False)
            for name in NAMES:
                [event] = alone.asset_materializations_for_node(f"tick__{name}")
                events = result.asset_materializations_for_node(f"tick__{name}")
                [of_range] = [other for other in events if other.partition == day]
                known = {key: value.value for key, value in of_range.metadata.items()}
                told = metadata(alone, name)
                assert list(known) == list(told), name
                del known["snapshot_id"], told["snapshot_id"]
                assert known == told, name  # rows, digests, window, counts and picture
                assert of_range.tags.keys() == event.tags.keys()
                pointer = "dagster/input_event_pointer/"
                for tag, value in event.tags.items():
                    if not tag.startswith(pointer):
                        assert of_range.tags[tag] == value, (name, tag)
