import inspect
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.cifar10 import definitions
from ml_assets.cifar10.config import RECIPES, TrainingConfig
from ml_assets.cifar10.model import train

# What `train` is given besides its configuration.
SURROUNDINGS = {"images", "augmentation", "pretrained", "code_version", "checkpoint"}


def test_what_is_resolved_are_the_keyword_parameters_of_train() -> None:
    assert set(TrainingConfig().resolved()) == set(inspect.signature(train).parameters) - (
        SURROUNDINGS
    )


@pytest.mark.parametrize("architecture", RECIPES)
def test_the_architecture_decides_what_was_not_chosen(architecture: str) -> None:
    quick, full = (
        TrainingConfig(architecture=architecture, size=size).resolved()
        for size in ("quick", "full")
    )
    assert quick["most_images"] == 5_000
    assert full["most_images"] == 0
    assert quick["batch_size"] < full["batch_size"]
    assert full["epochs"] >= 8
    chosen = TrainingConfig(architecture=architecture, epochs=3, batch_size=64, learning_rate=0.1)
    found = chosen.resolved()
    assert (found["epochs"], found["batch_size"], found["learning_rate"]) == (3, 64, 0.1)
    assert found["precision"] in {"float32", "mixed_bfloat16"}


def test_a_default_is_what_the_field_makes_of_it() -> None:
    """Else the configuration of the schedule would differ from that of its run."""
    defaults = {name: field.default for name, field in TrainingConfig.model_fields.items()}
    assert repr(TrainingConfig(**defaults).model_dump()) == repr(defaults)


def test_every_field_has_a_default_and_a_description() -> None:
    for name, field in TrainingConfig.model_fields.items():
        assert field.description, name
        assert not field.is_required(), name


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"epochs": -1}, "greater than or equal to 0"),
        ({"epochs": "ten"}, "epochs"),
        ({"learning_rate": -1.0}, "greater than or equal to 0"),
        ({"architecture": "huge"}, "cnn.*fast_resnet"),
        ({"fine_tuning": True}, "expected the architecture resnet50_transfer"),
        ({"epoch": 3}, 'unexpected config entry "epoch"'),
    ],
)
def test_a_wrong_value_is_refused_before_any_work_starts(
    config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    job = definitions.defs.resolve_job_def("cifar10_weekly")
    with dg.DagsterInstance.ephemeral() as instance:
        with pytest.raises(dg.DagsterInvalidConfigError, match=f"(?s){message}"):
            job.execute_in_process(
                run_config={"ops": {"cifar10__model": {"config": config}}}, instance=instance
            )
        assert instance.get_runs() == []
