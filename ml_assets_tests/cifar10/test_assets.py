"""The group from end to end, and what is left of it when something fails."""

from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from mlflow import MlflowClient

from ml_assets.build import code_version
from ml_assets.cifar10 import assets
from ml_assets.cifar10.config import AugmentationConfig, TrainingConfig
from ml_assets.cifar10.definitions import cifar10_source
from ml_assets.ml.training import TrainedModel, training_fingerprint
from ml_assets.promotion import Policy
from ml_assets.reporting import FINGERPRINT
from ml_assets.resources.datasets import DatasetFile
from ml_assets.resources.mlflow import MlflowResource
from ml_assets_tests.cifar10.conftest import QUICK, Run


def metadata(result: dg.ExecuteInProcessResult, name: str) -> dict[str, Any]:
    [event] = result.asset_materializations_for_node(f"cifar10__{name}")
    return {key: entry.value for key, entry in event.metadata.items()}


def failures(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    return {
        str(event.step_key): str(event.step_failure_data.user_failure_data)
        for event in result.get_step_failure_events()
    }


def test_the_first_training_becomes_champion(
    run: Run, mlflow_resource: MlflowResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run()
    assert result.success, failures(result)
    assert all(check.passed for check in result.get_asset_check_evaluations())
    assert len(result.get_asset_check_evaluations()) == 9
    for name, picture in {
        "raw_images": "first_images",
        "augmentation": "augmented_images",
        "model": "learning_curves",
        "evaluation": "worst_mistakes",
    }.items():
        assert metadata(result, name)[picture].startswith("![](data:image/png;base64,")
    assert metadata(result, "images")["train_images"] == 980
    assert metadata(result, "augmentation")["flip"] == "alternating"
    registration = metadata(result, "registered_model")
    assert (registration["model"], registration["role"]) == ("cifar10_cnn", "champion")
    # By this the schedule knows that nothing has changed.
    parameters = TrainingConfig(**QUICK).resolved() | vars(AugmentationConfig().policy())
    assert registration[FINGERPRINT] == training_fingerprint(
        cifar10_source.digest(), code_version("cifar10"), parameters
    )
    client = MlflowClient(mlflow_resource.tracking_uri)
    tracked = client.get_run(metadata(result, "mlflow_run")["run_id"])
    assert tracked.data.params["flip"] == "alternating"
    assert tracked.data.params["epochs"] == "6"

    shadow = metadata(result, "shadow")
    assert (shadow["trial"], shadow["policy"]) == ("none", "auto")

    # The same again is the same model, and challenges itself in vain.
    monkeypatch.setattr(assets, "PROMOTION", Policy("shadow", 14))
    again = run()
    digests = {metadata(found, "model")["weights_sha256"] for found in (result, again)}
    assert len(digests) == 1
    assert metadata(again, "registered_model")["role"] == "challenger"

    shadow = metadata(again, "shadow")
    assert (shadow["trial"], shadow["model"]) == ("on", "cifar10_cnn")
    assert (shadow["champion"], shadow["challenger"]) == ("1", "2")
    assert (shadow["gain"], shadow["observations"]) == (0, 500)

    # What was evaluated is not registered under the name of another network.
    assert run("key:cifar10/model", config={"architecture": "resnet20", "epochs": 1}).success
    message = failures(run("key:cifar10/registered_model"))["cifar10__registered_model"]
    assert "expected an evaluation of training" in message
    found = MlflowClient(mlflow_resource.tracking_uri).search_registered_models()
    assert [entry.name for entry in found] == ["cifar10_cnn"]


def test_a_training_that_broke_off_goes_on_where_it_was(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks_off(state: TrainedModel) -> None:
        if state.epoch == 2:
            monkeypatch.undo()
            raise OSError("no memory")

    undisturbed = metadata(run(), "model")
    monkeypatch.setattr("ml_assets.ml.training._report", breaks_off)
    result = run("key:cifar10/model")
    assert result.success  # its second attempt
    resumed = metadata(result, "model")
    assert resumed["resumed_after_epochs"] == [2]
    assert resumed["weights_sha256"] == undisturbed["weights_sha256"]


def test_a_failing_floor_leaves_the_registry_untouched(
    run: Run, mlflow_resource: MlflowResource
) -> None:
    result = run(config={"epochs": 1, "learning_rate": 1e-9})
    checks = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert not checks["accuracy_above_floor"]
    assert set(failures(result)) == {"cifar10__registered_model"}
    assert MlflowClient(mlflow_resource.tracking_uri).search_registered_models() == []


def test_a_label_that_is_no_class_stops_at_its_check(run: Run, tmp_path: Path) -> None:
    with np.load(cifar10_source.fetch()) as arrays:
        changed = dict(arrays)
    changed["y_train"][0] = 11
    np.savez(tmp_path / "cifar10.npz", **changed)
    source = DatasetFile(
        **cifar10_source.model_dump() | {"source": "local", "directory": str(tmp_path)}
    )
    result = run(cifar10_source=source)
    assert set(failures(result)) == {"cifar10__raw_images_labels_are_classes"}
