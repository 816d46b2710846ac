from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError

from ml_assets.resources.mlflow import MlflowResource, Training, save_keras_model
from ml_assets_tests.servers import failing_server, hanging_server

TRAINING = Training(
    training_id="t1",
    weights_sha256="w" * 64,
    name="mnist-simple",
    parameters={"seed": 3, **{f"parameter_{number}": number for number in range(150)}},
    history={"loss": [2.0, 1.0], "accuracy": [0.5, 0.9]},
    metrics={"test_accuracy": 0.88},
    tags={"dagster_run_id": "r1", "code_version": "c1"},
    pictures={"curves.png": b"png"},
    dataset="mnist",
    dataset_source="sample",
    data_digest="d" * 64,
)


def save_text(directory: Path) -> str:
    """Stands for a model: what is saved is the group's business."""
    directory.mkdir()
    (directory / "model.txt").write_text("weights")
    return "model.txt"


def only_run(resource: MlflowResource):
    client = MlflowClient(resource.tracking_uri)
    [experiment] = [found for found in client.search_experiments() if found.name == "mnist"]
    [run] = client.search_runs([experiment.experiment_id])
    return client, run


def test_a_training_becomes_one_finished_run(mlflow_resource: MlflowResource) -> None:
    logged = mlflow_resource.log(TRAINING, save_text)
    client, run = only_run(mlflow_resource)
    assert run.info.run_id == logged.run_id
    assert run.info.status == "FINISHED"
    assert run.info.end_time is not None
    assert run.data.tags["dagster_run_id"] == "r1"
    assert run.data.tags["weights_sha256"] == "w" * 64
    assert run.data.tags["data_digest"] == "d" * 64
    assert run.data.params["seed"] == "3"
    assert len(run.data.params) == 151
    assert run.data.metrics["test_accuracy"] == 0.88
    history = client.get_metric_history(logged.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 2.0), (2, 1.0)]
    assert [file.path for file in client.list_artifacts(logged.run_id, "pictures")] == [
        "pictures/curves.png"
    ]
    assert run.inputs.dataset_inputs[0].dataset.name == "mnist"
    assert run.inputs.dataset_inputs[0].dataset.digest == "d" * 36
    model = client.get_logged_model(logged.model_id)
    assert model.status == "READY"
    assert model.tags["sha256"] == logged.model_sha256


def test_a_training_that_was_logged_is_not_logged_again(mlflow_resource: MlflowResource) -> None:
    first = mlflow_resource.log(TRAINING, save_text)
    assert mlflow_resource.log(TRAINING, save_text) == first
    only_run(mlflow_resource)


def test_a_failure_leaves_a_failed_run_and_the_next_try_replaces_it(
    mlflow_resource: MlflowResource,
) -> None:
    seen = []

    def killed(directory: Path) -> str:
        seen.append(only_run(mlflow_resource)[1].info.status)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mlflow_resource.log(TRAINING, killed)
    assert seen == ["FAILED"]
    assert only_run(mlflow_resource)[1].info.status == "FAILED"
    mlflow_resource.log(TRAINING, save_text)
    assert only_run(mlflow_resource)[1].info.status == "FINISHED"


def test_the_files_of_an_attempt_that_broke_off_are_deleted(
    mlflow_resource: MlflowResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks_off(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(MlflowClient, "finalize_logged_model", breaks_off)
        with pytest.raises(KeyboardInterrupt):
            mlflow_resource.log(TRAINING, save_text)
    mlflow_resource.log(TRAINING, save_text)
    kept = list(Path(mlflow_resource.artifact_location).rglob("model.txt"))
    assert len(kept) == 1


def test_a_keras_model_keeps_signature_and_pinned_requirements(tmp_path: Path) -> None:
    import keras
    import mlflow.models

    model = keras.Sequential([keras.layers.Input((28, 28, 1)), keras.layers.Flatten()])
    assert save_keras_model(model, tmp_path / "model") == "data/model.keras"
    signature = mlflow.models.Model.load(str(tmp_path / "model")).signature
    assert signature.inputs.inputs[0].shape == (-1, 28, 28, 1)
    assert signature.outputs.inputs[0].shape == (-1, 784)
    requirements = (tmp_path / "model" / "requirements.txt").read_text().splitlines()
    assert {line.split("==")[0] for line in requirements} == {
        "keras",
        "mlflow",
        "numpy",
        "tensorflow",
    }
    assert all("==" in line for line in requirements)
    assert not [path for path in (tmp_path / "model").rglob("*") if "pickle" in path.name]


def server(resource: MlflowResource, uri: str) -> MlflowResource:
    return MlflowResource(**{**resource.model_dump(), "tracking_uri": uri})


@pytest.fixture
def hanging() -> Iterator[str]:
    with hanging_server() as url:
        yield url


@pytest.fixture
def broken() -> Iterator[str]:
    with failing_server() as url:
        yield url


@pytest.mark.parametrize("fault", ["hanging", "broken", "down"])
def test_an_unusable_server_fails_with_the_remedy(
    fault: str, mlflow_resource: MlflowResource, request: pytest.FixtureRequest
) -> None:
    uri = "http://127.0.0.1:9" if fault == "down" else request.getfixturevalue(fault)
    with pytest.raises(dg.Failure) as failure:
        server(mlflow_resource, uri).log(TRAINING, save_text)
    assert isinstance(failure.value.__cause__, MlflowException)
    assert "MNIST_MLFLOW_TRACKING_URI" in str(failure.value.description)
    assert "not trained again" in str(failure.value.description)


def test_a_database_that_cannot_be_opened_fails_with_the_remedy(
    mlflow_resource: MlflowResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    asked = []

    def unreachable(uri: str) -> None:
        asked.append(uri)
        raise OperationalError("SELECT 1", None, ConnectionError("no answer"))

    monkeypatch.setattr(mlflow, "MlflowClient", unreachable)
    with pytest.raises(dg.Failure) as failure:
        server(mlflow_resource, "postgresql://someone:secret@host/db").log(TRAINING, save_text)
    assert asked == ["postgresql+psycopg2://someone:secret@host/db"]
    assert "at postgresql://host/db failed" in str(failure.value.description)
    assert "secret" not in str(failure.value.description)


def test_a_password_in_the_address_is_refused_and_not_shown(
    mlflow_resource: MlflowResource,
) -> None:
    resource = server(mlflow_resource, "http://someone:secret@127.0.0.1:9")
    with pytest.raises(dg.Failure) as failure:
        resource.log(TRAINING, save_text)
    assert "MLFLOW_TRACKING_PASSWORD" in str(failure.value.description)
    shown = f"{failure.value.description} {resource.model_url('mnist_cnn', '1')}"
    assert "secret" not in shown


@pytest.mark.parametrize(
    "uri", ["postgres://someone:secret@127.0.0.1:9/ml", "postgresql://me:top@secret@127.0.0.1:9/ml"]
)
def test_a_database_that_cannot_be_read_is_refused_and_not_shown(
    mlflow_resource: MlflowResource, uri: str
) -> None:
    with pytest.raises(dg.Failure, match=r"MLflow tracking URI of \w+ cannot be read") as failure:
        server(mlflow_resource, uri).log(TRAINING, save_text)
    assert "secret" not in str(failure.value.description)


def test_links_lead_to_the_address_for_people(
    mlflow_resource: MlflowResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = server(mlflow_resource, "http://mlflow:5000")
    page = "#/models/mnist_cnn/versions/1"
    assert inside.model_url("mnist_cnn", "1") == f"http://mlflow:5000/{page}"
    monkeypatch.setenv("ML_ASSETS_MLFLOW_UI_URL", "https://localhost:8444")
    assert inside.model_url("mnist_cnn", "1") == f"https://localhost:8444/{page}"


def test_two_groups_do_not_share_anything(
    mlflow_resource: MlflowResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow_resource.log(TRAINING, save_text)
    assert mlflow.get_tracking_uri() == before
    assert mlflow.active_run() is None
