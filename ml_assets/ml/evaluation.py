"""The record of an evaluation on the test set, the same for every group."""

from dataclasses import dataclass

import numpy as np

from ml_assets.ml.errors import DataError


@dataclass(frozen=True)
class Quality:
    """What an evaluation must show before its model is registered.

    Attributes:
        metric: The metric that decides.
        limit: Its worst value that is acceptable.
        baseline: The naive baseline that it must beat.
        lower_is_better: The metric is an error or a loss.
        tolerance: The share of the baseline by which the metric may be worse, where no skill is an
            honest result.
    """

    metric: str
    limit: float
    baseline: str
    lower_is_better: bool = False
    tolerance: float = 0.0

    def better(self, value: float, than: float) -> bool:
        """`value` is strictly better than `than`."""
        return value < than if self.lower_is_better else value > than


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

    def require_of(self, training_id: str, data_digest: str) -> None:
        """Raise `DataError` unless this evaluates that training, on that data."""
        if (self.training_id, self.data_digest) != (training_id, data_digest):
            raise DataError(
                f"an evaluation of training {training_id} on data {data_digest}",
                f"one of training {self.training_id} on data {self.data_digest}",
                "materialize the model and the evaluation again, and what comes after them",
            )

    def reaches(self, quality: Quality) -> bool:
        """The metric is no worse than its limit (NaN is)."""
        found = self.metrics[quality.metric]
        return found == quality.limit or quality.better(found, quality.limit)

    def beats_baseline(self, quality: Quality) -> bool:
        """The metric is better than that of the naive baseline, or worse within the tolerance."""
        sign = 1 if quality.lower_is_better else -1
        least = self.baselines[quality.baseline] * (1 + sign * quality.tolerance)
        return quality.better(self.metrics[quality.metric], least)

    def require(self, quality: Quality) -> None:
        """Raise `DataError` unless the metric reaches its limit and beats the baseline."""
        if not (self.reaches(quality) and self.beats_baseline(quality)):
            raise DataError(
                f"a test {quality.metric} no worse than {quality.limit}, and "
                f"{f'at most {quality.tolerance:.0%} worse' if quality.tolerance else 'better'} "
                f"than {quality.baseline} with {self.baselines[quality.baseline]:.4f}",
                f"{self.metrics[quality.metric]:.4f}",
                "find out what is wrong with the data or the configuration and train again; "
                "the registry was left untouched",
            )
