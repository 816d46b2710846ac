"""The group from end to end, and what is left of it when something fails."""

import dataclasses
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from mlflow import MlflowClient

from ml_assets.build import code_version
from ml_assets.ml.training import training_fingerprint
from ml_assets.mnist import assets, definitions
from ml_assets.mnist.config import TrainingConfig
from ml_assets.mnist.definitions import mnist_source
from ml_assets.mnist.model import build_simple
from ml_assets.promotion import Decision, Policy
from ml_assets.reporting import FINGERPRINT
from ml_assets.resources.datasets import DatasetFile
from ml_assets.resources.mlflow import MlflowResource, save_keras_model
from ml_assets_tests.mnist.conftest import QUICK, UNTRAINED, Run
from ml_assets_tests.resources.test_mlflow import TRAINING


def metadata(result: dg.ExecuteInProcessResult, name: str) -> dict[str, Any]:
    [event] = result.asset_materializations_for_node(f"mnist__{name}")
    return {key: entry.value for key, entry in event.metadata.items()}


def failures(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    return {
        str(event.step_key): str(event.step_failure_data.user_failure_data)
        for event in result.get_step_failure_events()
    }


def aliases(resource: MlflowResource) -> dict[str, str]:
    found = MlflowClient(resource.tracking_uri).search_registered_models()
    return {alias: str(version) for model in found for alias, version in model.aliases.items()}


def test_the_first_training_becomes_champion(run: Run, mlflow_resource: MlflowResource) -> None:
    result = run()
    assert result.success
    assert all(check.passed for check in result.get_asset_check_evaluations())
    assert len(result.get_asset_check_evaluations()) == 9
    assert aliases(mlflow_resource) == {"champion": "1"}

    for name, picture in {
        "raw_images": "first_images",
        "model": "learning_curves",
        "evaluation": "worst_mistakes",
    }.items():
        assert metadata(result, name)[picture].startswith("![](data:image/png;base64,")
    assert metadata(result, "images")["train_images"] == 4_583
    assert metadata(result, "images")["validation_images"] == 417
    model, evaluation = metadata(result, "model"), metadata(result, "evaluation")
    assert model["train_wall_seconds"] > 0
    assert model["train_cpu_seconds"] > 0
    assert model["peak_memory_mb"] > 100
    assert evaluation["accuracy"] > evaluation["accuracy_of_nearest_centroid"]
    registration = metadata(result, "registered_model")
    assert registration["role"] == "champion"
    assert registration["reason"] == "the first model that passed its floor"
    # By this the schedule knows that nothing has changed.
    assert registration[FINGERPRINT] == training_fingerprint(
        mnist_source.digest(), code_version("mnist"), TrainingConfig(**QUICK).model_dump()
    )

    shadow = metadata(result, "shadow")
    assert (shadow["trial"], shadow["policy"]) == ("none", "auto")

    client = MlflowClient(mlflow_resource.tracking_uri)
    tracked = client.get_run(metadata(result, "mlflow_run")["run_id"])
    assert tracked.info.status == "FINISHED"
    assert tracked.data.tags["dagster_run_id"] == result.run_id
    assert tracked.data.tags["dagster_asset"] == "mnist/mlflow_run"
    assert tracked.data.tags["weights_sha256"] == model["weights_sha256"]
    assert tracked.data.tags["data_digest"] == mnist_source.digest()
    assert tracked.data.params == {key: str(value) for key, value in model["parameters"].items()}
    assert tracked.data.metrics["test_accuracy"] == evaluation["accuracy"]
    assert tracked.data.metrics["train_wall_seconds"] == model["train_wall_seconds"]
    assert len(client.get_metric_history(tracked.info.run_id, "val_accuracy")) == 4
    assert len(client.list_artifacts(tracked.info.run_id, "pictures")) == 3


def test_the_same_training_again_is_the_same_model_and_stays_challenger(
    run: Run, mlflow_resource: MlflowResource
) -> None:
    first, second = run(), run()
    digests = {metadata(result, "model")["weights_sha256"] for result in (first, second)}
    assert len(digests) == 1
    assert metadata(second, "registered_model")["role"] == "challenger"
    assert aliases(mlflow_resource) == {"champion": "1", "challenger": "2"}


def test_a_failing_floor_leaves_the_registry_untouched(
    run: Run, mlflow_resource: MlflowResource
) -> None:
    result = run(config=UNTRAINED)
    assert {
        check.check_name for check in result.get_asset_check_evaluations() if not check.passed
    } == {"accuracy_above_floor", "beats_nearest_centroid"}
    assert set(failures(result)) == {"mnist__registered_model"}
    assert (
        "a test accuracy no worse than 0.95, and better than nearest_centroid"
        in failures(result)["mnist__registered_model"]
    )
    assert metadata(result, "mlflow_run")  # what it was worth can be looked up
    assert MlflowClient(mlflow_resource.tracking_uri).search_registered_models() == []

    # Where there is a champion, it stays, and the week goes on with it.
    assert run().success
    result = run(config=UNTRAINED)
    assert result.success
    registration = metadata(result, "registered_model")
    assert (registration["role"], registration["version"]) == ("refused", "")
    assert "not registered, and the champion stays: expected a test" in registration["reason"]
    assert registration[FINGERPRINT] == ""  # the schedule tries again
    assert aliases(mlflow_resource) == {"champion": "1"}


def test_with_mlflow_down_nothing_is_trained_twice(
    run: Run, mlflow_resource: MlflowResource
) -> None:
    down = MlflowResource(**mlflow_resource.model_dump() | {"tracking_uri": "http://127.0.0.1:9"})
    result = run(mnist_mlflow=down)
    assert set(failures(result)) == {"mnist__mlflow_run"}
    assert "start it, or set MNIST_MLFLOW_TRACKING_URI" in failures(result)["mnist__mlflow_run"]
    assert len([event for event in result.all_events if event.is_step_up_for_retry]) == 2
    assert metadata(result, "evaluation")["accuracy"] > 0.9

    result = run("key:mnist/mlflow_run or key:mnist/registered_model")
    assert result.success
    assert aliases(mlflow_resource) == {"champion": "1"}


def test_an_evaluation_of_another_training_is_not_logged(run: Run) -> None:
    assert run().success
    assert run("key:mnist/model", config={"seed": 1}).success
    message = failures(run("key:mnist/mlflow_run"))["mnist__mlflow_run"]
    assert "mnist/mlflow_run: expected an evaluation of training" in message
    assert "materialize the model and the evaluation again" in message


def local_source(directory: Path, arrays: dict[str, np.ndarray]) -> DatasetFile:
    np.savez(directory / "mnist.npz", **arrays)
    return DatasetFile(
        **mnist_source.model_dump() | {"source": "local", "directory": str(directory)}
    )


def test_a_model_is_not_evaluated_on_other_data(run: Run, tmp_path: Path) -> None:
    assert run().success
    with np.load(mnist_source.fetch()) as arrays:
        half = {name: array[::2] for name, array in arrays.items()}
    source = local_source(tmp_path, half)
    assert run("key:mnist/raw_images or key:mnist/images", mnist_source=source).success
    for name in ("evaluation", "mlflow_run", "registered_model"):
        message = failures(run(f"key:mnist/{name}"))[f"mnist__{name}"]
        assert f"mnist/{name}: expected" in message
        assert "materialize the model" in message


def test_a_label_that_is_no_digit_stops_at_its_check(run: Run, tmp_path: Path) -> None:
    with np.load(mnist_source.fetch()) as arrays:
        changed = dict(arrays)
    changed["y_train"][0] = 11
    result = run(mnist_source=local_source(tmp_path, changed))
    assert set(failures(result)) == {"mnist__raw_images_labels_are_classes"}


def test_bad_data_fail_at_once_and_say_what_to_do(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mnist.npz").write_bytes(b"not an archive")
    broken = DatasetFile(
        **mnist_source.model_dump() | {"source": "local", "directory": str(tmp_path)}
    )
    result = run(mnist_source=broken)
    message = failures(result)["mnist__raw_images"]
    assert "mnist/raw_images: expected the arrays x_train" in message
    assert "remedy" in message
    assert not [event for event in result.all_events if event.is_step_up_for_retry]
    assert not (tmp_path / "artifacts").exists()


def test_rollback_makes_the_replaced_version_champion_again(
    run: Run, mlflow_resource: MlflowResource
) -> None:
    assert run().success
    job = definitions.defs.resolve_job_def("mnist_rollback")
    resources = {"mnist_mlflow": mlflow_resource}
    result = job.execute_in_process(resources=resources, raise_on_error=False)
    assert "found version None of ['1']" in failures(result)["mnist_move_champion"]
    other = {"ops": {"mnist_move_champion": {"config": {"model": "mnist_other"}}}}
    result = job.execute_in_process(other, resources=resources, raise_on_error=False)
    assert "a champion of mnist_other; found none" in failures(result)["mnist_move_champion"]

    assert run(config={"seed": 1}).success
    with mlflow_resource.registry("mnist_cnn") as registry:
        registry.challenge("2", lambda _: Decision(True, False, "for this test"))
    assert aliases(mlflow_resource) == {"champion": "2"}
    assert job.execute_in_process(resources=resources).success
    assert aliases(mlflow_resource) == {"champion": "1"}


# Trials, and promotion by hand.


def crown_untrained(resource: MlflowResource) -> str:
    """A network that knows nothing is made champion."""
    network = build_simple()
    training = dataclasses.replace(TRAINING, training_id="nothing", weights_sha256="nothing")
    logged = resource.log(training, partial(save_keras_model, network))
    with resource.registry("mnist_cnn") as registry:
        version = registry.register(logged, {})
        registry.promote(version)
    return version


def test_a_trial_goes_on_until_its_days_are_over(
    run: Run, mlflow_resource: MlflowResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "PROMOTION", Policy("shadow", 14))
    assert metadata(run(), "shadow")["trial"] == "none"
    assert aliases(mlflow_resource) == {"champion": "1"}
    first = metadata(run(), "shadow")  # the same model again
    assert (first["trial"], first["gain"], first["observations"]) == ("on", 0, 1000)
    assert first["running_gain"].startswith("![](data:image/png;base64,")
    assert aliases(mlflow_resource) == {"champion": "1", "challenger": "2", "shadow": "2"}

    # Neither the next version nor the same images again change it.
    second = run(config={"seed": 1})
    assert "version 2 is on trial" in metadata(second, "registered_model")["reason"]
    assert metadata(second, "shadow")["observations"] == 1000
    assert aliases(mlflow_resource) == {"champion": "1", "challenger": "3", "shadow": "2"}

    with mlflow_resource.registry("mnist_cnn") as registry:
        registry.begin_trial("2", assets.today("mnist") - timedelta(days=14))
    last = metadata(run("key:mnist/shadow"), "shadow")
    assert last["trial"] == "ended"
    assert "the days are over without enough evidence" in last["reason"]
    assert aliases(mlflow_resource) == {"champion": "1", "challenger": "3"}
    assert metadata(run("key:mnist/shadow"), "shadow")["trial"] == "none"


def test_a_challenger_that_is_better_on_the_same_images_is_promoted(
    run: Run, mlflow_resource: MlflowResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "PROMOTION", Policy("shadow", 14))
    worse = crown_untrained(mlflow_resource)
    result = run()
    assert "on trial from" in metadata(result, "registered_model")["reason"]
    found = metadata(result, "shadow")
    assert (found["trial"], found["champion"], found["challenger"]) == ("promoted", worse, "2")
    assert found["challenger_loss"] < 0.1
    assert found["champion_loss"] > 0.5
    assert aliases(mlflow_resource) == {"champion": "2"}


def test_with_manual_the_job_promotes_what_waits(
    run: Run, mlflow_resource: MlflowResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "PROMOTION", Policy("manual"))
    registration = metadata(run(), "registered_model")
    assert registration["role"] == "challenger"
    assert registration["reason"].startswith("promotion is manual; on the test rows: the first")
    assert aliases(mlflow_resource) == {"challenger": "1"}
    job = definitions.defs.resolve_job_def("mnist_promote")
    assert job.execute_in_process(resources={"mnist_mlflow": mlflow_resource}).success
    assert aliases(mlflow_resource) == {"champion": "1"}
