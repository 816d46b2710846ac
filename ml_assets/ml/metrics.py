"""What a prediction is worth: metrics of classifiers and of forecasts."""

import warnings

import numpy as np


def classification_metrics(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Metrics of class probabilities on one set of rows.

    Args:
        labels: `(n,)` int, the true classes.
        probabilities: `(n, classes)` float, each row summing to 1.

    Returns:
        `accuracy`, `macro_f1` and `log_loss` (natural logarithm); all NaN if a probability is.

    >>> truth = np.array([0, 1, 1])
    >>> certain = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    >>> round(classification_metrics(truth, certain)["accuracy"], 3)
    0.667
    """
    from sklearn.metrics import accuracy_score, f1_score, log_loss

    if not np.isfinite(probabilities).all():
        return dict.fromkeys(("accuracy", "macro_f1", "log_loss"), float("nan"))
    predicted = probabilities.argmax(axis=1)
    return {
        "accuracy": float(accuracy_score(labels, predicted)),
        "macro_f1": float(f1_score(labels, predicted, average="macro")),
        "log_loss": float(
            log_loss(labels, probabilities, labels=list(range(probabilities.shape[1])))
        ),
    }


def classification_losses(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Loss of each row: 0 if it was recognised, 1 if not, NaN if it has no probabilities.

    >>> classification_losses(np.array([0, 0]), np.array([[0.9, 0.1], [0.2, 0.8]])).tolist()
    [0.0, 1.0]
    """
    missed = (probabilities.argmax(axis=1) != labels).astype(np.float64)
    return np.where(np.isfinite(probabilities).all(axis=1), missed, np.nan)


def per_class_accuracy(labels: np.ndarray, predicted: np.ndarray) -> dict[int, float]:
    """Share of each class's rows that were recognised (recall), by class.

    >>> per_class_accuracy(np.array([0, 0, 1]), np.array([0, 1, 1]))
    {0: 0.5, 1: 1.0}
    """
    return {
        int(label): float((predicted[labels == label] == label).mean())
        for label in np.unique(labels)
    }


def nearest_centroid_accuracy(
    train_images: np.ndarray,
    train_labels: np.ndarray,
    test_images: np.ndarray,
    test_labels: np.ndarray,
) -> float:
    """Accuracy of the naive baseline: each image gets the class whose mean image is nearest.

    Args:
        train_images: `(n, height, width, channels)`, any real type.
        train_labels: `(n,)` int.
        test_images: `(m, height, width, channels)`.
        test_labels: `(m,)` int.
    """
    from sklearn.neighbors import NearestCentroid

    baseline = NearestCentroid()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*zero standard deviation")  # blank borders
        baseline.fit(train_images.reshape(len(train_images), -1).astype(np.float32), train_labels)
    return float(
        baseline.score(test_images.reshape(len(test_images), -1).astype(np.float32), test_labels)
    )


def regression_metrics(target: np.ndarray, forecast: np.ndarray) -> dict[str, float]:
    """Metrics of a forecast on one set of rows.

    Args:
        target: `(n,)` float, what came true.
        forecast: `(n,)` float, in the same unit.

    Returns:
        `mae` and `rmse` in that unit, `mse` in its square, and `r2`; all NaN if a forecast is.

    >>> found = regression_metrics(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 6.0]))
    >>> found["mae"], found["mse"], round(found["r2"], 2)
    (1.0, 3.0, -3.5)
    """
    from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

    if not np.isfinite(forecast).all():
        return dict.fromkeys(("mae", "rmse", "mse", "r2"), float("nan"))
    mse = float(mean_squared_error(target, forecast))
    return {
        "mae": float(mean_absolute_error(target, forecast)),
        "rmse": mse**0.5,
        "mse": mse,
        "r2": float(r2_score(target, forecast)),
    }


def skill(loss: float, baseline: float) -> float:
    """Share of a baseline's loss that a forecast avoids: 1 is perfect, 0 no better.

    Args:
        loss: The forecast's.
        baseline: Above 0: where a baseline never errs, there is nothing to avoid.

    >>> skill(0.3, 0.4)
    0.25
    """
    return round(1 - loss / baseline, 12)
