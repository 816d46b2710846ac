"""What Dagster offers by no public name; `ml_assets_tests/test_range_events.py` holds it.

In public a step over a range of partitions has either all of them materialized or none. Here it
tells of each partition what Dagster itself would, tells in the run's log why some failed and goes
on, and learns what else its run executes.
"""

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

import dagster as dg
from dagster import DagsterEventType
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.definitions.assets.definition.asset_spec import AssetExecutionType
from dagster._core.definitions.data_version import DATA_VERSION_TAG, DataVersion
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION
from dagster._core.events import DagsterEvent
from dagster._core.execution.context.system import StepExecutionContext
from dagster._core.execution.plan.execute_step import _get_output_asset_events
from dagster._core.execution.plan.objects import StepFailureData, UserFailureData
from dagster._core.storage.tags import RESUME_RETRY_TAG
from dagster._utils.error import serializable_error_info_from_exc_info

Context = dg.AssetExecutionContext | dg.AssetCheckExecutionContext

REPORTED = {SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True}
"""The metadata of a result of which Dagster reports no partition, because all are reported."""


class Materializations:
    """Events of partitions of a step's asset one by one, with the tags that Dagster gives them.

    What a partition was made of is told by the partitions that it alone depends on: a partition of
    a range has the same data version as when it is made by itself.
    """

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        self._context, self._step = context, _step(context)
        self._output = self._step.op_def.output_def_named(
            context.assets_def.get_output_name_for_asset_key(context.asset_key)
        )
        self._known: dict[dg.AssetKey, dict[str, str]] = {}

    def event(self, partition: str, metadata: Mapping[str, Any]) -> dg.AssetMaterialization:
        """What the step yields when the partition is stored."""
        cache = self._step._data_version_cache
        cache.values.pop(self._context.asset_key, None)  # that of the partition before
        for parent, version in self._versions(partition):
            if known := cache.input_asset_version_info.get(parent):
                found = dataclasses.replace(known, data_version=version)
                cache.input_asset_version_info[parent] = found
        output: Any = dg.Output(None, output_name=self._output.name, metadata=metadata)
        [event] = _get_output_asset_events(
            self._context.asset_key,
            [partition],
            output,
            self._output,
            {},
            self._step,
            AssetExecutionType.MATERIALIZATION,
        )
        assert isinstance(event, dg.AssetMaterialization)  # noqa: S101 - asked for by its type
        return event

    def _versions(self, partition: str) -> Iterator[tuple[dg.AssetKey, DataVersion]]:
        """The data versions of what the partition depends on, as Dagster tells them of one."""
        definition, layer = self._context.assets_def, self._step.job_def.asset_layer
        own = definition.partitions_def
        for parent in layer.get(self._context.asset_key).parent_keys:
            other = layer.get(parent).partitions_def
            if own is None or other is None:
                continue
            mapping = definition.infer_partition_mapping(self._context.asset_key, parent, other)
            needed = mapping.get_upstream_mapped_partitions_result_for_partitions(
                own.subset_with_partition_keys([partition]), own, other
            ).partitions_subset.get_partition_keys()
            known = self._versions_of(parent)
            told = "".join(known[day] for day in sorted(needed) if day in known)
            yield parent, DataVersion(sha256(told.encode()).hexdigest())

    def _versions_of(self, parent: dg.AssetKey) -> dict[str, str]:
        """The data versions of the partitions of an asset that are there."""
        if parent not in self._known:
            tags = self._context.instance.event_log_storage.get_latest_tags_by_partition(
                parent, DagsterEventType.ASSET_MATERIALIZATION, [DATA_VERSION_TAG]
            )
            self._known[parent] = {day: found[DATA_VERSION_TAG] for day, found in tags.items()}
        return self._known[parent]


def evaluations(
    context: dg.AssetCheckExecutionContext, results: Mapping[str, dg.AssetCheckResult]
) -> list[dg.AssetCheckEvaluation]:
    """What Dagster would store of the results of a check, each of a partition."""
    [spec] = context.check_specs
    storage = context.instance.event_log_storage
    latest = storage.get_latest_storage_id_by_partition(
        spec.asset_key, DagsterEventType.ASSET_MATERIALIZATION, set(results)
    )
    found = storage.get_asset_event_summary_records(
        DagsterEventType.ASSET_MATERIALIZATION, spec.asset_key, storage_ids=list(latest.values())
    )
    targets = {
        str(record.partition): AssetCheckEvaluationTargetMaterializationData(
            storage_id=record.storage_id, run_id=str(record.run_id), timestamp=record.timestamp
        )
        for record in found
    }
    return [
        dg.AssetCheckEvaluation(
            asset_key=spec.asset_key,
            check_name=spec.name,
            passed=result.passed,
            metadata=result.metadata,
            target_materialization_data=targets.get(partition),
            severity=result.severity,
            blocking=spec.blocking,
            partition=partition,
        )
        for partition, result in results.items()
    ]


def log_failure(context: Context, failure: dg.Failure) -> None:
    """Store the event that the step failed, and go on: what comes after it is executed.

    By this event a re-execution from the failure executes the step again.
    """
    try:
        raise failure
    except dg.Failure:
        error = serializable_error_info_from_exc_info(sys.exc_info())
    told = UserFailureData("intentional-failure", failure.description, failure.metadata)
    DagsterEvent.step_failure_event(_step(context), StepFailureData(error, told))


def failures(context: Context) -> Iterator[tuple[str, Mapping[str, dg.MetadataValue]]]:
    """The steps of this run that failed so far, by `log_failure` too, and their metadata."""
    run_id = context.op_execution_context.run_id
    for entry in context.instance.all_logs(run_id, of_type=DagsterEventType.STEP_FAILURE):
        told = entry.dagster_event and entry.dagster_event.step_failure_data.user_failure_data
        if told:
            yield str(entry.step_key), told.metadata


def stored(context: dg.AssetExecutionContext) -> set[str]:
    """The partitions of the asset that the run stored, and the runs that it goes on from."""
    run, found = context.run, set()
    while run:
        records = context.instance.event_log_storage.get_asset_event_summary_records(
            DagsterEventType.ASSET_MATERIALIZATION, context.asset_key, run_id=run.run_id
        )
        found |= {str(record.partition) for record in records}
        resumes = run.tags.get(RESUME_RETRY_TAG) == "true" and run.parent_run_id
        run = context.instance.get_run_by_id(resumes) if resumes else None  # type: ignore[assignment]
    return found


def range_assets_after(context: Context) -> bool:
    """Whether the run executes assets downstream of this step that take a range in one run."""
    # The plan of a step may know no other: an executor may give each a process of its own.
    layer, chosen = _step(context).job_def.asset_layer, context.run.step_keys_to_execute
    executed = {
        key
        for key in layer.executable_asset_keys
        if not chosen or key.to_python_identifier() in chosen
    }
    keys = {key for key in _keys(context) if layer.has(key)}
    while keys := {child for key in keys for child in layer.get(key).child_keys}:
        if any(
            key in executed and layer.get(key).backfill_policy == dg.BackfillPolicy.single_run()
            for key in keys
        ):
            return True
    return False


def _keys(context: Context) -> set[dg.AssetKey]:
    """The asset that the step makes or checks."""
    if isinstance(context, dg.AssetExecutionContext):
        return {context.asset_key}
    return {spec.asset_key for spec in context.check_specs}


def _step(context: Context) -> StepExecutionContext:
    return context.op_execution_context.get_step_execution_context()
