import os
import subprocess
import sys
from typing import Any

import dagster as dg
import pytest
from pydantic import ValidationError

from ml_assets.power.config import CleaningConfig, TrainingConfig, TuningConfig
from ml_assets_tests.power.days import PARIS

CONFIGS = [CleaningConfig, TuningConfig, TrainingConfig]


@pytest.mark.parametrize("config", CONFIGS)
def test_a_default_is_what_the_field_makes_of_it(config: type[dg.Config]) -> None:
    """Else the configuration of the schedule would differ from that of its run."""
    defaults = {name: field.default for name, field in config.model_fields.items()}
    assert repr(config(**defaults).model_dump()) == repr(defaults)


@pytest.mark.parametrize("config", CONFIGS)
def test_every_field_has_a_default_and_a_description(config: type[dg.Config]) -> None:
    for name, field in config.model_fields.items():
        assert field.description, name
        assert not field.is_required(), name


@pytest.mark.parametrize(
    ("config", "values"),
    [
        (CleaningConfig, {"max_excluded_share": [-0.01, 1.01]}),
        (
            TuningConfig,
            {
                "horizon": ["day", ""],
                "window_days": [59, 3651],
                "test_days": [6, 366],
                "validation_days": [0, 181],
                "folds": [0, 13],
                "trials": [0, 10_001],
                "seconds": [-1, 86_401],
                "seed": [-1, 2**31],
            },
        ),
        (TrainingConfig, {"interval": [0, 1], "seed": [-1, 2**31]}),
    ],
)
def test_every_field_has_bounds(config: type[dg.Config], values: dict[str, list[Any]]) -> None:
    assert set(values) == set(config.model_fields)
    for name, wrong in values.items():
        for value in wrong:
            with pytest.raises(ValidationError, match=name):
                config(**{name: value})


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SOURCE": "sample"}, ["2008-01-07", "2008-07-06", "UTC"]),
        ({"SOURCE": "uci"}, ["2006-12-17", "2010-11-25", "UTC"]),
        (
            {"FIRST_PARTITION": "2008-10-26", "LAST_PARTITION": "2008-10-26", "TIMEZONE": PARIS},
            ["2008-10-26", "2008-10-26", PARIS],
        ),
        # There is no midnight at which the last day ends, nor one at which the first begins.
        (
            {
                "FIRST_PARTITION": "2023-09-03",
                "LAST_PARTITION": "2024-09-07",
                "TIMEZONE": "America/Santiago",
            },
            ["2023-09-03", "2024-09-07", "America/Santiago"],
        ),
    ],
)
def test_the_partitions_are_the_days_of_the_source(
    environment: dict[str, str], expected: list[str]
) -> None:
    program = (
        "from ml_assets.power.config import DAYS\n"
        "print(DAYS.get_first_partition_key(), DAYS.get_last_partition_key(), DAYS.timezone)"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {f"POWER_{name}": value for name, value in environment.items()},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == expected
