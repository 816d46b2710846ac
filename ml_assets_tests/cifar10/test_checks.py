"""Each check is shown passing once and failing once."""

import dataclasses
from typing import Any

import dagster as dg
import numpy as np
import pytest

from ml_assets.cifar10.checks import CHECKS, QUALITY
from ml_assets.cifar10.data import SHA256
from ml_assets.ml.evaluation import Evaluation
from ml_assets.ml.images import ImageSplits, RawImages
from ml_assets.promotion import Registration

BY_NAME = {spec.name: (check, spec) for check in CHECKS for spec in check.check_specs}

IMAGES = np.zeros((20, 32, 32, 3), np.uint8)
IMAGES[:, 5, 5] = 255
LABELS = np.arange(20) % 10
RAW = RawImages(IMAGES, LABELS, IMAGES, LABELS, "sample", SHA256)
SPLITS = ImageSplits(IMAGES, LABELS, IMAGES, LABELS, IMAGES, LABELS, "sample", SHA256)
EVALUATION = Evaluation(
    "t1",
    "f1",
    SHA256,
    {"accuracy": 0.99},
    {"nearest_centroid": 0.8},
    np.zeros((1, 10)),
    np.zeros(1),
)
REGISTRATION = Registration(
    promote=False, regressed=False, reason="a tie", name="cifar10_resnet", version="2"
)

CASES = {
    "digest_is_known": (RAW, {"sha256": "0" * 64}),
    "images_are_bytes_of_one_shape": (RAW, {"test_images": IMAGES[:, :31]}),
    "labels_are_classes": (RAW, {"test_labels": LABELS + 1}),
    "pixels_use_the_range": (SPLITS, {"test_images": IMAGES // 255}),
    "every_class_is_present": (SPLITS, {"validation_labels": LABELS % 9}),
    "accuracy_above_floor": (EVALUATION, {"metrics": {"accuracy": QUALITY.limit - 0.01}}),
    "beats_nearest_centroid": (EVALUATION, {"baselines": {"nearest_centroid": 0.995}}),
    "no_regression_against_champion": (REGISTRATION, {"regressed": True}),
}


def evaluate(name: str, value: Any) -> dg.AssetCheckResult:
    """Run a check as Dagster does, on the given value of its asset."""
    check, spec = BY_NAME[name]

    class Given(dg.IOManager):
        def load_input(self, _: dg.InputContext) -> Any:
            return value

        def handle_output(self, _: dg.OutputContext, obj: Any) -> None:
            pass

    result = (
        dg.Definitions(
            assets=[dg.AssetSpec(spec.asset_key)],
            asset_checks=[check],
            resources={"io_manager": Given()},
            jobs=[dg.define_asset_job("checks", dg.AssetSelection.all_asset_checks())],
        )
        .resolve_job_def("checks")
        .execute_in_process(raise_on_error=False)
    )
    [evaluation] = result.get_asset_check_evaluations()
    return evaluation


def test_every_check_has_its_case() -> None:
    assert set(CASES) == set(BY_NAME)


@pytest.mark.parametrize("name", CASES)
def test_the_check_passes(name: str) -> None:
    evaluation = evaluate(name, CASES[name][0])
    assert evaluation.passed
    assert evaluation.metadata


@pytest.mark.parametrize("name", CASES)
def test_the_check_fails(name: str) -> None:
    value, change = CASES[name]
    evaluation = evaluate(name, dataclasses.replace(value, **change))
    assert not evaluation.passed
    assert evaluation.metadata


def test_a_metric_that_is_not_a_number_is_below_the_floor() -> None:
    broken = dataclasses.replace(EVALUATION, metrics={"accuracy": float("nan")})
    assert not evaluate("accuracy_above_floor", broken).passed


def test_what_is_wrong_with_data_or_metric_blocks_what_follows() -> None:
    advice = {"digest_is_known", "no_regression_against_champion"}
    assert {name for name, (_, spec) in BY_NAME.items() if not spec.blocking} == advice
