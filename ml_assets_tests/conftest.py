"""What the tests share: small real data, a place of their own for everything, local servers."""

import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

# Before the package is imported: its defaults are read then. What the developer's own shell says
# must neither change a test nor be changed by one.
for name in list(os.environ):
    if name.startswith(
        ("DAGSTER_", "ML_ASSETS_", "MLFLOW_", "MNIST_", "CIFAR10_", "POWER_", "TICK_")
    ):
        del os.environ[name]
os.environ["ML_ASSETS_SETTINGS_FILE"] = os.devnull
os.environ["ML_ASSETS_RETRY_DELAY_SECONDS"] = "0"
os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "1"
os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest

from ml_assets.ml.images import ImageSplits, load
from ml_assets.mnist import data, features
from ml_assets.resources.datasets import SAMPLES
from ml_assets.resources.mlflow import MlflowResource
from ml_assets_tests.postgres import (  # noqa: F401 - fixtures
    own_postgres_server,
    postgres_server,
    postgres_url,
)
from ml_assets_tests.servers import FileServer


def first(images: ImageSplits, *, train: int, validation: int, test: int) -> ImageSplits:
    """The first so many images of each set."""
    counts = {"train": train, "validation": validation, "test": test}
    return dataclasses.replace(
        images,
        **{
            f"{name}_{kind}": getattr(images, f"{name}_{kind}")[:count]
            for name, count in counts.items()
            for kind in ("images", "labels")
        },
    )


@pytest.fixture(scope="session")
def digits() -> ImageSplits:
    """200 training, 100 validation and 100 test images of the bundled sample."""
    raw = load(SAMPLES / data.FILE_NAME, source="sample", sha256=data.SAMPLE_SHA256)
    return first(features.prepare(raw), train=200, validation=100, test=100)


@pytest.fixture(scope="session")
def empty_mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's schema takes seconds to create, so it is created once and copied."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def mlflow_resource(tmp_path: Path, empty_mlflow_database: Path) -> MlflowResource:
    """MLflow of the group `mnist` in an empty place."""
    (tmp_path / "mlflow").mkdir()
    database = shutil.copy(empty_mlflow_database, tmp_path / "mlflow" / "mlflow.db")
    return MlflowResource(
        experiment="mnist",
        tracking_uri=f"sqlite:///{database}",
        artifact_location=str(tmp_path / "mlflow" / "artifacts"),
        ui_url="http://127.0.0.1:5000",
    )


@pytest.fixture
def file_server() -> Iterator[FileServer]:
    server = FileServer()
    yield server
    server.server.shutdown()
