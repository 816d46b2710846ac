"""The forecaster of household electricity: search for its parameters, training, evaluation.

The rows of a trailing window are split by time: the latest days are the test, the blocks of days
before them the validation (rolling origin), and a day lies between each part and the next.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ml_assets.ml import boosting
from ml_assets.ml.boosting import TrainedForecaster
from ml_assets.ml.errors import DataError
from ml_assets.ml.evaluation import Evaluation
from ml_assets.ml.metrics import regression_metrics, skill
from ml_assets.ml.stopping import stopping_between
from ml_assets.power.features import TARGET, TIME, Window

if TYPE_CHECKING:
    import optuna
    import pyarrow as pa

MAX_ROUNDS = 2_000
PATIENCE = 50
GAP_DAYS = 1
BOUNDS = ("lower_kw", "forecast_kw", "upper_kw")
LEAST_TRAINING_DAYS = 28

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tuning:
    """What the search for boosting parameters found.

    Attributes:
        boosting: LightGBM's parameters of the best trial.
        loss: Its validation loss: mean absolute error in kW, mean over the blocks.
        losses: `(trials,)` float64, the loss of each finished trial; NaN if it was pruned.
        parameters: The configuration of the search.
        rows: Where its rows come from: table, snapshot, start and end of the window.
        data_digest: SHA-256 of the rows.
        wall_seconds: Time that the finished trials took, over all sittings.
    """

    boosting: dict[str, Any]
    loss: float
    losses: np.ndarray
    parameters: dict[str, Any]
    rows: dict[str, str]
    data_digest: str
    wall_seconds: float


@dataclass(frozen=True)
class Forecast:
    """The forecast of a day, and what became of the one made a day earlier.

    Attributes:
        predictions: `(hours, 3)` float64: lower bound, forecast and upper bound in kW.
        metrics: `hours_compared` of the earlier forecast and `hours_inside` of its interval; if
            there were any, its `mae_kw`, `coverage` and `claimed_coverage` too.
    """

    predictions: np.ndarray
    metrics: dict[str, float]


def tune(
    window: Window,
    study: "optuna.Study",
    *,
    horizon: str,
    window_days: int,
    test_days: int,
    validation_days: int,
    folds: int,
    trials: int,
    seconds: float,
    seed: int,
    rows: dict[str, str],
) -> Tuning:
    """Search for the parameters with the least validation loss, until the budget is spent.

    The study is taken up where it stands: finished trials count, and the next trial is the one
    that would have been next, because its sampler depends on the seed and their number alone.

    Args:
        window: The rows; the test days are not looked at.
        study: Keeps the trials; parameters that were enqueued are tried first.
        horizon: For the record.
        window_days: For the record.
        test_days: Latest days of the window, held back for the evaluation.
        validation_days: Days in a validation block.
        folds: Number of blocks.
        trials: Number of trials that are finished at the end.
        seconds: Time after which no new trial begins, the first one excepted.
        seed: Of the sampler and of the boosters.
        rows: For the record.

    Raises:
        DataError: The window is too short to be split like that.
    """
    import optuna

    parameters = dict(locals())  # before anything else is local
    for name in ("window", "study", "rows", "optuna"):
        del parameters[name]
    objective = partial(
        _validation_loss,
        window=window,
        blocks=list(_blocks(window, test_days, validation_days, folds)),
        seed=seed,
    )
    finished = _finished(study)
    with stopping_between("trial") as stop_if_asked:
        while not finished or (len(finished) < trials and _seconds(finished) < seconds):
            state = np.random.SeedSequence([seed, len(finished)]).generate_state(1)
            study.sampler = optuna.samplers.TPESampler(seed=int(state[0]))
            study.optimize(objective, n_trials=1)
            finished = _finished(study)
            pruned = finished[-1].state == optuna.trial.TrialState.PRUNED
            logger.info(
                "trial %d/%d: %s, best %.4f kW; at most %.0f s left",
                *(len(finished), trials, "pruned" if pruned else f"{finished[-1].value:.4f} kW"),
                *(study.best_value, max(0.0, seconds - _seconds(finished))),
            )
            stop_if_asked()
    complete = optuna.trial.TrialState.COMPLETE
    return Tuning(
        boosting=study.best_params,
        loss=study.best_value,
        losses=np.array([t.value if t.state == complete else np.nan for t in finished], float),
        parameters=parameters,
        rows=rows,
        data_digest=window.digest,
        wall_seconds=_seconds(finished),
    )


def _validation_loss(
    trial: "optuna.Trial", *, window: Window, blocks: list[tuple[np.ndarray, np.ndarray]], seed: int
) -> float:
    """Mean absolute error in kW of a trial's parameters, mean over the blocks."""
    import optuna

    parameters = {
        "objective": trial.suggest_categorical("objective", ["l1", "l2", "huber"]),
        "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.2, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 4, 64, log=True),
        "min_child_samples": trial.suggest_int("min_child_samples", 10, 200, log=True),
        "feature_fraction": trial.suggest_float("feature_fraction", 0.2, 1.0),
        "bagging_fraction": trial.suggest_float("bagging_fraction", 0.4, 1.0),
        "lambda_l2": trial.suggest_float("lambda_l2", 1e-3, 100.0, log=True),
    }
    losses: list[float] = []
    for number, (train, validation) in enumerate(blocks):
        booster, _ = boosting.boost(
            window.features,
            window.target,
            train,
            validation,
            window.names,
            {**parameters, "metric": "l1", "seed": seed},
            MAX_ROUNDS,
            PATIENCE,
        )
        losses.append(booster.best_score["validation"]["l1"])
        trial.report(float(np.mean(losses)), number)
        if trial.should_prune():
            raise optuna.TrialPruned
    return float(np.mean(losses))


def _blocks(
    window: Window, test_days: int, validation_days: int, folds: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows `(n,)` bool to train on and to validate on, for each rolling origin."""
    days = np.unique(window.days[~window.latest(test_days + GAP_DAYS)])
    needed = LEAST_TRAINING_DAYS + GAP_DAYS + folds * validation_days
    if len(days) < needed:
        raise DataError(
            f"{needed + GAP_DAYS + test_days} days with readings: {LEAST_TRAINING_DAYS} to train "
            f"on, {folds} × {validation_days} to validate on, {test_days} to test on, and gaps",
            f"{len(np.unique(window.days))} days until {window.days[-1]}",
            "materialize raw_readings, readings and features of the days before (a range takes "
            "one run), or configure fewer test_days, validation_days or folds",
        )
    for begin in range(len(days) - folds * validation_days, len(days), validation_days):
        train, validation = days[: begin - GAP_DAYS], days[begin : begin + validation_days]
        yield np.isin(window.days, train), np.isin(window.days, validation)


def _finished(study: "optuna.Study") -> list["optuna.trial.FrozenTrial"]:
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _seconds(trials: list["optuna.trial.FrozenTrial"]) -> float:
    return sum(trial.duration.total_seconds() for trial in trials if trial.duration)


def train(
    window: Window, tuning: Tuning, *, interval: float, seed: int, code_version: str
) -> TrainedForecaster:
    """Train the forecaster with the parameters that the search found.

    Args:
        window: The rows that the search saw.
        tuning: The search.
        interval: Share of the hours that the prediction interval is to cover.
        seed: Of the boosters.
        code_version: For the record.

    Raises:
        DataError: The window is another one than the search saw.
    """
    require_rows(window, tuning.data_digest)
    test_days = tuning.parameters["test_days"]
    validation_days = tuning.parameters["validation_days"]
    rows = ~window.latest(test_days + GAP_DAYS)
    days = np.unique(window.days[rows])  # of which there are readings
    held_out = np.isin(window.days[rows], days[-validation_days:])
    first = np.isin(window.days[rows], days[: -validation_days - GAP_DAYS])
    return boosting.fit(
        window.features[rows],
        window.target[rows],
        first,
        held_out,
        names=window.names,
        boosting=tuning.boosting | {"metric": "l1"},
        interval=interval,
        max_rounds=MAX_ROUNDS,
        patience=PATIENCE,
        seed=seed,
        parameters={
            **tuning.parameters,
            **{f"lightgbm_{name}": value for name, value in tuning.boosting.items()},
            "interval": interval,
            "seed": seed,
            "trained_from": str(window.days[rows][0]),
            "trained_until": str(window.days[rows][-1]),
        },
        data_digest=window.digest,
        code_version=code_version,
    )


def evaluate(window: Window, trained: TrainedForecaster) -> Evaluation:
    """Metrics in kW on the test days, beside naive forecasts and a random forest.

    The losses, by which models are compared, are the mean absolute errors of the days: the hours
    of a day err together. `predictions` are lower bound, forecast and upper bound.

    Raises:
        DataError: The model was trained on another window, or there is no reading on a test day.
    """
    require_rows(window, trained.data_digest)
    test = window.latest(trained.parameters["test_days"])
    target = window.target[test]
    predictions = trained.predict(window.features[test])
    baselines = {
        name: float(np.abs(forecast[test] - target).mean())
        for name, forecast in _naive_forecasts(window, ~test).items()
    }
    baselines["best_naive"] = min(baselines.values())
    baselines["random_forest"] = _random_forest_mae(window, trained, target, test)
    metrics = regression_metrics(target, predictions[:, 1])
    inside = (predictions[:, 0] <= target) & (target <= predictions[:, 2])
    return Evaluation(
        training_id=trained.training_id,
        fingerprint=trained.fingerprint,
        data_digest=window.digest,
        metrics={
            **metrics,
            **{
                f"skill_{name}": skill(metrics["mae"], mae)
                for name, mae in baselines.items()
                if mae  # of a meter that stands still, persistence has no error
            },
            "interval_coverage": float(inside.mean()),
        },
        baselines=baselines,
        predictions=predictions,
        losses=daily_losses(window, test, predictions[:, 1]),
    )


def daily_losses(window: Window, rows: np.ndarray, forecast: np.ndarray) -> np.ndarray:
    """Mean absolute error `(days,)` in kW of each day among the rows `(n,)` bool."""
    _, day = np.unique(window.days[rows], return_inverse=True)
    errors = np.abs(forecast - window.target[rows])
    return np.bincount(day, errors) / np.bincount(day)


def select(columns: Mapping[str, np.ndarray], names: list[str]) -> np.ndarray:
    """The features `(n, len(names))` by name, in this order.

    Raises:
        DataError: One of them is missing.
    """
    missing = [name for name in names if name not in columns]
    if missing:
        raise DataError(
            f"the features {', '.join(missing)}, which the champion was trained on",
            "a table power.features without them",
            "roll the champion back to a version that knows the present features",
        )
    return np.column_stack([columns[name] for name in names])


def next_day(rows: "pa.Table", forecaster: TrainedForecaster, version: str) -> "pa.Table":
    """The forecast of the hours of a day.

    Args:
        rows: The rows of these hours, as `features.compute` makes them.
        forecaster: A forecaster of the horizon `day_ahead`.
        version: Its version, for the record.

    Returns:
        `event_time_utc` (the beginning of the hour), `lower_kw`, `forecast_kw`, `upper_kw`,
        `interval` (the share of hours that it is to cover) and `model_version`.
    """
    columns = {name: rows[name].to_numpy() for name in rows.column_names}
    predictions = forecaster.predict(select(columns, forecaster.point.feature_name()))
    made = rows.select([TIME])
    for name, values in zip(BOUNDS, predictions.T, strict=True):
        made = made.append_column(name, [values])
    made = made.append_column("interval", [[forecaster.parameters["interval"]] * len(rows)])
    return made.append_column("model_version", [[version] * len(rows)])


def review(earlier: "pa.Table", actual: "pa.Table", made: "pa.Table", since: datetime) -> Forecast:
    """Compare the forecasts of the hours since then with what came true."""
    known = dict(zip(actual[TIME].to_pylist(), actual[TARGET].to_numpy(), strict=True))
    rows = np.array(
        [
            (*(row[name] for name in (*BOUNDS, "interval")), known[row[TIME]])
            for row in earlier.to_pylist()
            if row[TIME] >= since and np.isfinite(known.get(row[TIME], np.nan))
        ]
    ).reshape(-1, 5)
    lower, point, upper, interval, true = rows.T
    inside = (lower <= true) & (true <= upper)
    metrics = {"hours_compared": float(len(rows)), "hours_inside": float(inside.sum())}
    if len(rows):
        metrics |= {
            "mae_kw": float(np.abs(point - true).mean()),
            "coverage": float(inside.mean()),
            "claimed_coverage": float(interval.mean()),
        }
    return Forecast(
        predictions=np.column_stack([made[name].to_numpy() for name in BOUNDS]),
        metrics=metrics,
    )


def require_rows(window: Window, digest: str) -> None:
    """Raise `DataError` unless the window's digest is `digest`."""
    if window.digest != digest:
        raise DataError(
            f"rows with the digest {digest}",
            window.digest,
            "materialize tuning, model and evaluation again",
        )


def _naive_forecasts(window: Window, before: np.ndarray) -> dict[str, np.ndarray]:
    """The naive forecasts `(n,)` of all rows.

    After a gap, what one of them lacks is taken from persistence, and else from the mean of the
    rows `before` the test: all are measured on the rows of the model.
    """
    mean = window.target[before].mean()
    persistence = np.nan_to_num(window.naive["persistence"], nan=mean)
    return {
        name: np.where(np.isfinite(values), values, persistence)
        for name, values in window.naive.items()
    }


def _random_forest_mae(
    window: Window, trained: TrainedForecaster, target: np.ndarray, test: np.ndarray
) -> float:
    """Mean absolute error of a random forest that was trained on the forecaster's rows."""
    from sklearn.ensemble import RandomForestRegressor

    rows = ~window.latest(trained.parameters["test_days"] + GAP_DAYS)
    forest = RandomForestRegressor(
        100,
        min_samples_leaf=5,
        max_features=1 / 3,
        n_jobs=-1,
        random_state=trained.parameters["seed"],
    )
    forest.fit(window.features[rows], window.target[rows])
    return float(np.abs(forest.predict(window.features[test]) - target).mean())
