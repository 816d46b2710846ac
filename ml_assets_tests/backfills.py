"""Backfills as the web server launches them and the daemon carries them out, without any work.

Runs are noted and count as successful at once. `python -m ml_assets_tests.backfills` prints how
many partitions each launch path requests.
"""

import asyncio
import logging
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from dagster._core.events import DagsterEvent, StepMaterializationData
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus
from dagster._core.launcher import LaunchRunContext, RunLauncher
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import (
    InProcessTestWorkspaceLoadTarget,
    create_test_daemon_workspace_context,
    instance_for_test,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._serdes import ConfigurableClass, ConfigurableClassData
from dagster_graphql.schema import create_schema

ROOT = Path(__file__).parents[1]
LOGGER = logging.getLogger("dagster.backfills")
PREVIEW = """
query($parameters: AssetBackfillPreviewParams!) {
  assetBackfillPreview(params: $parameters) {
    assetKey { path }
    partitions { partitionKeys ranges { start end } }
  }
}
"""
LAUNCH = """
mutation($parameters: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $parameters) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
    ... on PartitionKeysNotFoundError { message }
  }
}
"""
ITERATIONS = 30

Partitions = dict[str, set[str]]
"""Partitions by the name of their asset, such as `power/tuning`."""


class SuccessLauncher(RunLauncher, ConfigurableClass):
    """Does no work: whatever a run was to make counts as made."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        self._inst_data = inst_data
        super().__init__()

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        return self._inst_data

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, _: Any) -> "SuccessLauncher":
        return cls(inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        run = context.dagster_run
        for name, days in planned(self._instance, run).items():
            for day in sorted(days):
                made = dg.AssetMaterialization(dg.AssetKey(name.split("/")), partition=day)
                self._report(run, "ASSET_MATERIALIZATION", StepMaterializationData(made))
        self._report(run, "PIPELINE_SUCCESS", None)

    def _report(self, run: dg.DagsterRun, kind: str, data: Any) -> None:
        event = DagsterEvent(kind, run.job_name, event_specific_data=data)
        self._instance.report_dagster_event(event, run.run_id)

    def terminate(self, run_id: str) -> bool:
        raise NotImplementedError


def planned(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Partitions:
    """What a run says that it is going to make."""
    partitions: Partitions = defaultdict(set)
    first = run.tags.get("dagster/asset_partition_range_start", run.tags.get("dagster/partition"))
    last = run.tags.get("dagster/asset_partition_range_end", first)
    assert first is not None
    assert last is not None
    for entry in instance.all_logs(
        run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    ):
        assert entry.dagster_event
        assert entry.dagster_event.asset_key
        name = entry.dagster_event.asset_key.to_user_string()
        partitions[name] |= set(days_between(first, last))
    return partitions


def days_between(first: str, last: str) -> list[str]:
    begin, end = date.fromisoformat(first), date.fromisoformat(last)
    return [str(begin + timedelta(day)) for day in range((end - begin).days + 1)]


class Server:
    """The web server's GraphQL, and the backfill daemon."""

    def __init__(self, context: WorkspaceProcessContext) -> None:
        self._context, self.instance = context, context.instance
        self._schema = create_schema()
        self.graph = context.create_request_context().asset_graph

    @property
    def partitioned(self) -> dict[str, list[str]]:
        """The partitioned assets of each group that has any, in the order of the graph."""
        names: dict[str, list[str]] = defaultdict(list)
        for level in self.graph.toposorted_asset_keys_by_level:
            for key in sorted(level):
                node = self.graph.get(key)
                if node.partitions_def and node.group_name:
                    names[node.group_name].append(key.to_user_string())
        return names

    def is_table(self, name: str) -> bool:
        """Whether the asset takes a range of days in one run."""
        policy = self.graph.get(dg.AssetKey(name.split("/"))).backfill_policy
        return policy == dg.BackfillPolicy.single_run()

    def partitioned_jobs(self) -> list[tuple[str, str, list[str]]]:
        """The partitioned jobs: their location, their name, and their assets."""
        jobs = []
        for location in self._context.create_request_context().code_locations:
            for repository in location.get_repositories().values():
                for job in repository.get_all_jobs():
                    assets = [
                        node.asset_key.to_user_string()
                        for node in repository.get_asset_node_snaps(job.name)
                        if node.partitions
                    ]
                    if assets and not job.name.startswith("__"):
                        jobs.append((location.name, job.name, sorted(assets)))
        return jobs

    def ask(self, query: str, **parameters: Any) -> Any:
        answer = asyncio.run(
            self._schema.execute_async(
                query,
                context_value=self._context.create_request_context(),
                variable_values={"parameters": parameters},
            )
        )
        assert not answer.errors, answer.errors
        [result] = answer.data.values()
        return result

    def preview(self, names: list[str], days: list[str]) -> Partitions:
        """What the backfill dialog of the asset graph shows."""
        answer = self.ask(PREVIEW, assetSelection=keys_of(names), partitionNames=days)
        partitions: Partitions = {}
        for entry in answer:
            name, chosen = "/".join(entry["assetKey"]["path"]), entry["partitions"]
            partitions[name] = set(chosen["partitionKeys"] or ()).union(
                *(days_between(part["start"], part["end"]) for part in chosen["ranges"] or ())
            )
        return partitions

    def of_assets(self, names: list[str], days: list[str]) -> list[dg.DagsterRun]:
        """*Materialize all*, *Materialize selected*, or the page of one asset."""
        return self._run(assetSelection=keys_of(names), partitionNames=days)

    def of_each_asset(self, names: list[str], days: list[str]) -> list[dg.DagsterRun]:
        """The same with a range for each asset, by `partitionsByAssets`."""
        ranges = {"range": {"start": days[0], "end": days[-1]}}
        chosen = [{"assetKey": key, "partitions": ranges} for key in keys_of(names)]
        return self._run(partitionsByAssets=chosen)

    def of_job(self, location: str, job: str, days: list[str]) -> list[dg.DagsterRun]:
        """The page of a partitioned job."""
        repository = {
            "repositoryLocationName": location,
            "repositoryName": "__repository__",
        }
        selector = {
            "partitionSetName": f"{job}_partition_set",
            "repositorySelector": repository,
        }
        return self._run(selector=selector, partitionNames=days)

    def launch(self, **parameters: Any) -> Any:
        return self.ask(LAUNCH, **parameters)

    def _run(self, **parameters: Any) -> list[dg.DagsterRun]:
        answer = self.launch(**parameters)
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        return self.carry_out()

    def carry_out(self) -> list[dg.DagsterRun]:
        """The runs that the daemon starts until no backfill is left, in their order."""
        before = self.instance.get_runs()
        for _ in range(ITERATIONS):
            for error in execute_backfill_iteration(self._context, LOGGER):
                assert error is None or not hasattr(error, "to_string"), error.to_string()
            if not self.instance.get_backfills(
                filters=BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])
            ):
                break
        else:
            raise TimeoutError(f"the backfill goes on after {ITERATIONS} turns of the daemon")
        return self.runs_besides(before)

    def runs_besides(self, before: Iterable[dg.DagsterRun]) -> list[dg.DagsterRun]:
        """The runs that have been started since, in their order."""
        known = {run.run_id for run in before}
        return [run for run in reversed(self.instance.get_runs()) if run.run_id not in known]

    def requested(self, runs: list[dg.DagsterRun]) -> Partitions:
        """What the runs make together."""
        partitions: Partitions = defaultdict(set)
        for run in runs:
            for name, days in planned(self.instance, run).items():
                partitions[name] |= days
        return dict(partitions)


def keys_of(names: list[str]) -> list[dict[str, list[str]]]:
    """The assets as GraphQL wants them."""
    return [{"path": name.split("/")} for name in names]


@contextmanager
def served() -> Iterator[Server]:
    """All code locations of `workspace.yaml`, and an instance whose runs succeed at once."""
    modules = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    origins = [
        InProcessCodeLocationOrigin(
            LoadableTargetOrigin(
                executable_path=sys.executable,
                module_name=entry["python_module"]["module_name"],
                working_directory=str(ROOT),
            ),
            location_name=entry["python_module"]["location_name"],
        )
        for entry in modules
    ]
    overrides = {
        "run_launcher": {"module": "ml_assets_tests.backfills", "class": "SuccessLauncher"},
        "run_coordinator": {
            "module": "dagster._core.run_coordinator",
            "class": "DefaultRunCoordinator",
        },
    }
    LOGGER.setLevel(logging.WARNING)
    with (
        instance_for_test(overrides=overrides) as instance,
        create_test_daemon_workspace_context(
            InProcessTestWorkspaceLoadTarget(origins), instance
        ) as context,
    ):
        yield Server(context)


def main() -> None:
    """Print for each launch path, group and asset how many partitions two days become."""
    days = ["2026-07-01", "2026-07-02"]
    with served() as server:
        for group, names in server.partitioned.items():
            show(f"{group}: preview of all", server.preview(names, days))
            show(f"{group}: Materialize all", server.requested(server.of_assets(names, days)))
            for name in names:
                show(f"{group}: page of {name}", server.requested(server.of_assets([name], days)))
            each = server.of_each_asset(names, days)
            show(f"{group}: a range each", server.requested(each))
        for location, job, _ in server.partitioned_jobs():
            runs = server.of_job(location, job, days)
            show(f"{location}: job {job}", server.requested(runs))


def show(path: str, partitions: Partitions) -> None:
    counts = Counter(len(days) for days in partitions.values())
    total = sum(len(days) for days in partitions.values())
    last = max(day for days in partitions.values() for day in days)
    each = ", ".join(f"{n} × {count}" for count, n in sorted(counts.items()))
    print(f"{path:45} {total:5} partitions, last {last}; assets × partitions: {each}")


if __name__ == "__main__":
    main()
