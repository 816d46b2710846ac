import inspect
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.mnist import definitions
from ml_assets.mnist.config import TrainingConfig
from ml_assets.mnist.model import train

# What `train` is given besides its configuration.
SURROUNDINGS = {"images", "code_version", "checkpoint"}


def test_the_fields_are_the_keyword_parameters_of_train() -> None:
    assert set(TrainingConfig.model_fields) == set(inspect.signature(train).parameters) - (
        SURROUNDINGS
    )


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
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"epochs": "ten"}, "epochs"),
        ({"learning_rate": -1.0}, "greater than 0"),
        ({"architecture": "huge"}, "fast.*simple"),
        ({"epoch": 3}, 'unexpected config entry "epoch"'),
    ],
)
def test_a_wrong_value_is_refused_before_any_work_starts(
    config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    job = definitions.defs.resolve_job_def("mnist_weekly")
    with dg.DagsterInstance.ephemeral() as instance:
        with pytest.raises(dg.DagsterInvalidConfigError, match=f"(?s){message}"):
            job.execute_in_process(
                run_config={"ops": {"mnist__model": {"config": config}}}, instance=instance
            )
        assert instance.get_runs() == []
