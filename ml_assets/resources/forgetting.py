"""Trainings in MLflow that nobody needs any more: their files go, and they count as deleted.

Which are old is decided by whoever calls; which are needed, by the registry.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ml_assets.ml.errors import DataError
from ml_assets.ml.places import below
from ml_assets.resources.registered_model import DELETING
from ml_assets.resources.registry import ModelRegistry

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion

_ALIVE = timedelta(days=1)
"""So long somebody may be at logging a training; it takes seconds."""
_PAGE = 100


def forget_trainings(client: "MlflowClient", experiment_id: str, before: datetime) -> int:
    """Forget the trainings of an experiment that began before a time, but for those needed.

    A training is needed if the registry needs one of its versions. What was not logged to its end
    is not kept so long: after a day nobody is at it any more.

    Returns:
        How many were forgotten.
    """
    broken_off = max(before, datetime.now(UTC) - _ALIVE)
    forgotten = 0
    for run in _runs(client, experiment_id, broken_off):
        old = run.info.start_time < before.timestamp() * 1000 or run.info.status != "FINISHED"
        if not old or is_needed(client, run):
            continue
        client.set_tag(run.info.run_id, DELETING, "true")
        # Asked again: it may have been registered before the mark could be seen.
        if is_needed(client, run):
            client.delete_tag(run.info.run_id, DELETING)
            continue
        for version in _versions(client, run):
            with passing_over_what_is_gone():
                client.delete_model_version(version.name, str(version.version))
        forget_run(client, run)
        forgotten += 1
    return forgotten


def is_needed(client: "MlflowClient", run: "Run") -> bool:
    """Whether the registry needs a version of a run."""
    return any(
        ModelRegistry(client, version.name).needs(str(version.version))
        for version in _versions(client, run)
    )


def _versions(client: "MlflowClient", run: "Run") -> "list[ModelVersion]":
    return list(client.search_model_versions(f"run_id = '{run.info.run_id}'"))


def _runs(client: "MlflowClient", experiment_id: str, before: datetime) -> "list[Run]":
    """This project's runs that began before a time; all are read before the first is deleted."""
    # An experiment may hold what people have tried by hand.
    return find_runs(
        client,
        experiment_id,
        f"attributes.start_time < {int(before.timestamp() * 1000)} and tags.training_id != ''",
    )


def find_runs(client: "MlflowClient", experiment_id: str, condition: str) -> "list[Run]":
    """All runs of an experiment for which a condition holds."""
    found, token = [], None
    while True:
        page = client.search_runs([experiment_id], condition, max_results=_PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def forget_run(client: "MlflowClient", run: "Run") -> None:
    """Delete the files of a run and its models, also of one that broke off, then the run itself.

    The run comes last: what is interrupted is found again.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    models = logged_models(client, run)
    own = client.get_experiment(run.info.experiment_id).artifact_location
    for place in [*(model.artifact_location for model in models), run.info.artifact_uri]:
        if not below(place, own):
            raise DataError(
                f"the files of the MLflow run {run.info.run_id} below {own}, where its experiment "
                "has its own",
                place,
                "find out who registered it there, and delete the run by hand",
            )
        with passing_over_what_is_gone():
            get_artifact_repository(place, tracking_uri=client.tracking_uri).delete_artifacts()
    for model in models:
        with passing_over_what_is_gone():
            client.delete_logged_model(model.model_id)
    with passing_over_what_is_gone():
        client.delete_run(run.info.run_id)


@contextmanager
def passing_over_what_is_gone() -> Iterator[None]:
    """Somebody else deletes the same, and was quicker."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

    try:
        yield
    except FileNotFoundError:
        pass
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            raise


def logged_models(client: "MlflowClient", run: "Run") -> "list[LoggedModel]":
    """The models of a run that nobody has deleted."""
    return list(
        client.search_logged_models(
            [run.info.experiment_id], f"source_run_id = '{run.info.run_id}'"
        )
    )
