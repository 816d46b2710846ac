"""Gradient boosting with LightGBM: a point forecast and the interval around it.

How many rounds are enough is found on the latest training rows, by early stopping; then every
booster is trained again on all of them. What the rows mean is the groups' business.
"""

import dataclasses
import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from ml_assets.ml.training import TrainingRecord, peak_memory_mb

if TYPE_CHECKING:
    import lightgbm as lgb

FIXED = {
    "verbosity": -1,
    # Two threads gain little on some ten thousand rows, and lose a lot beside another process:
    # they wait for each other without sleeping.
    "num_threads": 1,
    "bagging_freq": 1,
    "deterministic": True,
    "force_row_wise": True,
    "feature_pre_filter": False,
}


@dataclass(frozen=True)
class TrainedForecaster(TrainingRecord):
    """Three boosters, and the record of how they came to be.

    Attributes:
        point: Booster of the forecast.
        lower: Booster of the lower quantile.
        upper: Booster of the upper quantile.
        margin: By how much the interval is widened on both sides (narrowed, if negative), so
            that it covers as many of the held-out rows as it claims.
        training_id: Identity of the training.
        parameters: The configuration, and the boosting parameters.
        data_digest: SHA-256 of the rows it is trained on.
        code_version: Version of the code that trained it.
        history: Validation loss of the point forecast after every round.
        wall_seconds: Time that the training took.
        cpu_seconds: Processor time of it, over all threads.
        peak_memory_mb: Largest resident memory of the process until its end, in MiB.
    """

    point: "lgb.Booster"
    lower: "lgb.Booster"
    upper: "lgb.Booster"
    margin: float
    training_id: str
    parameters: dict[str, Any]
    data_digest: str
    code_version: str
    history: dict[str, list[float]]
    wall_seconds: float
    cpu_seconds: float
    peak_memory_mb: float

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Lower bound, forecast and upper bound `(n, 3)` of rows `(n, k)`, in this order.

        The columns are those of `point.feature_name()`. Bounds never cross the forecast.
        """
        point = np.asarray(self.point.predict(features))
        lower = np.asarray(self.lower.predict(features)) - self.margin
        upper = np.asarray(self.upper.predict(features)) + self.margin
        return np.column_stack([np.minimum(lower, point), point, np.maximum(upper, point)])


def fit(
    features: np.ndarray,
    target: np.ndarray,
    first: np.ndarray,
    held_out: np.ndarray,
    *,
    names: list[str],
    boosting: dict[str, Any],
    interval: float,
    max_rounds: int,
    patience: int,
    seed: int,
    parameters: dict[str, Any],
    data_digest: str,
    code_version: str,
) -> TrainedForecaster:
    """Train the three boosters.

    Args:
        features: `(n, k)` float32 in the order of time, NaN where unknown.
        target: `(n,)` float.
        first: `(n,)` bool: the rows to train on while rounds and margin are decided.
        held_out: `(n,)` bool: the rows on which they are decided.
        names: The k names of the features.
        boosting: LightGBM's parameters of the point forecast; the quantiles use all of them
            but the objective.
        interval: Share of rows that the interval is to cover.
        max_rounds: Largest number of trees.
        patience: Rounds without a better validation loss after which training stops.
        seed: Of the sampling of rows and features.
        parameters: The configuration, for the record.
        data_digest: For the record.
        code_version: For the record.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    history: dict[str, list[float]] = {}
    held: dict[str, np.ndarray] = {}
    boosters: dict[str, lgb.Booster] = {}
    outside = (1 - interval) / 2
    objectives = {
        "point": {},
        "lower": {"objective": "quantile", "alpha": outside, "metric": "quantile"},
        "upper": {"objective": "quantile", "alpha": 1 - outside, "metric": "quantile"},
    }
    for role, objective in objectives.items():
        chosen = {**boosting, **objective, "seed": seed}
        trial, losses = boost(
            features, target, first, held_out, names, chosen, max_rounds, patience
        )
        if role == "point":
            history = {f"val_{name}": values for name, values in losses.items()}
        held[role] = np.asarray(trial.predict(features[held_out]))
        boosters[role] = train(features, target, names, chosen, trial.best_iteration)
    missed = np.maximum(held["lower"] - target[held_out], target[held_out] - held["upper"])
    return TrainedForecaster(
        **boosters,
        margin=float(np.quantile(missed, interval)),
        training_id=uuid4().hex,
        parameters=parameters,
        data_digest=data_digest,
        code_version=code_version,
        history=history,
        wall_seconds=time.perf_counter() - wall,
        cpu_seconds=time.process_time() - cpu,
        peak_memory_mb=peak_memory_mb(),
    )


def boost(
    features: np.ndarray,
    target: np.ndarray,
    train: np.ndarray,
    validation: np.ndarray,
    names: list[str],
    boosting: dict[str, Any],
    max_rounds: int,
    patience: int,
) -> tuple["lgb.Booster", dict[str, list[float]]]:
    """Train a booster on some rows until others are forecast no better.

    Args:
        features: `(n, k)` float32.
        target: `(n,)` float.
        train: `(n,)` bool.
        validation: `(n,)` bool.
        names: The k names of the features.
        boosting: LightGBM's parameters, `objective`, `metric` and `seed` among them.
        max_rounds: Largest number of trees.
        patience: Rounds without a better validation loss after which training stops.

    Returns:
        The booster, whose `best_iteration` is the best round, and the validation loss after
        every round by metric.
    """
    import lightgbm as lgb

    losses: dict[str, dict[str, list[float]]] = {}
    data = lgb.Dataset(features[train], target[train], feature_name=names, params=FIXED)
    booster = lgb.train(
        {**FIXED, **boosting},
        data,
        num_boost_round=max_rounds,
        valid_sets=[data.create_valid(features[validation], target[validation])],
        valid_names=["validation"],
        callbacks=[
            lgb.early_stopping(patience, verbose=False),
            lgb.record_evaluation(losses),
        ],
    )
    return booster, losses["validation"]


def train(
    features: np.ndarray,
    target: np.ndarray,
    names: list[str],
    boosting: dict[str, Any],
    rounds: int,
) -> "lgb.Booster":
    """Train a booster for a given number of rounds."""
    import lightgbm as lgb

    data = lgb.Dataset(features, target, feature_name=names, params=FIXED)
    return lgb.train({**FIXED, **boosting}, data, num_boost_round=rounds)


def boosters_digest(trained: TrainedForecaster) -> str:
    """SHA-256 over the boosters in LightGBM's text format, and the margin."""
    digest = hashlib.sha256(repr(trained.margin).encode())
    for field in dataclasses.fields(trained):
        value = getattr(trained, field.name)
        if hasattr(value, "model_to_string"):
            digest.update(value.model_to_string().encode())
    return digest.hexdigest()
