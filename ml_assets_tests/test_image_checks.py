"""Each check of the groups of images is shown passing once and failing once."""

import dataclasses
from importlib import import_module
from typing import Any

import dagster as dg
import numpy as np
import pytest

from ml_assets.ml.evaluation import Evaluation
from ml_assets.ml.images import ImageSplits, RawImages
from ml_assets.promotion import Registration

GROUPS = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3)}
"""The shape of an image in each."""
LABELS = np.arange(20) % 10
AFTERWARDS = {
    "digest_is_known",
    "accuracy_above_floor",
    "beats_nearest_centroid",
    "no_regression_against_champion",
}
"""The checks that stop nothing: `registered_model` looks at the evaluation by itself."""


def cases(group: str) -> dict[str, tuple[Any, dict[str, Any]]]:
    """For each check a value with which it passes, and a change with which it fails."""
    images = np.zeros((20, *GROUPS[group]), np.uint8)
    images[:, 5, 5] = 255
    as_read = images.squeeze(axis=3) if images.shape[3] == 1 else images
    sha256 = import_module(f"ml_assets.{group}.data").SHA256
    raw = RawImages(as_read, LABELS, as_read, LABELS, "sample", sha256)
    unseen = np.roll(images, 1, axis=1)
    splits = ImageSplits(images, LABELS, images, LABELS, unseen, LABELS, "sample", sha256)
    evaluation = Evaluation(
        "t1",
        "f1",
        sha256,
        {"accuracy": 0.99},
        {"nearest_centroid": 0.8},
        np.zeros((1, 10)),
        np.zeros(1),
    )
    registration = Registration(
        promote=False, regressed=False, reason="a tie", name=group, version="2"
    )
    floor = import_module(f"ml_assets.{group}.checks").QUALITY.limit
    return {
        "digest_is_known": (raw, {"sha256": "0" * 64}),
        "images_are_bytes_of_one_shape": (raw, {"test_images": as_read[:, 1:]}),
        "labels_are_classes": (raw, {"test_labels": LABELS + 1}),
        "pixels_use_the_range": (splits, {"test_images": images // 255}),
        "test_images_are_unseen": (splits, {"test_images": images[:1], "test_labels": LABELS[:1]}),
        "every_class_is_present": (splits, {"validation_labels": LABELS % 9}),
        "accuracy_above_floor": (evaluation, {"metrics": {"accuracy": floor - 0.01}}),
        "beats_nearest_centroid": (evaluation, {"baselines": {"nearest_centroid": 0.995}}),
        "no_regression_against_champion": (registration, {"regressed": True}),
    }


def checks(group: str) -> dict[str, tuple[dg.AssetChecksDefinition, dg.AssetCheckSpec]]:
    found = import_module(f"ml_assets.{group}.checks").CHECKS
    return {spec.name: (check, spec) for check in found for spec in check.check_specs}


def evaluate(group: str, name: str, value: Any) -> dg.AssetCheckResult:
    """Run a check as Dagster does, on the given value of its asset."""
    check, spec = checks(group)[name]

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


@pytest.mark.parametrize("group", GROUPS)
def test_every_check_has_its_case(group: str) -> None:
    assert set(cases(group)) == set(checks(group))


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("name", cases("mnist"))
def test_the_check_passes_and_fails(group: str, name: str) -> None:
    value, change = cases(group)[name]
    passed = evaluate(group, name, value)
    assert passed.passed
    assert passed.metadata
    failed = evaluate(group, name, dataclasses.replace(value, **change))
    assert not failed.passed
    assert failed.metadata


@pytest.mark.parametrize("group", GROUPS)
def test_a_metric_that_is_not_a_number_is_below_the_floor(group: str) -> None:
    value, _ = cases(group)["accuracy_above_floor"]
    broken = dataclasses.replace(value, metrics={"accuracy": float("nan")})
    assert not evaluate(group, "accuracy_above_floor", broken).passed


@pytest.mark.parametrize("group", GROUPS)
def test_what_is_wrong_with_data_or_metric_blocks_what_follows(group: str) -> None:
    assert {name for name, (_, spec) in checks(group).items() if not spec.blocking} == AFTERWARDS
