"""How runs are launched, looked after and interrupted.

The launcher's part is held by `test_run_launcher.py`, the executor's by `test_restart.py`.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import dagster as dg

# A launcher that can say how a run is has to answer in the run monitor's own terms.
from dagster._core.errors import (
    DagsterExecutionInterruptedError,
    DagsterUserCodeProcessError,
    DagsterUserCodeUnreachableError,
)
from dagster._core.executor.in_process import InProcessExecutor
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.storage.tags import (
    AUTO_RETRY_RUN_ID_TAG,
    GRPC_INFO_TAG,
    MAX_RETRIES_TAG,
    WILL_RETRY_TAG,
)

# There is no public client that asks a code server what it executes.
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value
from dagster._utils.error import SerializableErrorInfo

__all__ = [
    "AUTO_RETRY_RUN_ID_TAG",
    "GRPC_INFO_TAG",
    "MAX_RETRIES_TAG",
    "WILL_RETRY_TAG",
    "CanCancelExecutionRequest",
    "CanCancelExecutionResult",
    "CheckRunHealthResult",
    "DagsterExecutionInterruptedError",
    "DagsterGrpcClient",
    "DagsterUserCodeProcessError",
    "DagsterUserCodeUnreachableError",
    "DefaultRunLauncher",
    "WorkerStatus",
    "deserialize_value",
    "in_process_executor",
]

Surroundings = Callable[[dg.DagsterInstance, dg.DagsterRun], AbstractContextManager[None]]


def in_process_executor(surroundings: Surroundings) -> dg.ExecutorDefinition:
    """`dg.in_process_executor`, with all steps of a run executed within `surroundings`.

    An executor is the one thing that every run of a code location has, however it was launched.
    """

    @dg.executor(name="in_process", config_schema=dg.in_process_executor.config_schema.as_field())
    def executor(context: dg.InitExecutorContext) -> InProcessExecutor:
        create: Any = dg.in_process_executor.executor_creation_fn
        return _Executor(surroundings, create(context))

    return executor


class _Executor(InProcessExecutor):
    """Dagster's, within surroundings."""

    def __init__(self, surroundings: Surroundings, base: Any) -> None:
        super().__init__(base.retries, base.step_dependency_config)
        self._surroundings = surroundings

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
        """Execute the steps of a run; end it when it is interrupted.

        Dagster would try the interrupted step again after the delay of its retry policy: a run
        that is terminated, or asked to stop, would train on.
        """
        with self._surroundings(plan_context.instance, plan_context.dagster_run):
            for event in super().execute(plan_context, execution_plan):
                yield event
                if _was_interrupted(event):
                    raise DagsterExecutionInterruptedError("The run was asked to stop.")


def _was_interrupted(event: dg.DagsterEvent) -> bool:
    """Whether a step ended, for good or until it is tried again, because of an interrupt."""
    error: SerializableErrorInfo | None
    if event.is_step_up_for_retry:
        error = event.step_retry_data.error
    elif event.is_step_failure:
        error = event.step_failure_data.error
    else:
        return False
    interrupts = {DagsterExecutionInterruptedError.__name__, KeyboardInterrupt.__name__}
    while error and error.cls_name not in interrupts:
        error = error.cause
    return error is not None
