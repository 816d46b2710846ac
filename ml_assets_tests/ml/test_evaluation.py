import dataclasses

import numpy as np
import pytest

from ml_assets.checks import baseline_check
from ml_assets.ml.errors import DataError
from ml_assets.ml.evaluation import Evaluation, Quality

ERROR = Quality("mse", limit=10.0, baseline="naive", lower_is_better=True, tolerance=0.05)
SHARE = Quality("accuracy", limit=0.5, baseline="majority", tolerance=0.1)


def measured(**metrics: float) -> Evaluation:
    return Evaluation(
        training_id="t",
        fingerprint="f",
        data_digest="d",
        metrics=metrics,
        baselines={"naive": 2.0, "majority": 0.6},
        predictions=np.zeros(1),
        losses=np.zeros(1),
    )


@pytest.mark.parametrize(("mse", "good"), [(1.9, True), (2.09, True), (2.11, False)])
def test_an_error_may_be_worse_than_the_baseline_within_the_tolerance(
    mse: float, good: bool
) -> None:
    assert measured(mse=mse).beats_baseline(ERROR) is good
    strict = dataclasses.replace(ERROR, tolerance=0.0)
    assert measured(mse=mse).beats_baseline(strict) is (mse < 2)


@pytest.mark.parametrize(("accuracy", "good"), [(0.7, True), (0.55, True), (0.53, False)])
def test_a_share_may_be_worse_than_the_baseline_within_the_tolerance(
    accuracy: float, good: bool
) -> None:
    assert measured(accuracy=accuracy).beats_baseline(SHARE) is good


def test_what_is_required_is_said_with_its_tolerance() -> None:
    measured(mse=2.05).require(ERROR)
    with pytest.raises(DataError, match=r"at most 5% worse than naive with 2\.0000; found 2\.2000"):
        measured(mse=2.2).require(ERROR)
    with pytest.raises(DataError, match="no worse than 10"):
        measured(mse=float("nan")).require(ERROR)


def test_the_check_s_name_says_whether_the_baseline_must_be_beaten() -> None:
    strict = dataclasses.replace(ERROR, tolerance=0.0)
    names = [
        next(iter(baseline_check(("g", "evaluation"), quality).check_keys)).name
        for quality in (ERROR, strict)
    ]
    assert names == ["not_worse_than_naive", "beats_naive"]
