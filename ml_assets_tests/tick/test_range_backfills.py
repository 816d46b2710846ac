"""Backfills with a day that cannot be made, by the daemon and the web server's GraphQL."""

import asyncio
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import (
    InProcessTestWorkspaceLoadTarget,
    create_test_daemon_workspace_context,
    instance_for_test,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._daemon.backfill import execute_backfill_iteration
from dagster_graphql.schema import create_schema

from ml_assets import reexecute
from ml_assets.monitoring import watch
from ml_assets.monitoring.ledger import Ledger
from ml_assets_tests.tick import group
from ml_assets_tests.tick.group import NAMES
from ml_assets_tests.tick.range_location import DIES_AT, HOME

DAYS = [f"2025-04-{day:02}" for day in range(7, 12)]
BAD = DAYS[2]
KEYS = [dg.AssetKey(["tick", name]) for name in NAMES]
LOGGER = logging.getLogger("dagster.ranges")
LAUNCH = """mutation ($parameters: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $parameters) {
    ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
FAILED_ONLY = """mutation ($parameters: ReexecutionParams!) {
  reexecutePartitionBackfill(reexecutionParams: $parameters) {
    ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
STATUS = """query ($id: String!) { partitionBackfillOrError(backfillId: $id) {
  ... on PartitionBackfill { assetBackfillData { assetBackfillStatuses {
    ... on AssetPartitionsStatusCounts { assetKey { path }
      numPartitionsMaterialized numPartitionsFailed numPartitionsInProgress } } } } } }"""


class House:
    """The instance, the web server's GraphQL and the backfill daemon; runs end at once."""

    def __init__(self, context: Any, inbox: Path) -> None:
        self.context, self.instance, self.inbox = context, context.instance, inbox
        self._schema = create_schema()

    def ask(self, _url: str, query: str, **variables: Any) -> Any:
        answer = asyncio.run(
            self._schema.execute_async(
                query,
                context_value=self.context.create_request_context(),
                variable_values=variables,
            )
        )
        assert not answer.errors, answer.errors
        return answer.data

    def backfill(self) -> str:
        """Launch all tables of all days, as *Materialize all…* does; the backfill's end."""
        keys = [{"path": list(key.path)} for key in KEYS]
        parameters = {"assetSelection": keys, "partitionNames": DAYS}
        answer = self.ask("", LAUNCH, parameters=parameters)["launchPartitionBackfill"]
        return self._carried_out(answer["backfillId"])

    def failed_only(self, backfill: str) -> str:
        """*Re-execute from failure* on the backfill's page."""
        parameters = {"parentRunId": backfill, "strategy": "FROM_FAILURE"}
        answer = self.ask("", FAILED_ONLY, parameters=parameters)["reexecutePartitionBackfill"]
        return self._carried_out(answer["backfillId"])

    def _carried_out(self, backfill: str) -> str:
        for _ in range(20):
            for error in execute_backfill_iteration(self.context, LOGGER):
                assert error is None or not hasattr(error, "to_string"), error.to_string()
            if self.instance.get_backfill(backfill).status != BulkActionStatus.REQUESTED:
                return backfill
        raise TimeoutError(f"the backfill {backfill} goes on")

    def counts(self, backfill: str) -> dict[str, tuple[int, int, int]]:
        """How many days of each asset are materialized, failed and in progress, as the UI says."""
        data = self.ask("", STATUS, id=backfill)["partitionBackfillOrError"]["assetBackfillData"]
        return {
            entry["assetKey"]["path"][-1]: (
                entry["numPartitionsMaterialized"],
                entry["numPartitionsFailed"],
                entry["numPartitionsInProgress"],
            )
            for entry in data["assetBackfillStatuses"]
        }

    def made(self) -> dict[str, set[str]]:
        return {key.path[-1]: set(self.instance.get_materialized_partitions(key)) for key in KEYS}

    def runs(self) -> list[dg.DagsterRun]:
        """The oldest first."""
        return list(reversed(self.instance.get_runs()))

    def events(self, run: dg.DagsterRun) -> dict[str, list[str]]:
        """The days that a run stored, by table."""
        found: dict[str, list[str]] = {name: [] for name in NAMES}
        for entry in self.instance.all_logs(
            run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
        ):
            event = entry.dagster_event
            found[event.asset_key.path[-1]].append(event.partition)
        return found

    def damage(self, day: str) -> None:
        path = self.inbox / f"{day}.parquet"
        path.write_bytes(path.read_bytes()[:-5000])

    def mend(self, day: str) -> None:
        group.moved(day, DAYS.index(day)).write_parquet(self.inbox / f"{day}.parquet")


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setenv(HOME, str(tmp_path))
    monkeypatch.setenv("ML_ASSETS_RETRY_DELAY_SECONDS", "0")
    group.files(tmp_path / "inbox", DAYS)
    for remembered in (
        ReconstructableJob.get_definition,
        ReconstructableJob.get_repository_definition,
        ReconstructableRepository.get_definition,
    ):
        getattr(remembered, "cache_clear", bool)()  # or it is that of the test before
    module = "ml_assets_tests.tick.range_location"
    origin = InProcessCodeLocationOrigin(
        LoadableTargetOrigin(executable_path=sys.executable, module_name=module),
        location_name="tick",
    )
    coordinator = {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"}
    overrides = {
        "run_launcher": {"module": module, "class": "Launcher"},
        "run_coordinator": coordinator,
    }
    LOGGER.setLevel(logging.WARNING)
    target = InProcessTestWorkspaceLoadTarget([origin])
    with (
        instance_for_test(overrides=overrides, set_dagster_home=True) as instance,
        create_test_daemon_workspace_context(target, instance) as context,
    ):
        yield House(context, tmp_path / "inbox")


def test_one_truncated_file_fails_its_day_and_failed_and_missing_only_does_that_day(
    house: House,
) -> None:
    house.damage(BAD)
    backfill = house.backfill()
    [run] = house.runs()
    assert run.status == dg.DagsterRunStatus.FAILURE
    good = set(DAYS) - {BAD}
    assert house.made() == dict.fromkeys(NAMES, good)
    assert house.counts(backfill) == dict.fromkeys(NAMES, (4, 1, 0))

    # Who is told, is told which day and why.
    alerts = watch.runs(house.instance, Ledger(0.0), "http://127.0.0.1:3000")
    [alert] = [alert for alert in alerts if not alert.recovered]
    assert alert.details["tick__raw_ticks"].startswith(
        f"tick/raw_ticks, partition {DAYS[0]} to {DAYS[-1]}: 1 of 5 days could not be made: {BAD}"
    )
    assert f"{BAD}.parquet" in alert.details["tick__raw_ticks"]

    # The same again, still damaged: it fails alone, and nothing else is done.
    again = house.failed_only(backfill)
    assert house.counts(again) == dict.fromkeys(NAMES, (0, 1, 0))
    assert house.events(house.runs()[-1]) == {name: [] for name in NAMES}

    house.mend(BAD)
    last = house.failed_only(again)
    assert house.counts(last) == dict.fromkeys(NAMES, (1, 0, 0))
    assert house.events(house.runs()[-1]) == {name: [BAD] for name in NAMES}
    assert house.made() == {name: set(DAYS) for name in NAMES}


def test_a_run_that_is_re_executed_from_its_failure_does_only_what_is_missing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.damage(BAD)
    house.backfill()
    [failed] = house.runs()
    monkeypatch.setattr(reexecute, "ask", house.ask)
    assert reexecute.failed_runs("") == [failed.run_id]
    house.ask("", reexecute._REEXECUTE, run=failed.run_id)
    still = house.runs()[-1]
    assert still.status == dg.DagsterRunStatus.FAILURE
    assert house.events(still) == {name: [] for name in NAMES}
    house.mend(BAD)
    assert reexecute.failed_runs("") == [still.run_id]
    house.ask("", reexecute._REEXECUTE, run=still.run_id)
    assert house.runs()[-1].status == dg.DagsterRunStatus.SUCCESS
    assert house.events(house.runs()[-1]) == {name: [BAD] for name in NAMES}
    assert reexecute.failed_runs("") == []


def test_a_killed_range_keeps_what_was_stored_and_goes_on_with_the_rest(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.damage(DAYS[0])
    monkeypatch.setenv(DIES_AT, DAYS[3])
    house.backfill()
    [killed] = house.runs()
    assert killed.status == dg.DagsterRunStatus.FAILURE
    before = house.events(killed)
    assert before["raw_ticks"] == DAYS[1:]
    assert set(before["ticks"]) <= set(DAYS[1:3])
    assert house.made()["ticks"] == set(before["ticks"])

    monkeypatch.delenv(DIES_AT)
    house.mend(DAYS[0])
    house.ask("", reexecute._REEXECUTE, run=killed.run_id)
    rest = house.events(house.runs()[-1])
    assert house.runs()[-1].status == dg.DagsterRunStatus.SUCCESS
    assert rest["raw_ticks"] == [DAYS[0]]
    assert sorted(before["ticks"] + rest["ticks"]) == DAYS
    assert house.made() == {name: set(DAYS) for name in NAMES}
