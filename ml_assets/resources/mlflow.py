"""MLflow tracking: one finished MLflow run a training, logged after the fact.

Built on dagster-mlflow's convention (the tag `dagster_run_id`, parameters in chunks) but on an
explicit client: its resource sets URI, experiment and active run for the whole process, and
leaves a failed run FINISHED (docs/decisions.md). Aliases and stages: `registry.py`.
"""

import hashlib
import importlib.metadata
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from ml_assets.ml import archive
from ml_assets.resources import artifact_places, deadlines
from ml_assets.resources.database_urls import parsed
from ml_assets.resources.forgetting import (
    find_runs,
    forget_run,
    forget_trainings,
    is_needed,
    logged_models,
)
from ml_assets.resources.registered_model import DELETING
from ml_assets.resources.registry import LoggedRun, ModelRegistry
from ml_assets.settings import setting, without_credentials

if TYPE_CHECKING:
    import keras
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

    from ml_assets.ml.boosting import TrainedForecaster

# A server that hangs fails a step in about half a minute; the retry policy does the rest.
_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
_GIVEN_UP = "given_up"
FORECASTER_FILE = "forecaster.zip"
_DIGEST_LENGTH = 36  # MLflow's limit for the digest of a data set


def _call_seconds(name: str) -> float:
    """How long one of the client's calls may take: a few requests, or the files of a model.

    MLflow limits each silence, and a server that drips is never silent.
    """
    requests = 1 + int(os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"])
    silence = float(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"])
    return silence * requests * (60 if "artifact" in name else 6)


@dataclass(frozen=True)
class Training:
    """What MLflow is told about a training.

    Attributes:
        training_id: Identity of the training; it gets one MLflow run, however often it is logged.
        weights_sha256: Digest of the weights.
        name: Name of the MLflow run.
        parameters: The configuration.
        history: Value of every metric after every epoch.
        metrics: The test metrics, and costs such as `wall_seconds`.
        tags: Versions, digests, and where the training ran.
        pictures: PNG bytes by file name.
        dataset: Name of the data set.
        dataset_source: Where it came from.
        data_digest: Its SHA-256.
    """

    training_id: str
    weights_sha256: str
    name: str
    parameters: Mapping[str, Any]
    history: Mapping[str, list[float]]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    pictures: Mapping[str, bytes]
    dataset: str
    dataset_source: str
    data_digest: str


class MlflowResource(dg.ConfigurableResource):
    """Tracking and registry of one group: its experiment has the group's name."""

    experiment: str = Field(description="Name of the MLflow experiment: the group.")
    tracking_uri: str = Field(description="A server, or a database URI such as `sqlite:///…`.")
    artifact_location: str = Field(description="Where artifacts go when there is no server.")
    ui_url: str = Field(description="Where people look at MLflow, when there is no server.")

    def log(self, training: Training, save_model: Callable[[Path], str]) -> LoggedRun:
        """Log a training as one finished MLflow run.

        The run is FAILED from its creation until all of it is logged, so that it does not stay
        RUNNING when the process is killed. A training that was logged before is not logged twice;
        if two log it at once, neither deletes what the other one may be writing, or has handed on.

        Args:
            training: What to log.
            save_model: Saves the model as an MLflow model in the directory it is given and
                returns the path of the model's file in it.

        Raises:
            dagster.Failure: MLflow does not answer, or refuses.
        """
        with self._reached() as client:
            experiment_id = self._experiment_id(client)
            if done := _find_logged(client, experiment_id, training.training_id):
                return done
            _forget_given_up(client, experiment_id, training.training_id)
            tags = {
                **training.tags,
                "training_id": training.training_id,
                "weights_sha256": training.weights_sha256,
                "data_digest": training.data_digest,
            }
            run = client.create_run(experiment_id, run_name=training.name, tags=tags)
            try:
                client.set_terminated(run.info.run_id, "FAILED")
                logged = _log_all(client, run, training, save_model)
            except BaseException:
                _give_up(client, run)
                raise
            # Nobody can refer to a run that is not finished, so that it may be deleted.
            if done := _find_logged(client, experiment_id, training.training_id):
                forget_run(client, run)
                return done
            client.set_terminated(logged.run_id, "FINISHED")
            # If two finish in the same moment, both stay, and all who come now take the same.
            return _find_logged(client, experiment_id, training.training_id) or logged

    @contextmanager
    def registry(self, name: str) -> Iterator[ModelRegistry]:
        """The registered model `name`.

        Raises:
            dagster.Failure: MLflow does not answer, or refuses.
        """
        with self._reached() as client:
            yield ModelRegistry(client, name)

    def forget(self, before: datetime) -> int:
        """Forget the trainings from before a time that nobody needs, files and all.

        In the database they are marked as deleted; `mlflow gc` removes them there.

        Returns:
            How many there were.

        Raises:
            dagster.Failure: MLflow does not answer, or refuses.
        """
        with self._reached() as client:
            return forget_trainings(client, self._experiment_id(client), before)

    def run_url(self, logged: LoggedRun) -> str:
        """The page of a run."""
        return f"{self._ui()}/#/experiments/{logged.experiment_id}/runs/{logged.run_id}"

    def model_url(self, name: str, version: str) -> str:
        """The page of a model version."""
        return f"{self._ui()}/#/models/{name}/versions/{version}"

    @contextmanager
    def _reached(self) -> Iterator["MlflowClient"]:
        """A client; failures to reach MLflow are reported with what to do about them."""
        if self._is_server() and self.tracking_uri != without_credentials(self.tracking_uri):
            raise dg.Failure(
                f"The MLflow tracking URI of {self.experiment} holds a user name or password, "
                "which would end up in error messages. Remedy: leave them out and set "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.",
                allow_retries=False,
            )
        for variable, value in _DEFAULTS.items():
            os.environ.setdefault(variable, value)
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from requests import RequestException
        from sqlalchemy.exc import SQLAlchemyError

        uri = self.tracking_uri
        if not self._is_server():
            url = parsed(uri, f"MLflow tracking URI of {self.experiment}")
            uri = url.render_as_string(hide_password=False)
        try:
            client = MlflowClient(uri)
            self._refuse_elsewhere(client)
            yield deadlines.bounded(client, _call_seconds) if self._is_server() else client
        except (MlflowException, RequestException, SQLAlchemyError) as error:
            raise dg.Failure(
                f"MLflow for {self.experiment} at {without_credentials(self.tracking_uri)} "
                f"failed: {error}. Expected: a tracking server or database that answers. Remedy: "
                f"start it, or set {self.experiment.upper()}_MLFLOW_TRACKING_URI; then re-execute "
                "the run from the failure: what was trained is kept and is not trained again."
            ) from error

    def _refuse_elsewhere(self, client: "MlflowClient") -> None:
        """Raise unless the files that the database names are those of this data directory."""
        if self._is_server():
            return
        experiment = client.get_experiment_by_name(self.experiment)
        if experiment and artifact_places.elsewhere(
            experiment.artifact_location, self.artifact_location
        ):
            raise dg.Failure(
                f"MLflow for {self.experiment}: expected its files below {self.artifact_location}; "
                f"found {experiment.artifact_location}, which may belong to another data "
                "directory, of which this is a copy. Remedy: make install, or python -m "
                "ml_assets.relocate: after a move, a copy or a restore elsewhere.",
                allow_retries=False,
            )

    def _experiment_id(self, client: "MlflowClient") -> str:
        from mlflow.exceptions import MlflowException

        if experiment := client.get_experiment_by_name(self.experiment):
            return experiment.experiment_id
        location = None if self._is_server() else f"{self.artifact_location}/{self.experiment}"
        try:
            return client.create_experiment(self.experiment, location)
        except MlflowException:
            # Somebody else created it a moment ago.
            if experiment := client.get_experiment_by_name(self.experiment):
                return experiment.experiment_id
            raise

    def _is_server(self) -> bool:
        return self.tracking_uri.startswith("http")

    def _ui(self) -> str:
        # A server has another address for people where only a proxy lets them in.
        url = without_credentials(self.tracking_uri) if self._is_server() else self.ui_url
        return setting(self.experiment, "MLFLOW_UI_URL", url).rstrip("/")


def save_keras_model(model: "keras.Model", directory: Path) -> str:
    """Save `model` as an MLflow model with its signature and pinned requirements.

    Returns:
        The path of the `.keras` file in `directory`.
    """
    import mlflow.keras
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    def specification(tensor: Any) -> Schema:
        return Schema([TensorSpec(np.dtype(tensor.dtype), (-1, *tensor.shape[1:]))])

    mlflow.keras.save_model(
        model,
        str(directory),
        signature=ModelSignature(
            inputs=specification(model.inputs[0]), outputs=specification(model.outputs[0])
        ),
        pip_requirements=[
            f"{package}=={importlib.metadata.version(package)}"
            for package in ("keras", "tensorflow", "numpy")
        ],
    )
    return "data/model.keras"


def save_forecaster(trained: "TrainedForecaster", directory: Path) -> str:
    """Save a forecaster as an MLflow model: its point booster, and beside it all of it.

    `mlflow.lightgbm.load_model` gives the point booster; the interval is in the archive.

    Returns:
        The path of the archive in `directory`.
    """
    import mlflow.lightgbm
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    mlflow.lightgbm.save_model(
        trained.point,
        str(directory),
        signature=ModelSignature(
            inputs=Schema([ColSpec("float", name) for name in trained.point.feature_name()]),
            outputs=Schema([ColSpec("double")]),
        ),
        pip_requirements=[
            f"{package}=={importlib.metadata.version(package)}" for package in ("lightgbm", "numpy")
        ],
    )
    (directory / FORECASTER_FILE).write_bytes(archive.to_bytes(trained))
    return FORECASTER_FILE


def _find_logged(client: "MlflowClient", experiment_id: str, training_id: str) -> LoggedRun | None:
    """The finished run of a training that still has its model; of several, the first."""
    runs = _attempts(client, experiment_id, training_id)
    for run in sorted(runs, key=lambda run: (run.info.end_time or 0, run.info.run_id)):
        model = _finished_model(client, run)
        if model and DELETING not in run.data.tags:
            return LoggedRun(
                run_id=run.info.run_id,
                experiment_id=experiment_id,
                model_id=model.model_id,
                location=model.artifact_location,
                model_file=model.tags["model_file"],
                model_sha256=model.tags["sha256"],
                weights_sha256=run.data.tags["weights_sha256"],
                training_id=training_id,
            )
    return None


def _finished_model(client: "MlflowClient", run: "Run") -> "LoggedModel | None":
    """The model of a run that is finished, unless somebody deleted it."""
    if run.info.status != "FINISHED" or not run.outputs:
        return None
    own = {found.model_id for found in run.outputs.model_outputs}
    return next((one for one in logged_models(client, run) if one.model_id in own), None)


def _attempts(client: "MlflowClient", experiment_id: str, training_id: str) -> "list[Run]":
    return find_runs(client, experiment_id, f"tags.training_id = '{training_id}'")


def _give_up(client: "MlflowClient", run: "Run") -> None:
    """Mark an attempt that failed; of one without a mark, somebody may still be at it."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    # Retention deletes it too if MLflow does not answer now.
    with suppress(MlflowException, RequestException, SQLAlchemyError):
        client.set_tag(run.info.run_id, _GIVEN_UP, "true")


def _forget_given_up(client: "MlflowClient", experiment_id: str, training_id: str) -> None:
    """Delete attempts that whoever made them gave up, and runs that lost their model.

    Any other that is not finished may be somebody's who is at it: retention deletes it in time.
    """
    for run in _attempts(client, experiment_id, training_id):
        finished = run.info.status == "FINISHED"
        lost = finished and not _finished_model(client, run)
        if (lost or (not finished and _GIVEN_UP in run.data.tags)) and not is_needed(client, run):
            forget_run(client, run)


def _log_all(
    client: "MlflowClient", run: "Run", training: Training, save_model: Callable[[Path], str]
) -> LoggedRun:
    run_id = run.info.run_id
    _log_numbers(client, run_id, training)
    _log_dataset(client, run_id, training)
    with tempfile.TemporaryDirectory() as directory:
        for name, png in training.pictures.items():
            (Path(directory) / name).write_bytes(png)
        client.log_artifacts(run_id, directory, "pictures")
    return _log_model(client, run, training, save_model)


def _log_numbers(client: "MlflowClient", run_id: str, training: Training) -> None:
    from dagster_mlflow.resources import MlFlow
    from mlflow.entities import Metric, Param

    for chunk in MlFlow.chunks(dict(training.parameters), 100):
        client.log_batch(run_id, params=[Param(name, str(value)) for name, value in chunk.items()])
    now = int(time.time() * 1000)
    metrics = [
        Metric(name, value, now, epoch)
        for name, values in training.history.items()
        for epoch, value in enumerate(values, start=1)
    ]
    last = max((metric.step for metric in metrics), default=0)
    metrics += [Metric(name, value, now, last) for name, value in training.metrics.items()]
    for start in range(0, len(metrics), 1000):
        client.log_batch(run_id, metrics=metrics[start : start + 1000])


def _log_dataset(client: "MlflowClient", run_id: str, training: Training) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=training.dataset,
        digest=training.data_digest[:_DIGEST_LENGTH],
        source_type="http" if "://" in training.dataset_source else "local",
        source=json.dumps({"uri": training.dataset_source}),
    )
    client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "train")])])


def _log_model(
    client: "MlflowClient", run: "Run", training: Training, save_model: Callable[[Path], str]
) -> LoggedRun:
    from mlflow.entities import LoggedModelOutput

    run_id, experiment_id = run.info.run_id, run.info.experiment_id
    with tempfile.TemporaryDirectory() as parent:
        directory = Path(parent) / "model"
        model_file = save_model(directory)
        sha256 = hashlib.sha256((directory / model_file).read_bytes()).hexdigest()
        model = client.create_logged_model(
            experiment_id,
            name=training.name,
            source_run_id=run_id,
            tags={"sha256": sha256, "model_file": model_file},
            params={name: str(value) for name, value in training.parameters.items()},
        )
        client.log_model_artifacts(model.model_id, str(directory))
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return LoggedRun(
        run_id=run_id,
        experiment_id=experiment_id,
        model_id=model.model_id,
        location=model.artifact_location,
        model_file=model_file,
        model_sha256=sha256,
        weights_sha256=training.weights_sha256,
        training_id=training.training_id,
    )
