import numpy as np
import pytest

from ml_assets.ml.images import ImageSplits
from ml_assets.ml.metrics import (
    classification_losses,
    classification_metrics,
    nearest_centroid_accuracy,
    per_class_accuracy,
    regression_metrics,
    skill,
)

LABELS = np.array([0, 1, 2, 2])
PROBABILITIES = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]])


def test_metrics_by_hand() -> None:
    metrics = classification_metrics(LABELS, PROBABILITIES)
    assert metrics["accuracy"] == 0.75
    assert metrics["log_loss"] == pytest.approx(-(3 * np.log(0.8) + np.log(0.1)) / 4)
    assert metrics["macro_f1"] == pytest.approx((2 / 3 + 1 + 2 / 3) / 3)


def test_a_class_that_the_rows_lack_does_no_harm() -> None:
    assert classification_metrics(LABELS[:2], PROBABILITIES[:2])["accuracy"] == 1


def test_probabilities_that_are_not_numbers_have_no_metric() -> None:
    metrics = classification_metrics(LABELS, PROBABILITIES * np.nan)
    assert np.isnan(list(metrics.values())).all()


def test_losses_count_the_missed_rows() -> None:
    assert classification_losses(LABELS, PROBABILITIES).tolist() == [0, 0, 0, 1]


def test_a_prediction_that_is_not_a_number_has_no_loss() -> None:
    broken = PROBABILITIES.copy()
    broken[1, 0] = np.nan
    assert np.isnan(classification_losses(LABELS, broken)).tolist() == [False, True, False, False]


def test_accuracy_by_class() -> None:
    assert per_class_accuracy(LABELS, PROBABILITIES.argmax(axis=1)) == {0: 1, 1: 1, 2: 0.5}


def test_the_nearest_centroid_is_far_above_chance_and_below_a_network(digits: ImageSplits) -> None:
    accuracy = nearest_centroid_accuracy(
        digits.train_images, digits.train_labels, digits.test_images, digits.test_labels
    )
    assert 0.5 < accuracy < 0.9


def test_errors_of_a_forecast_by_hand() -> None:
    metrics = regression_metrics(np.array([1.0, 2, 3, 6]), np.array([2.0, 2, 1, 7]))
    assert metrics["mae"] == 1
    assert metrics["mse"] == 1.5
    assert metrics["rmse"] == pytest.approx(1.5**0.5)
    assert metrics["r2"] == pytest.approx(1 - 6 / 14)


def test_a_forecast_that_is_not_a_number_has_no_metric() -> None:
    for broken in (np.nan, np.inf):
        metrics = regression_metrics(np.ones(2), np.array([1.0, broken]))
        assert set(metrics) == {"mae", "rmse", "mse", "r2"}
        assert np.isnan(list(metrics.values())).all()


def test_skill_is_the_share_of_the_loss_that_is_avoided() -> None:
    assert skill(0.0, 2.0) == 1
    assert skill(1.0, 2.0) == 0.5
    assert skill(2.0, 2.0) == 0
    assert skill(3.0, 2.0) == -0.5
    assert skill(1.0, float("inf")) == 1
    assert np.isnan(skill(float("nan"), 2.0))
