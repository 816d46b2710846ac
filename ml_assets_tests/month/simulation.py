"""The month: nights in which things go wrong, and mornings in which the team puts them right.

A night: what is due arrives, a fault may strike, schedules tick, alerts are told. At eight the team
reads them, removes the fault and does what the runbook says, and the night is written down.
"""

import json
import random
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path
from unittest import mock

import dagster as dg

from ml_assets import reexecute
from ml_assets_tests.month import small
from ml_assets_tests.month.faults import BACKFILL, FAULTS, LAUNCH, REEXECUTE, Fault
from ml_assets_tests.month.house import House
from ml_assets_tests.month.ledger import Night, said
from ml_assets_tests.month.small import BEGIN, DAILY, HISTORY, WEEKLY, midnight

TABLES = {
    "power": ("raw_readings", "readings", "features"),
    "tick": ("raw_ticks", "ticks", "bars", "features"),
}
BACKFILL_MUTATION = """mutation ($parameters: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $parameters) {
    __typename ... on PythonError { message } } }"""
LAUNCH_MUTATION = """mutation ($parameters: ExecutionParams!) {
  launchRun(executionParams: $parameters) { __typename ... on PythonError { message } } }"""
MONDAY, SUNDAY = 0, 6
TEAM = timedelta(hours=8)


class Month:
    """A number of nights, from the seed on always the same."""

    def __init__(self, house: House, home: Path, days: int, seed: int) -> None:
        self.house, self.home, self.days = house, home, days
        self.faults = dict(_drawn(days, seed))
        self._read = 0

    def prepare(self) -> None:
        """The tables of the days before the month, made by backfills."""
        self.house.settle()
        for group, names in TABLES.items():
            self.backfill(group, names, _days(BEGIN - timedelta(days=1), HISTORY[group] - 1))
        self.house.settle()
        assert self.statuses(0.0) == ["SUCCESS"] * len(TABLES)
        assert not self.alerts()

    def night(self, number: int) -> Night:
        """A night, and the morning after it."""
        day = BEGIN + timedelta(days=number)
        night = Night(day, due(day))
        fault, group = self.faults.get(number, (None, ""))
        began = midnight(day).timestamp()
        with ExitStack() as struck:
            if day.weekday() == MONDAY:
                for weekly in WEEKLY:
                    small.deliver_images(weekly, self.home, number)
            if fault:
                struck.enter_context(fault.strike(group, self.home))
                night.fault = f"{group}: {fault.name}"
                night.expected = fault.told + (f"{group}_{fault.also}" in night.due)
            for hours in ticks(day):
                self._at(day, timedelta(hours=hours, minutes=1))
            night.happened = said(self.statuses(began))
            night.told = self._told(night.recovered)
            self.house.clock.advance_to(midnight(day) + TEAM)
        if fault:
            night.remedy = self._put_right(fault, group, day)
        self._at(day, TEAM)
        night.told += self._told(night.recovered)
        night.megabytes = self.megabytes()
        return night

    def backfill(self, group: str, names: tuple[str, ...], days: list[str]) -> None:
        """Make assets of days again, as *Materialize…* does in the UI."""
        keys = [{"path": [group, name]} for name in names]
        parameters = {"assetSelection": keys, "partitionNames": days}
        random.seed()  # trainings set it in this process, and Dagster draws the backfill's name
        answer = self.house.ask("", BACKFILL_MUTATION, parameters=parameters)
        assert answer["launchPartitionBackfill"]["__typename"] == "LaunchBackfillSuccess", answer

    def launch(self, group: str, day: str) -> None:
        """Launch the group's job, of a daily one for a day, as *Launch run* does in the UI."""
        daily = group in DAILY
        tags = [{"key": "dagster/partition", "value": day}] if daily else []
        selector = {
            "repositoryLocationName": group,
            "repositoryName": "__repository__",
            "jobName": f"{group}_daily" if daily else f"{group}_weekly",
        }
        parameters = {"selector": selector, "executionMetadata": {"tags": tags}}
        answer = self.house.ask("", LAUNCH_MUTATION, parameters=parameters)
        assert answer["launchRun"]["__typename"] == "LaunchRunSuccess", answer

    def statuses(self, since: float) -> list[str]:
        """What became of the runs that began since then, the oldest first."""
        records = self.house.instance.get_run_records()
        return [
            record.dagster_run.status.value
            for record in reversed(records)
            if (record.start_time or 0) >= since
        ]

    def alerts(self) -> list[dict[str, str]]:
        """What was told since they were read last."""
        path = self.home / "data" / "alerts.log"
        lines = path.read_text().splitlines() if path.exists() else []
        new, self._read = lines[self._read :], len(lines)
        return [json.loads(line) for line in new]

    def megabytes(self) -> dict[str, float]:
        """What each part of the data directory holds."""
        return {
            part.name: sum(f.stat().st_size for f in part.rglob("*") if f.is_file()) / 1e6
            for part in sorted((self.home / "data").iterdir())
            if part.is_dir()
        }

    def _told(self, recovered: list[str]) -> list[str]:
        """The alerts since the last time; recoveries are added to `recovered`."""
        broken = []
        for alert in self.alerts():
            what = f"{alert['group']}: {alert['title']}"
            (recovered if alert["recovered"] else broken).append(what)
        return broken

    def _put_right(self, fault: Fault, group: str, day: date) -> str:
        yesterday = [str(day - timedelta(days=1))]
        if fault.remedy == BACKFILL:
            names = [key.path[-1] for key in self.keys(group)]
            self.backfill(group, tuple(names), yesterday)
        elif fault.remedy == LAUNCH:
            self.launch(group, yesterday[0])
        elif fault.remedy == REEXECUTE:
            with (
                mock.patch.object(reexecute, "ask", self.house.ask),
                mock.patch("sys.argv", ["reexecute"]),
            ):
                assert reexecute.main() == 0
        return fault.remedy

    def keys(self, group: str) -> list[dg.AssetKey]:
        """The assets of a group."""
        graph = self.house.context.create_request_context().asset_graph
        return sorted(key for key in graph.materializable_asset_keys if key.path[0] == group)

    def _at(self, day: date, time: timedelta) -> None:
        self.house.clock.advance_to(midnight(day) + time)
        self.house.settle()


def due(day: date) -> list[str]:
    """The schedules that are due in the night before a day."""
    found = [f"{group}_daily" for group in DAILY]
    if day.weekday() == MONDAY:
        found += [f"{group}_weekly" for group in WEEKLY]
    if day.weekday() == SUNDAY:
        found += [f"{group}_upkeep" for group in DAILY]
        found += [f"{group}_retention" for group in small.GROUPS]
    return found


def ticks(day: date) -> list[float]:
    """The hours at which schedules tick in the night before a day."""
    return [
        0.5,
        *([3] if day.weekday() == MONDAY else []),
        *([4, 5] if day.weekday() == SUNDAY else []),
    ]


def _days(last: date, count: int) -> list[str]:
    """So many days before a day."""
    return [str(last - timedelta(days=ago)) for ago in range(count, 0, -1)]


def _drawn(days: int, seed: int) -> Iterator[tuple[int, tuple[Fault, str]]]:
    """Which fault strikes which group in which night: two nights of three, each kind in turn."""
    chance = random.Random(seed)
    deck: list[Fault] = []
    for number in range(days):
        if chance.random() < 1 / 3:
            continue
        monday = (BEGIN + timedelta(days=number)).weekday() == MONDAY
        deck = deck or chance.sample(FAULTS, len(FAULTS))
        fault = deck.pop()
        possible = [g for g in fault.groups if g in DAILY or monday]
        weekly = [g for g in possible if g in WEEKLY]
        yield number, (fault, chance.choice(weekly or possible))
