"""Backfill two days of whole groups, with real work: `python -m ml_assets_tests.month.backfill`.

The daemons run as in the simulated month. The tables take the range in one run, then each day has
a training; when tables of a past day are made again, the features that read them and the latest
training follow by themselves.
"""

import tempfile
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import dagster as dg

from ml_assets_tests.backfills import planned
from ml_assets_tests.month import small
from ml_assets_tests.month.clock import Clock

Run = tuple[set[str], set[str], str]
"""What a run makes, of which days, and its status."""


def main() -> None:
    """Raise `AssertionError` unless what was asked for is made, and in the right order."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        small.surround(home)
        small.shrink()
        # These read the environment when they are imported.
        from ml_assets_tests.month.house import opened
        from ml_assets_tests.month.simulation import TABLES, Month

        clock = Clock(small.midnight(small.BEGIN) + timedelta(hours=6))
        with clock.running(), opened(home, clock) as house:
            month = Month(house, home, 0, 0)
            month.prepare()
            before = len(house.instance.get_runs())

            def made(group: str, names: list[str], days: list[str]) -> list[Run]:
                """The runs that a backfill starts, and what follows from it."""
                nonlocal before
                month.backfill(group, tuple(names), days)
                house.settle()
                records = list(reversed(house.instance.get_run_records()))[before:]
                before += len(records)
                for earlier, later in pairwise(records):
                    assert earlier.end_time <= later.start_time, (earlier, later)
                return [run_of(house.instance, record.dagster_run) for record in records]

            two_days, last = _days(2, 1), _days(1, 1)
            for group in small.DAILY:
                names = [key.path[-1] for key in month.keys(group)]
                tables = set(TABLES[group])
                rest = set(names) - tables
                runs = made(group, names, two_days)
                assert runs == [
                    (tables, set(two_days), "SUCCESS"),
                    *((rest, {day}, "SUCCESS") for day in two_days),
                ], runs
            runs = made("tick", list(TABLES["tick"]), _days(5, 5))
            assert runs == [
                (set(TABLES["tick"]), set(_days(5, 5)), "SUCCESS"),
                ({"features"}, set(_days(4, 1)), "SUCCESS"),
                (rest, set(last), "SUCCESS"),
            ], runs
            assert not month.alerts()


def run_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Run:
    """What a run was to make, and what became of it."""
    partitions = planned(instance, run)
    [days] = {frozenset(days) for days in partitions.values()}
    return {name.split("/")[1] for name in partitions}, set(days), run.status.value


def _days(first: int, last: int) -> list[str]:
    """The days from so many before the month to so many."""
    return [str(small.BEGIN - timedelta(days=ago)) for ago in range(first, last - 1, -1)]


if __name__ == "__main__":
    main()
