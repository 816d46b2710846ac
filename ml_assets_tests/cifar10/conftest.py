"""The group, run in the test's process on the bundled sample."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.cifar10 import data, features
from ml_assets.cifar10.definitions import ASSETS, CHECKS, cifar10_imagenet, cifar10_source
from ml_assets.io_managers.archives import ArchiveIOManager
from ml_assets.ml.images import ImageSplits
from ml_assets.resources.checkpoints import Checkpoints
from ml_assets.resources.datasets import SAMPLES
from ml_assets.resources.mlflow import MlflowResource
from ml_assets_tests.conftest import first

Run = Callable[..., dg.ExecuteInProcessResult]

QUICK = {
    "architecture": "cnn",
    "size": "quick",
    "epochs": 6,
    "views": "plain",
    "precision": "float32",
}


@pytest.fixture(scope="session")
def few_images() -> ImageSplits:
    """100 training, 20 validation and 40 test images of the bundled sample."""
    path = SAMPLES / data.FILE_NAME
    raw = data.load(path, source="sample", sha256=data.SAMPLE_SHA256)
    return first(features.prepare(raw), train=100, validation=20, test=40)


@pytest.fixture
def run(tmp_path: Path, mlflow_resource: MlflowResource) -> Iterator[Run]:
    """Materialize assets of the group; failures are returned, not raised."""
    with dg.DagsterInstance.ephemeral() as instance:

        def materialize(
            selection: str = "*", config: dict[str, Any] | None = None, **resources: Any
        ) -> dg.ExecuteInProcessResult:
            trains = selection in {"*", "key:cifar10/model"}
            training = {"cifar10__model": {"config": QUICK | (config or {})}}
            return dg.materialize(
                [*ASSETS, *CHECKS],
                selection=dg.AssetSelection.from_string(selection),
                instance=instance,
                resources={
                    "io_manager": ArchiveIOManager(base_path=str(tmp_path / "artifacts")),
                    "checkpoints": Checkpoints(base_path=str(tmp_path / "artifacts")),
                    "cifar10_source": cifar10_source,
                    "cifar10_imagenet": cifar10_imagenet,
                    "cifar10_mlflow": mlflow_resource,
                }
                | resources,
                run_config={"ops": training if trains else {}},
                raise_on_error=False,
            )

        yield materialize
