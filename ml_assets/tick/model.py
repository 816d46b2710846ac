"""The forecasters of the next bar: training, prediction, evaluation.

Skill near 0 is the honest result for returns; a large skill is a leak until shown otherwise.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from upath import UPath

from ml_assets.ml.errors import DataError
from ml_assets.ml.evaluation import Evaluation
from ml_assets.ml.metrics import regression_metrics, skill
from ml_assets.ml.networks import BUILDERS, QUANTILES, pinball
from ml_assets.ml.scaling import StandardScaler
from ml_assets.ml.sequences import in_order, shuffled
from ml_assets.ml.series import BarSeries
from ml_assets.ml.significance import CONFIDENCE, diebold_mariano, hit_rate
from ml_assets.ml.training import TrainedModel, fit, one_cycle, weights_digest
from ml_assets.ml.windows import Split, ahead, split, starts

if TYPE_CHECKING:
    import keras

HORIZON = 1
BASIS_POINT = 1e-4
BLOCK = 60
EWMA_DECAY = 0.94
PREDICTION_BATCH = 1_024


def train(
    series: BarSeries,
    *,
    architecture: str,
    target: str,
    steps: int,
    units: int,
    dropout: float,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    validation_fraction: float,
    test_fraction: float,
    seed: int,
    code_version: str,
    checkpoint: UPath,
    champion: "keras.Model | None" = None,
) -> TrainedModel:
    """Train a network on the earliest windows, with AdamW and a one-cycle learning rate.

    Args:
        series: The bars. What scales them is fitted on the rows of the training windows, and is
            part of the network.
        architecture: A key of `ml.networks.BUILDERS`.
        target: What is forecast of the next bar: `log_return` or `volatility`.
        steps: Bars of a window.
        units: Width of the network.
        dropout: Share of the units that are dropped while it is trained.
        epochs: Passes over the training windows.
        batch_size: Windows in a step; those that fill no batch sit out the epoch.
        learning_rate: Its peak, after a fifth of the steps; it then falls to zero along a cosine.
        weight_decay: AdamW's decoupled weight decay.
        validation_fraction: Share of the windows to validate on after every epoch.
        test_fraction: Share of the windows, the latest, which only the evaluation sees.
        seed: Decides initial weights, data order and dropout.
        code_version: For the record.
        checkpoint: Where to keep the state after every epoch.
        champion: A network of the same shape, from whose weights the training goes on.

    Raises:
        DataError: There are too few windows, or the champion has another shape.
    """
    parameters = dict(locals())  # before anything else is local
    for name in ("series", "code_version", "checkpoint", "champion"):
        del parameters[name]
    parameters["warm_start"] = "none" if champion is None else weights_digest(champion)
    targets = ahead(getattr(series, target), series.sessions, HORIZON)
    parts = parts_of(series, parameters)
    batch_size = min(batch_size, len(parts.train))
    build = partial(
        _compiled,
        architecture=architecture,
        network=partial(
            BUILDERS[architecture],
            steps,
            *_fitted(series.features, targets, parts.train, steps),
            units=units,
            dropout=dropout,
        ),
        rate=partial(one_cycle, learning_rate, epochs * (len(parts.train) // batch_size)),
        weight_decay=weight_decay,
        seed=seed,
        champion=champion,
    )
    rows = (series.features, targets)
    return fit(
        build,
        shuffled(*rows, parts.train, steps=steps, batch_size=batch_size, seed=seed),
        in_order(*rows, parts.validation, steps=steps, batch_size=PREDICTION_BATCH),
        parameters=parameters,
        data_digest=series.data_digest,
        code_version=code_version,
        checkpoint=checkpoint,
    )


def parts_of(series: BarSeries, parameters: dict) -> Split:
    """The starts of the windows of a training with these parameters.

    A window lies in one session with its target, and its last value and its target are known.
    """
    steps, values = parameters["steps"], getattr(series, parameters["target"])
    span = steps + HORIZON
    found = starts(series.sessions, span)
    last = found + steps - 1
    known = np.isfinite(values[last]) & np.isfinite(values[last + HORIZON])
    return split(
        found[known],
        span=span,
        validation=parameters["validation_fraction"],
        test=parameters["test_fraction"],
    )


def _fitted(
    features: np.ndarray, targets: np.ndarray, windows: np.ndarray, steps: int
) -> tuple[StandardScaler, StandardScaler]:
    """The scalers of features and target, from the rows that the windows know and no other."""
    seen = np.zeros(len(features) + 1, np.int64)
    np.add.at(seen, windows, 1)
    np.add.at(seen, windows + steps, -1)
    rows = np.cumsum(seen)[:-1] > 0
    known = targets[windows + steps - 1, np.newaxis]
    return StandardScaler.fit(features[rows]), StandardScaler.fit(known)


def _compiled(
    *,
    architecture: str,
    network: Callable[[], "keras.Model"],
    rate: Callable[[], "keras.optimizers.schedules.LearningRateSchedule"],
    weight_decay: float,
    seed: int,
    champion: "keras.Model | None",
) -> "keras.Model":
    """The untrained network, or one with the champion's weights."""
    import keras

    keras.utils.set_random_seed(seed)
    model = network()
    if champion is not None:
        shapes, found = ([w.shape for w in m.weights] for m in (model, champion))
        if shapes != found:
            raise DataError(
                f"a champion with the weights of {architecture}, {shapes}",
                f"{champion.name}, {found}",
                "train once without a champion to start from",
            )
        model.set_weights(champion.get_weights())
    # Losses are counted in deviations of the target, whatever its unit.
    scale = model.get_layer("unscaled").scale
    quantiles = model.output_shape[-1] > 1
    model.compile(
        keras.optimizers.AdamW(rate(), weight_decay=weight_decay, clipnorm=1.0),
        loss=pinball if quantiles else "mse",
        loss_weights=[1 / scale if quantiles else 1 / scale**2],
        jit_compile=False,  # on a CPU, XLA's loops and attention are many times slower
    )
    return model


def predict(model: "keras.Model", series: BarSeries, windows: np.ndarray) -> np.ndarray:
    """Forecasts `(m, 1)`, or quantiles `(m, 3)`, float32, for the windows `(m,)` that start there.

    Raises:
        DataError: The model reads other rows than the series has.
    """
    _, steps, width = model.input_shape
    if width != series.features.shape[1]:
        raise DataError(
            f"a model of the {series.features.shape[1]} features {', '.join(series.names)}",
            f"one of {width} features",
            "train a model on these features",
        )
    blank = np.zeros(len(series.features))
    batches = in_order(series.features, blank, windows, steps=steps, batch_size=PREDICTION_BATCH)
    return model.predict(batches, verbose=0)


def point(forecasts: np.ndarray) -> np.ndarray:
    """The point forecast `(m,)` float64 of what `predict` gave: of quantiles, the median."""
    return forecasts[:, forecasts.shape[1] // 2].astype(np.float64)


def block_losses(model: "keras.Model", series: BarSeries, parameters: dict) -> np.ndarray:
    """Mean squared errors in squared basis points on blocks of 60 test windows.

    Neighbouring bars err together; blocks hardly do. The latest windows that fill no block belong
    to the last one. The parameters, which say what the test windows are, are the challenger's
    when its champion is scored.

    Raises:
        DataError: The model reads windows of another length, or other features.
    """
    if model.input_shape[1] != parameters["steps"]:
        raise DataError(
            f"a model of {parameters['steps']} steps",
            f"one of {model.input_shape[1]}",
            "compare models of the same steps, or let the new one replace the other",
        )
    windows = parts_of(series, parameters).test
    last = windows + parameters["steps"] - 1
    targets = getattr(series, parameters["target"])[last + HORIZON]
    return _by_block(_squared(targets, point(predict(model, series, windows))))


def evaluate(series: BarSeries, trained: TrainedModel) -> Evaluation:
    """Metrics on the test windows, beside naive forecasts and a ridge regression.

    Errors of returns and volatilities are in basis points; those of the price that follows from a
    return, in the price's unit. Baselines are mean squared errors, `skill_*` the share of them
    that is avoided, and the Diebold-Mariano test is against the best naive forecast.

    Raises:
        DataError: The model was trained on other bars.
    """
    if series.data_digest != trained.data_digest:
        raise DataError(
            f"a model trained on data {series.data_digest}",
            f"one trained on data {trained.data_digest}",
            "materialize the model again",
        )
    parts = parts_of(series, trained.parameters)
    last = parts.test + trained.parameters["steps"] - 1
    target = getattr(series, trained.parameters["target"])[last + HORIZON]
    predictions = predict(trained.model, series, parts.test)
    forecast = point(predictions)
    naive = _naive(series, trained.parameters, parts)
    losses = {name: _squared(target, rival) for name, rival in naive.items()}
    best = min(losses, key=lambda name: losses[name].mean())
    ridge = _squared(target, _ridge(series, trained.parameters, parts))
    baselines = {name: float(values.mean()) for name, values in losses.items()}
    baselines |= {"best_naive": baselines[best], "ridge": float(ridge.mean())}
    errors = regression_metrics(target / BASIS_POINT, forecast / BASIS_POINT)
    own = _squared(target, forecast)
    test = diebold_mariano(own, losses[best], horizon=HORIZON)
    metrics = {
        **{f"{name}{_UNITS[name]}": value for name, value in errors.items()},
        **{f"skill_{name}": skill(errors["mse"], loss) for name, loss in baselines.items()},
        "dm_statistic": test.statistic,
        "dm_p_value": test.p_value,
    }
    if trained.parameters["target"] == "log_return":
        metrics |= _of_returns(series, last, target, forecast)
    if predictions.shape[1] == len(QUANTILES):
        inside = (predictions[:, 0] <= target) & (target <= predictions[:, -1])
        metrics["interval_coverage"] = float(inside.mean())
    return Evaluation(
        training_id=trained.training_id,
        fingerprint=trained.fingerprint,
        data_digest=series.data_digest,
        metrics=metrics,
        baselines=baselines,
        predictions=predictions,
        losses=_by_block(own),
    )


def shows_skill(evaluation: Evaluation) -> bool:
    """Better than the best naive forecast, or right about the sign, beyond chance.

    On a random walk and on shuffled targets, this is false, or something leaks.
    """
    metrics = evaluation.metrics
    better = metrics["dm_statistic"] > 0 and metrics["dm_p_value"] < 1 - CONFIDENCE
    return better or metrics.get("hit_rate_low", 0.0) > 0.5


_UNITS = {"mae": "_bp", "rmse": "_bp", "mse": "_bp2", "r2": ""}


def _squared(target: np.ndarray, forecast: np.ndarray) -> np.ndarray:
    """Squared errors in squared basis points."""
    return ((target - forecast) / BASIS_POINT) ** 2


def _by_block(losses: np.ndarray) -> np.ndarray:
    block = np.minimum(np.arange(len(losses)) // BLOCK, max(len(losses) // BLOCK, 1) - 1)
    return np.bincount(block, losses) / np.bincount(block)


def _of_returns(
    series: BarSeries, last: np.ndarray, target: np.ndarray, forecast: np.ndarray
) -> dict[str, float]:
    """The errors of the price, and how often the direction was right."""
    prices = series.price[last, np.newaxis] * np.exp(np.column_stack([target, forecast]))
    errors = regression_metrics(*prices.T)
    hits = hit_rate(target, forecast)
    return {
        **{f"{name}_price": errors[name] for name in ("mae", "rmse", "mse")},
        "hit_rate": hits.rate,
        "hit_rate_low": hits.low,
        "hit_rate_high": hits.high,
        "hit_rate_rows": float(hits.rows),
    }


def _naive(series: BarSeries, parameters: dict, parts: Split) -> dict[str, np.ndarray]:
    """The naive forecasts `(n,)` for the test windows, by name.

    The weighted mean of past variances and its decay are those of RiskMetrics (1996).
    """
    import pandas as pd

    values = getattr(series, parameters["target"])
    last = parts.test + parameters["steps"] - 1
    if parameters["target"] == "log_return":
        return {"zero_return": np.zeros(len(last)), "last_return": values[last]}
    variance = pd.Series(values**2).ewm(alpha=1 - EWMA_DECAY).mean().to_numpy()
    mean = values[parts.train + parameters["steps"] - 1 + HORIZON].mean()
    return {
        "last_volatility": values[last],
        "mean_volatility": np.full(len(last), mean),
        "ewma_volatility": np.sqrt(variance[last]),
    }


def _ridge(series: BarSeries, parameters: dict, parts: Split) -> np.ndarray:
    """What a ridge regression on the last row of the training windows forecasts."""
    from sklearn.linear_model import Ridge

    values = getattr(series, parameters["target"])
    train, test = (part + parameters["steps"] - 1 for part in (parts.train, parts.test))
    scaler = StandardScaler.fit(series.features[train])
    model = Ridge().fit(scaler.transform(series.features[train]), values[train + HORIZON])
    return model.predict(scaler.transform(series.features[test]))
