"""The forecasters of the next bar: training, prediction, evaluation.

Skill near 0 is the honest result for returns; a large skill is a leak until shown otherwise.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
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
from ml_assets.ml.significance import CONFIDENCE, diebold_mariano, hit_rate
from ml_assets.ml.training import TrainedModel, fit, one_cycle, weights_digest
from ml_assets.ml.windows import HORIZON, Windows, ahead

if TYPE_CHECKING:
    import keras
    import pyarrow as pa

BASIS_POINT = 1e-4
BLOCK = 60
EWMA_DECAY = 0.94
PREDICTION_BATCH = 1_024


@dataclass(frozen=True)
class Forecast:
    """What was forecast at each bar of a day for the bar after it.

    Attributes:
        predictions: `(m, 1)`, or `(m, 3)` quantiles, float64.
        actual: `(m,)` float64: what came true, NaN where it is not known, or after a break.
        metrics: `bars`, `bars_compared`; if there are any, `mse_bp2`, `naive_mse_bp2` of the best
            naive forecast, and `skill` if that one errs.
    """

    predictions: np.ndarray
    actual: np.ndarray
    metrics: dict[str, float]


def train(
    windows: Windows,
    *,
    architecture: str,
    target: str,
    units: int,
    dropout: float,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    seed: int,
    code_version: str,
    checkpoint: UPath,
    champion: "keras.Model | None" = None,
) -> TrainedModel:
    """Train a network on the earliest windows, with AdamW and a one-cycle learning rate.

    Args:
        windows: The windows. What scales their rows is part of the network.
        architecture: A key of `ml.networks.BUILDERS`.
        target: What is forecast of the next bar: `log_return` or `volatility`.
        units: Width of the network.
        dropout: Share of the units that are dropped while it is trained.
        epochs: Passes over the training windows.
        batch_size: Windows in a step; those that fill no batch sit out the epoch.
        learning_rate: Its peak, after a fifth of the steps; it then falls to zero along a cosine.
        weight_decay: AdamW's decoupled weight decay.
        seed: Decides initial weights, data order and dropout.
        code_version: For the record.
        checkpoint: Where to keep the state after every epoch.
        champion: A network of the same shape, from whose weights the training goes on.

    Raises:
        DataError: The champion has another shape.
    """
    parameters = dict(locals())  # before anything else is local
    for name in ("windows", "code_version", "checkpoint", "champion"):
        del parameters[name]
    parameters |= {
        "warm_start": "none" if champion is None else weights_digest(champion),
        "bar_type": windows.bar_type,
        "steps": windows.steps,
        "trained_from": _day(windows, windows.train[0]),
        "trained_until": _day(windows, windows.validation[-1] + windows.steps - 1 + HORIZON),
    }
    targets = ahead(getattr(windows, target), windows.sessions, HORIZON)
    scaler = StandardScaler.fit(targets[windows.train + windows.steps - 1, np.newaxis])
    batch_size = min(batch_size, len(windows.train))
    build = partial(
        _compiled,
        architecture=architecture,
        network=partial(
            BUILDERS[architecture],
            windows.steps,
            windows.scaler,
            scaler,
            units=units,
            dropout=dropout,
        ),
        rate=partial(one_cycle, learning_rate, epochs * (len(windows.train) // batch_size)),
        weight_decay=weight_decay,
        seed=seed,
        champion=champion,
    )
    rows, steps = (windows.features, targets), windows.steps
    return fit(
        build,
        shuffled(*rows, windows.train, steps=steps, batch_size=batch_size, seed=seed),
        in_order(*rows, windows.validation, steps=steps, batch_size=PREDICTION_BATCH),
        parameters=parameters,
        data_digest=windows.data_digest,
        code_version=code_version,
        checkpoint=checkpoint,
    )


def _day(windows: Windows, row: int) -> str:
    return str(windows.days[row])


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


def predict(model: "keras.Model", windows: Windows, starts: np.ndarray) -> np.ndarray:
    """Forecasts `(m, 1)`, or quantiles `(m, 3)`, float32, for the windows that start there.

    Raises:
        DataError: The model reads other windows.
    """
    expected = (windows.steps, len(windows.names))
    if model.input_shape[1:] != expected:
        raise DataError(
            f"a model of windows {expected}: {expected[0]} bars of {', '.join(windows.names)}",
            f"one of windows {model.input_shape[1:]}",
            "train a model on these windows",
        )
    batches = in_order(
        windows.features,
        np.zeros(len(windows.features)),
        starts,
        steps=windows.steps,
        batch_size=PREDICTION_BATCH,
    )
    return model.predict(batches, verbose=0)


def point(forecasts: np.ndarray) -> np.ndarray:
    """The point forecast `(m,)` float64 of what `predict` gave: of quantiles, the median."""
    return forecasts[:, forecasts.shape[1] // 2].astype(np.float64)


def block_losses(model: "keras.Model", windows: Windows, target: str) -> np.ndarray:
    """Mean squared errors in squared basis points on blocks of 60 test windows.

    Neighbouring bars err together; blocks hardly do. The latest windows that fill no block belong
    to the last one.

    Raises:
        DataError: The model reads other windows.
    """
    return _by_block(squared_errors(model, windows, target, windows.test))


def squared_errors(
    model: "keras.Model", windows: Windows, target: str, starts: np.ndarray
) -> np.ndarray:
    """Squared errors `(m,)` in squared basis points of the windows that start there.

    Raises:
        DataError: The model reads other windows.
    """
    truth = _last(windows, target, starts, HORIZON)
    return _squared(truth, point(predict(model, windows, starts)))


def evaluate(windows: Windows, trained: TrainedModel) -> Evaluation:
    """Metrics in basis points on the test windows, beside naive forecasts and a ridge regression.

    Errors of the price that follows from a return are in the price's unit. Baselines are mean
    squared errors, `skill_*` the share of them that is avoided (of those that err at all), and the
    Diebold-Mariano test is against the best naive forecast.

    Raises:
        DataError: The model was trained on other windows.
    """
    if windows.data_digest != trained.data_digest:
        raise DataError(
            f"a model trained on data {windows.data_digest}",
            f"one trained on data {trained.data_digest}",
            "materialize the model again",
        )
    kind = trained.parameters["target"]
    target = _last(windows, kind, windows.test, HORIZON)
    predictions = predict(trained.model, windows, windows.test)
    forecast = point(predictions)
    losses = {
        name: _squared(target, rival) for name, rival in naive(windows, kind, windows.test).items()
    }
    best = min(losses, key=lambda name: losses[name].mean())
    ridge = _squared(target, _ridge(windows, kind))
    baselines = {name: float(values.mean()) for name, values in losses.items()}
    baselines |= {"best_naive": baselines[best], "ridge": float(ridge.mean())}
    errors = regression_metrics(target / BASIS_POINT, forecast / BASIS_POINT)
    own = _squared(target, forecast)
    test = diebold_mariano(own, losses[best], horizon=HORIZON)
    metrics = {
        **{f"{name}{_UNITS[name]}": value for name, value in errors.items()},
        **{f"skill_{name}": skill(errors["mse"], loss) for name, loss in baselines.items() if loss},
        "dm_statistic": test.statistic,
        "dm_p_value": test.p_value,
    }
    if kind == "log_return":
        price = _last(windows, "price", windows.test)
        metrics |= _of_returns(price, target, forecast)
    if predictions.shape[1] == len(QUANTILES):
        inside = (predictions[:, 0] <= target) & (target <= predictions[:, -1])
        metrics["interval_coverage"] = float(inside.mean())
    return Evaluation(
        training_id=trained.training_id,
        fingerprint=trained.fingerprint,
        data_digest=windows.data_digest,
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


def forecast_of(
    model: "keras.Model", windows: Windows, target: str, starts: np.ndarray
) -> Forecast:
    """The forecasts of the windows `(m,)` that start there, and what became of them."""
    made = predict(model, windows, starts) if len(starts) else np.empty((0, 1))
    values = ahead(getattr(windows, target), windows.sessions, HORIZON)
    actual = values[starts + windows.steps - 1]
    known = np.isfinite(actual)
    metrics = {"bars": float(len(starts)), "bars_compared": float(known.sum())}
    if known.any():
        rivals = naive(windows, target, starts[known]).values()
        least = min(float(np.nanmean(_squared(actual[known], rival))) for rival in rivals)
        mse = float(_squared(actual[known], point(made[known])).mean())
        metrics |= {"mse_bp2": mse, "naive_mse_bp2": least}
        if least:
            metrics["skill"] = skill(mse, least)
    return Forecast(made.astype(np.float64), actual, metrics)


def forecast_table(
    forecast: Forecast, times: np.ndarray, day: datetime, target: str, version: str
) -> "pa.Table":
    """The forecasts of a day as the lakehouse keeps them.

    Args:
        forecast: The forecasts.
        times: `(m,)` datetime64[us], UTC: when each was made.
        day: The midnight at which the day begins.
        target: What was forecast.
        version: The model and its version.

    Returns:
        `partition_time_utc`, `event_time_utc` (when it was made), `lower`, `forecast`, `upper`
        (null unless quantiles are forecast), `actual` (null where unknown), `target`,
        `model_version`.
    """
    import polars as pl

    predictions = forecast.predictions
    quantiles = predictions.shape[1] == len(QUANTILES)
    nothing = np.full(len(times), np.nan)
    columns = {
        "event_time_utc": times,
        "lower": predictions[:, 0] if quantiles else nothing,
        "forecast": point(predictions),
        "upper": predictions[:, -1] if quantiles else nothing,
        "actual": forecast.actual,
    }
    return (
        pl.DataFrame(columns, nan_to_null=True)
        .with_columns(
            pl.col("event_time_utc").dt.replace_time_zone("UTC"),
            partition_time_utc=pl.lit(day.astimezone(UTC)).cast(pl.Datetime("us", "UTC")),
            target=pl.lit(target),
            model_version=pl.lit(version),
        )
        .to_arrow()
    )


def _by_block(losses: np.ndarray) -> np.ndarray:
    block = np.minimum(np.arange(len(losses)) // BLOCK, max(len(losses) // BLOCK, 1) - 1)
    return np.bincount(block, losses) / np.bincount(block)


def _of_returns(price: np.ndarray, target: np.ndarray, forecast: np.ndarray) -> dict[str, float]:
    """The errors of the price, and how often the direction was right."""
    prices = price[:, np.newaxis] * np.exp(np.column_stack([target, forecast]))
    errors = regression_metrics(*prices.T)
    hits = hit_rate(target, forecast)
    return {
        **{f"{name}_price": errors[name] for name in ("mae", "rmse", "mse")},
        "hit_rate": hits.rate,
        "hit_rate_low": hits.low,
        "hit_rate_high": hits.high,
        "hit_rate_rows": float(hits.rows),
    }


def _last(windows: Windows, name: str, starts: np.ndarray, later: int = 0) -> np.ndarray:
    """A value `(m,)` of the last bar of some windows, or of a bar after it."""
    return getattr(windows, name)[starts + windows.steps - 1 + later]


def naive(windows: Windows, target: str, starts: np.ndarray) -> dict[str, np.ndarray]:
    """The naive forecasts `(m,)` for some windows, by name.

    The weighted mean of past variances and its decay are those of RiskMetrics (1996).
    """
    import pandas as pd

    last = _last(windows, target, starts)
    if target == "log_return":
        return {"zero_return": np.zeros(len(last)), "last_return": last}
    variance = pd.Series(windows.volatility**2).ewm(alpha=1 - EWMA_DECAY).mean().to_numpy()
    return {
        "last_volatility": last,
        "mean_volatility": np.full(
            len(last), _last(windows, target, windows.train, HORIZON).mean()
        ),
        "ewma_volatility": np.sqrt(variance[starts + windows.steps - 1]),
    }


def _ridge(windows: Windows, target: str) -> np.ndarray:
    """What a ridge regression on the last bar of the training windows forecasts for the test."""
    from sklearn.linear_model import Ridge

    rows = windows.matrix
    train, test = (rows[part + windows.steps - 1] for part in (windows.train, windows.test))
    return Ridge().fit(train, _last(windows, target, windows.train, HORIZON)).predict(test)
