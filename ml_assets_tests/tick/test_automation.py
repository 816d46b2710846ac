"""What a late file sets in motion, by Dagster's own evaluation of the conditions."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import dagster as dg
import pytest

from ml_assets.tick.definitions import ASSETS, defs

TABLES = [asset.key.path[-1] for asset in ASSETS[:4]]
TRAINED = [asset.key.path[-1] for asset in ASSETS[4:]]
NOW = datetime(2025, 4, 19, 12, tzinfo=UTC)
DAYS = [f"2025-04-{day:02}" for day in range(7, 19)]
LATEST = DAYS[-1]


class History:
    """An instance in which assets are reported, and the conditions evaluated between reports."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.cursor = None

    def report(self, names: Iterable[str], days: Iterable[str]) -> None:
        for name in names:
            for day in days:
                event = dg.AssetMaterialization(dg.AssetKey(["tick", name]), partition=day)
                self.instance.report_runless_asset_event(event)

    def requested(self) -> dict[str, set[str]]:
        """The partitions that are asked for, by asset."""
        result = dg.evaluate_automation_conditions(
            defs, self.instance, cursor=self.cursor, evaluation_time=NOW
        )
        self.cursor = result.cursor
        found = {asset.key.path[-1]: result.get_requested_partitions(asset.key) for asset in ASSETS}
        return {name: {str(day) for day in days} for name, days in found.items() if days}


@pytest.fixture
def history() -> Iterator[History]:
    """All days have tables; the one before the latest, and the latest, were trained."""
    with dg.DagsterInstance.ephemeral() as instance:
        found = History(instance)
        found.report(TABLES, DAYS)
        found.report(TRAINED, DAYS[-2:])
        assert found.requested() == {}
        yield found


def test_nothing_is_made_again_when_nothing_has_changed(history: History) -> None:
    assert history.requested() == {}


def test_a_late_day_s_dependants_are_made_again_and_nothing_else(history: History) -> None:
    history.report(TABLES, ["2025-04-09"])
    features = {f"2025-04-{day}" for day in (10, 11, 12, 13, 14)}
    assert history.requested() == {"features": features}
    # The training waits for the features that it reads.
    history.report(["features"], features)
    assert history.requested() == {name: {LATEST} for name in TRAINED}
    history.report(TRAINED, [LATEST])
    assert history.requested() == {}


def test_days_that_are_not_there_are_not_made(history: History) -> None:
    history.report(TABLES, ["2025-04-17"])
    assert history.requested() == {"features": {LATEST}}
    history.report(["features"], [LATEST])
    assert history.requested() == {name: {LATEST} for name in TRAINED}


@pytest.mark.parametrize("name", ["model", "evaluation", "registered_model"])
def test_what_is_made_by_hand_is_left_to_its_user(history: History, name: str) -> None:
    history.report([name], [LATEST])
    assert history.requested() == {}
