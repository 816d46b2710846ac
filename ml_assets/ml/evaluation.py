"""The record of an evaluation on the test set, the same for every group."""

from dataclasses import dataclass

import numpy as np

from ml_assets.ml.errors import DataError


@dataclass(frozen=True)
class Evaluation:
    """What a training is worth on the test set.

    Attributes:
        training_id: The training that was evaluated.
        fingerprint: What it was trained on and with (see `training.training_fingerprint`).
        data_digest: SHA-256 of the data that it was evaluated on.
        metrics: The test metrics by name.
        baselines: The naive baselines on the same rows, by name.
        predictions: `(n, …)`, the prediction for each test row.
        losses: `(n,)` float, the loss on each test row, for comparisons with other models.
    """

    training_id: str
    fingerprint: str
    data_digest: str
    metrics: dict[str, float]
    baselines: dict[str, float]
    predictions: np.ndarray
    losses: np.ndarray

    def require(self, training_id: str, data_digest: str) -> None:
        """Raise `DataError` unless this evaluates that training, on that data."""
        if (self.training_id, self.data_digest) != (training_id, data_digest):
            raise DataError(
                f"an evaluation of training {training_id} on data {data_digest}",
                f"one of training {self.training_id} on data {self.data_digest}",
                "materialize the model and the evaluation again, and what comes after them",
            )

    def require_quality(self, metric: str, floor: float, baseline: str) -> None:
        """Raise `DataError` unless `metric` reaches `floor` and beats `baseline`."""
        found, naive = self.metrics[metric], self.baselines[baseline]
        if not (found >= floor and found > naive):
            raise DataError(
                f"a test {metric} of at least {floor}, and above {baseline} with {naive:.4f}",
                f"{found:.4f}",
                "find out what is wrong with the data or the configuration and train again; "
                "the registry was left untouched",
            )
