"""A backfill makes the days that were asked for, of the assets that were chosen, and no more."""

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from ml_assets.tick import definitions as tick
from ml_assets_tests.backfills import ROOT, Partitions, Server, days_between, planned, served

DAYS = ["2026-07-01", "2026-07-02"]
GROUPS = ["power", "tick"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with served() as found:
        yield found


def of(names: list[str], days: list[str] = DAYS) -> Partitions:
    return {name: set(days) for name in names}


def yesterday() -> str:
    return str((datetime.now(UTC) - timedelta(days=1)).date())


def test_every_group_with_partitions_is_here(server: Server) -> None:
    assert sorted(server.partitioned) == GROUPS


@pytest.mark.parametrize("group", GROUPS)
def test_whatever_is_chosen_the_preview_has_the_days_asked_for(group: str, server: Server) -> None:
    """The whole group, each asset, and each with what is before or behind it."""
    names = server.partitioned[group]
    choices = {tuple(names)}
    for name in names:
        for query in (f'key:"{name}"', f'+key:"{name}"', f'key:"{name}"+', f'+key:"{name}"+'):
            keys = dg.AssetSelection.from_string(query).resolve(server.graph)
            choices.add(tuple(sorted(key.to_user_string() for key in keys)))
    assert len(choices) > 2 * len(names)
    for choice in sorted(choices):
        assert server.preview(list(choice), DAYS) == of(list(choice)), choice


@pytest.mark.parametrize("group", GROUPS)
def test_a_choice_with_a_gap_has_no_other_days(group: str, server: Server) -> None:
    """Behind a gap Dagster leaves assets out; only a range for each asset reaches them."""
    names = server.partitioned[group]
    for name in names:
        others = [other for other in names if other != name]
        assert all(days == set(DAYS) for days in server.preview(others, DAYS).values()), name
    others = [names[0], *names[2:]]
    assert server.requested(server.of_each_asset(others, DAYS)) == of(others)


@pytest.mark.parametrize("group", GROUPS)
def test_the_tables_take_the_range_in_one_run_and_then_trainings_a_day(
    group: str, server: Server
) -> None:
    names = server.partitioned[group]
    tables = [name for name in names if server.is_table(name)]
    rest = [name for name in names if name not in tables]
    first, *others = runs = server.of_assets(names, DAYS)
    assert planned(server.instance, first) == of(tables)
    assert [planned(server.instance, run) for run in others] == [of(rest, [day]) for day in DAYS]
    assert server.requested(runs) == of(names)


@pytest.mark.parametrize("group", GROUPS)
def test_a_range_for_each_asset_is_taken_as_it_is(group: str, server: Server) -> None:
    names = server.partitioned[group]
    assert server.requested(server.of_each_asset(names, DAYS)) == of(names)


@pytest.mark.parametrize("group", GROUPS)
def test_a_part_of_the_group_is_made_alone(group: str, server: Server) -> None:
    """The first training, whose earlier days have never been made, the tables, the last table."""
    names = server.partitioned[group]
    tables = [name for name in names if server.is_table(name)]
    for choice in (tables, [tables[-1]], [names[len(tables)]], names[len(tables) :]):
        days = ["2025-01-01", "2025-01-02"]
        assert server.requested(server.of_assets(choice, days)) == of(choice, days), choice


@pytest.mark.parametrize("group", GROUPS)
def test_days_apart_and_the_latest_day_stay_what_they_are(group: str, server: Server) -> None:
    names = server.partitioned[group]
    for days in (["2026-07-01", "2026-07-05"], [yesterday()]):
        assert server.preview(names, days) == of(names, days)
        assert server.requested(server.of_assets(names, days)) == of(names, days)


@pytest.mark.parametrize("group", GROUPS)
def test_a_day_that_is_not_over_is_not_made(group: str, server: Server) -> None:
    names = server.partitioned[group]
    days = [yesterday(), str(datetime.now(UTC).date())]
    assert server.requested(server.of_assets(names, days)) == of(names, [yesterday()])


def test_the_page_of_a_job_makes_the_days_asked_for(server: Server) -> None:
    jobs = server.partitioned_jobs()
    assert {location for location, *_ in jobs} == set(GROUPS)
    for location, job, names in jobs:
        assert server.requested(server.of_job(location, job, DAYS)) == of(names), job


@pytest.mark.parametrize("group", GROUPS)
def test_the_command_line_s_backfill_of_a_job_makes_the_days_asked_for(
    group: str, server: Server, tmp_path: Path
) -> None:
    [names] = [names for _, job, names in server.partitioned_jobs() if job == f"{group}_daily"]
    module = {"module_name": f"ml_assets.{group}.definitions", "location_name": group}
    workspace = tmp_path / "workspace.yaml"
    workspace.write_text(json.dumps({"load_from": [{"python_module": module}]}))
    before = server.instance.get_runs()
    options = ["-w", str(workspace), "-l", group, "-j", f"{group}_daily", "--noprompt"]
    subprocess.run(
        [
            *(sys.executable, "-m", "dagster", "job", "backfill", *options),
            *("--from", DAYS[0], "--to", DAYS[-1]),
        ],
        check=True,
        cwd=ROOT,
        capture_output=True,
        env={**os.environ, "DAGSTER_HOME": server.instance.root_directory},
    )
    # It starts the runs itself.
    assert server.requested(server.runs_besides(before)) == of(names)


# What later days inherit.


def request_by_condition(server: Server, cursor: str | None) -> tuple[Partitions, str | None]:
    """What the sensor asks for where it is evaluated, in the code location, and its cursor."""
    sensor = tick.defs.get_sensor_def("tick_late_files")
    with dg.build_sensor_context(
        server.instance, cursor=cursor, repository_def=tick.defs.get_repository_def()
    ) as context:
        result = sensor.evaluate_tick(context)
    partitions: Partitions = defaultdict(set)
    for request in result.run_requests:
        subset = request.asset_graph_subset
        chosen = (
            [
                (key, subset.get_partitions_subset(key).get_partition_keys())
                for key in subset.asset_keys
            ]
            if subset
            else [(key, [request.partition_key]) for key in request.asset_selection]
        )
        for key, days in chosen:
            partitions[key.to_user_string()] |= set(days)
    return dict(partitions), result.cursor


def test_what_later_days_inherit_is_asked_for_by_the_conditions(server: Server) -> None:
    """Tables of a past range are made again, in one run: what reads them follows, once."""
    names = server.partitioned["tick"]
    tables = [name for name in names if server.is_table(name)]
    behind = [name for name in names if name not in tables]
    latest = yesterday()
    begin = date.fromisoformat(latest) - timedelta(days=11)
    days = days_between(str(begin), latest)
    server.of_assets(tables, days)
    server.of_assets(behind, [latest])
    partitions, cursor = request_by_condition(server, None)
    assert partitions == {}
    server.of_assets(tables, days[3:5])
    partitions, cursor = request_by_condition(server, cursor)
    # Warm-up reaches five days back.
    assert partitions == {"tick/features": set(days[5:10])}
    server.of_assets(["tick/features"], days[5:10])
    partitions, cursor = request_by_condition(server, cursor)
    assert partitions == of(behind, [latest])
    server.of_assets(behind, [latest])
    partitions, cursor = request_by_condition(server, cursor)
    assert partitions == {}
