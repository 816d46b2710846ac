"""Trainings in MLflow that nobody needs any more: their files go, and they count as deleted.

Which are old is decided by whoever calls; which are needed, by the registry.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from ml_assets.ml.errors import DataError
from ml_assets.ml.places import below
from ml_assets.resources.registry import ModelRegistry

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

_PAGE = 100


def forget_trainings(client: "MlflowClient", experiment_id: str, before: datetime) -> int:
    """Forget the trainings of an experiment that began before a time, but for those needed.

    A training is needed if the registry needs one of its versions.

    Returns:
        How many were forgotten.
    """
    forgotten = 0
    for run in _runs(client, experiment_id, before):
        versions = client.search_model_versions(f"run_id = '{run.info.run_id}'")
        if not any(
            ModelRegistry(client, version.name).needs(str(version.version)) for version in versions
        ):
            for version in versions:
                client.delete_model_version(version.name, str(version.version))
            forget_run(client, run)
            forgotten += 1
    return forgotten


def _runs(client: "MlflowClient", experiment_id: str, before: datetime) -> "Iterator[Run]":
    """This project's runs that began before a time; all are read before the first is deleted."""
    # An experiment may hold what people have tried by hand.
    condition = (
        f"attributes.start_time < {int(before.timestamp() * 1000)} and tags.training_id != ''"
    )
    found, token = [], None
    while True:
        page = client.search_runs([experiment_id], condition, max_results=_PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            return iter(found)


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
        get_artifact_repository(place, tracking_uri=client.tracking_uri).delete_artifacts()
    for model in models:
        client.delete_logged_model(model.model_id)
    client.delete_run(run.info.run_id)


def logged_models(client: "MlflowClient", run: "Run") -> "list[LoggedModel]":
    """The models of a run that nobody has deleted."""
    return list(
        client.search_logged_models(
            [run.info.experiment_id], f"source_run_id = '{run.info.run_id}'"
        )
    )
