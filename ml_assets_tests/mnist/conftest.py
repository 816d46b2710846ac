"""The group, run in the test's process on the bundled sample."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.io_managers.archives import ArchiveIOManager
from ml_assets.mnist.definitions import ASSETS, CHECKS, mnist_source
from ml_assets.resources.checkpoints import Checkpoints
from ml_assets.resources.mlflow import MlflowResource

Run = Callable[..., dg.ExecuteInProcessResult]

QUICK = {"architecture": "simple", "epochs": 4, "batch_size": 32, "learning_rate": 0.002}
UNTRAINED = {"epochs": 1, "learning_rate": 1e-9}


@pytest.fixture
def instance() -> Any:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


@pytest.fixture
def run(
    tmp_path: Path,
    instance: dg.DagsterInstance,
    mlflow_resource: MlflowResource,
) -> Run:
    """Materialize assets of the group; failures are returned, not raised."""

    def materialize(
        selection: str = "*", config: dict[str, Any] | None = None, **resources: Any
    ) -> dg.ExecuteInProcessResult:
        trains = selection in {"*", "key:mnist/model"}
        training = {"mnist__model": {"config": QUICK | (config or {})}}
        return dg.materialize(
            [*ASSETS, *CHECKS],
            selection=dg.AssetSelection.from_string(selection),
            instance=instance,
            resources={
                "io_manager": ArchiveIOManager(base_path=str(tmp_path / "artifacts")),
                "checkpoints": Checkpoints(base_path=str(tmp_path / "artifacts")),
                "mnist_source": mnist_source,
                "mnist_mlflow": mlflow_resource,
            }
            | resources,
            run_config={"ops": training if trains else {}},
            raise_on_error=False,
        )

    return materialize
