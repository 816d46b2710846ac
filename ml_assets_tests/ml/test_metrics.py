import numpy as np
import pytest

from ml_assets.ml.images import ImageSplits
from ml_assets.ml.metrics import (
    classification_losses,
    classification_metrics,
    nearest_centroid_accuracy,
    per_class_accuracy,
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
