"""The record of an evaluation on the test set, the same for every group."""

from dataclasses import dataclass

import numpy as np

from ml_assets.ml.errors import DataError


@dataclass(frozen=True)
class Evaluation:
    """What a training is worth on the test set.

    Attributes:
        training_id: The training that was evaluated.
        metrics: The test metrics by name.
        baselines: The naive baselines on the same rows, by name.
        predictions: `(n, …)`, the prediction for each test row.
        losses: `(n,)` float, the loss on each test row, for comparisons with other models.
    """

    training_id: str
    metrics: dict[str, float]
    baselines: dict[str, float]
    predictions: np.ndarray
    losses: np.ndarray

    def require_training(self, training_id: str) -> None:
        """Raise `DataError` unless this evaluates the training `training_id`."""
        if self.training_id != training_id:
            raise DataError(
                f"an evaluation of training {training_id}",
                f"one of training {self.training_id}",
                "materialize the evaluation again, and what comes after it",
            )

    def require_floor(self, metric: str, floor: float) -> None:
        """Raise `DataError` if `metric` is below `floor` or not a number."""
        if not self.metrics[metric] >= floor:
            raise DataError(
                f"a test {metric} of at least {floor}",
                f"{self.metrics[metric]:.4f}",
                "find out what is wrong with the data or the configuration and train again; "
                "the registry was left untouched",
            )
