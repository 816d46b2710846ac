"""The eleven assets, from raw_ticks by ticks, bars, features, windows and forecast to shadow.

The first four are tables in the lakehouse and take any range of days in one run, a day at a time;
the others are made for one day, from the window of days that ends with it.
"""

from datetime import date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np

from ml_assets.build import (
    TRAINING_POOL,
    asset_settings,
    code_version,
    fresh_within,
    trailing,
)
from ml_assets.dagster_internals.automation import DaysBefore
from ml_assets.ml import plots
from ml_assets.ml.ahead import ahead
from ml_assets.ml.archive import model_from_bytes
from ml_assets.ml.days import later, pieces
from ml_assets.ml.errors import DataError
from ml_assets.ml.evaluation import Evaluation
from ml_assets.ml.replay import knows
from ml_assets.ml.training import TrainedModel, weights_digest
from ml_assets.ml.windows import HORIZON, Windows, ending, windowed
from ml_assets.promotion import Decision, Registration, decide, keep_later
from ml_assets.ranges import Days, each_day
from ml_assets.reporting import (
    explained,
    logged_run,
    picture,
    registration_metadata,
    trained_metadata,
    training_log,
)
from ml_assets.resources.checkpoints import Checkpoints
from ml_assets.resources.lakehouse import Lakehouse
from ml_assets.resources.mlflow import MlflowResource, save_keras_model
from ml_assets.resources.registry import LoggedRun, ModelRegistry
from ml_assets.resources.ticks import TickSource
from ml_assets.tick import data
from ml_assets.tick import features as gold
from ml_assets.tick.checks import QUALITY
from ml_assets.tick.config import (
    DAYS,
    GROUP,
    PROMOTION,
    TIMEZONE,
    BarsConfig,
    CleaningConfig,
    TrainingConfig,
    WindowsConfig,
)
from ml_assets.tick.features import TIME
from ml_assets.tick.model import (
    BASIS_POINT,
    Forecast,
    block_losses,
    evaluate,
    forecast_of,
    forecast_table,
    point,
    squared_errors,
    train,
)
from ml_assets.trials import OpenTrial, no_trial, opened, recorded, registered

if TYPE_CHECKING:
    import keras
    import pyarrow as pa

SETTINGS = asset_settings(GROUP) | {"partitions_def": DAYS}
RANGES = dg.BackfillPolicy.single_run()
PIECE_DAYS = 7
"""How many days of bars are in memory at a time, besides those before."""

SHOWN_BARS = 400
"""How many test bars a picture shows."""

RAW_TABLE = f"{GROUP}.raw_ticks"
TABLE = f"{GROUP}.ticks"
QUARANTINE_TABLE = f"{GROUP}.quarantine"
BAR_TABLE = f"{GROUP}.bars"
FEATURE_TABLE = f"{GROUP}.features"
FORECAST_TABLE = f"{GROUP}.forecast"
SHADOW_TABLE = f"{GROUP}.shadow"

_THERE = ~dg.AutomationCondition.missing() & ~dg.AutomationCondition.in_progress()


def changed(days_before: int) -> dg.AutomationCondition:
    """After a late file: a day that is there is made again, once all that it reads is made.

    A day that was made in the run that made what it reads has been handled by it.
    """
    updated = dg.AutomationCondition.newly_updated()
    coming = dg.AutomationCondition.in_progress() | dg.AutomationCondition.will_be_requested()
    any_deps = dg.AutomationCondition.any_deps_match
    return (
        DaysBefore(any_deps(updated), days_before)
        .since_last_handled()
        .with_label("what it was made of has changed")
        & _THERE
        & ~DaysBefore(any_deps(coming), days_before)
    )


def latest(days_before: int) -> dg.AutomationCondition:
    """The same for the latest day; trainings of earlier days are records of what was known."""
    return changed(days_before) & dg.AutomationCondition.in_latest_time_window()


FOLLOWS = (
    dg.AutomationCondition.any_deps_match(dg.AutomationCondition.will_be_requested()) & _THERE
).with_label("what it is made of is made again")
"""The training follows its windows; one that is started by hand is left to its user."""


@dg.asset(**SETTINGS, backfill_policy=RANGES, kinds={"iceberg"})
def raw_ticks(
    context: dg.AssetExecutionContext,
    tick_source: dg.ResourceParam[TickSource],
    tick_lakehouse: Lakehouse,
) -> dg.MaterializeResult:
    """The trades or quotes as they arrived, untouched, with their source and digest."""
    source = tick_source.describe()

    def read(start: datetime, end: datetime) -> "pa.Table":
        return data.arrived(tick_source.read(start, end), start, end, TIMEZONE, source)

    def store(rows: "pa.Table", days: Days) -> list[dict[str, Any]]:
        [(_, start, end)] = days
        written = tick_lakehouse.replace(RAW_TABLE, rows, "partition_time_utc", start, end, "day")
        digest = tick_source.digest(start, end)
        return [{**written.metadata(), "source": source, "sha256": digest}]

    return each_day(context, read, store, prefetch=True)


@dg.asset(**SETTINGS, deps=[raw_ticks], backfill_policy=RANGES, kinds={"iceberg", "polars"})
def ticks(
    context: dg.AssetExecutionContext, config: CleaningConfig, tick_lakehouse: Lakehouse
) -> dg.MaterializeResult:
    """One row a tick, in the order of time, without duplicates; bad prints are quarantined."""

    def clean(start: datetime, end: datetime) -> data.Cleaned:
        raw = tick_lakehouse.read(RAW_TABLE, start, end)
        return data.clean(raw, start, end, **config.model_dump())

    def store(cleaned: data.Cleaned, days: Days) -> list[dict[str, Any]]:
        [(_, start, end)] = days
        tick_lakehouse.replace(
            QUARANTINE_TABLE, cleaned.quarantine, "partition_time_utc", start, end
        )
        written = tick_lakehouse.replace(TABLE, cleaned.ticks, TIME, start, end, "day")
        return [{**cleaned.counts, **written.metadata(), "quarantine": QUARANTINE_TABLE}]

    return each_day(context, clean, store, prefetch=True)


@dg.asset(**SETTINGS, deps=[ticks], backfill_policy=RANGES, kinds={"iceberg", "numpy"})
def bars(
    context: dg.AssetExecutionContext, config: BarsConfig, tick_lakehouse: Lakehouse
) -> dg.MaterializeResult:
    """Open, high, low, close, volume and more of each minute, or of as many ticks or units."""
    import pyarrow as pa

    bar_type = f"{config.kind} {config.size:g}"

    def of_day(window: tuple[datetime, datetime]) -> "pa.Table":
        found = tick_lakehouse.read(TABLE, *window)
        return gold.bars(found, config.kind, config.size, TIMEZONE)

    def make(start: datetime, end: datetime) -> "list[pa.Table]":
        return list(ahead(of_day, pieces(start, end, 1)))

    def store(made: "list[pa.Table]", days: Days) -> list[dict[str, Any]]:
        rows, windows = pa.concat_tables(made), [(day.start, day.end) for day in days]
        written = tick_lakehouse.replace_days(BAR_TABLE, rows, TIME, windows)
        return [
            {"last_day": picture(_chart(bars)), **result.metadata(), "bar_type": bar_type}
            for bars, result in zip(made, written, strict=True)
        ]

    return each_day(context, make, store, days_at_once=PIECE_DAYS)


@dg.asset(
    **SETTINGS,
    **trailing({bars: gold.LOOKBACK_DAYS}),
    backfill_policy=RANGES,
    automation_condition=changed(gold.LOOKBACK_DAYS),
    kinds={"iceberg", "numpy"},
)
def features(context: dg.AssetExecutionContext, tick_lakehouse: Lakehouse) -> dg.MaterializeResult:
    """One row a bar: moving averages, Bollinger bands, RSI, MACD, returns, volatility, volume."""

    def make(start: datetime, end: datetime) -> "pa.Table":
        known = tick_lakehouse.read(BAR_TABLE, gold.lookback(start, TIMEZONE), end)
        return gold.compute(known, start, end, TIMEZONE)

    def store(rows: "pa.Table", days: Days) -> list[dict[str, Any]]:
        windows = [(day.start, day.end) for day in days]
        written = tick_lakehouse.replace_days(FEATURE_TABLE, rows, TIME, windows)
        return [{**result.metadata(), "features": list(gold.FEATURES)} for result in written]

    return each_day(context, make, store, days_at_once=PIECE_DAYS)


@dg.asset(
    **SETTINGS,
    **trailing({features: WindowsConfig().window_days - 1}),
    automation_condition=latest(WindowsConfig().window_days - 1),
    kinds={"numpy"},
)
def windows(
    context: dg.AssetExecutionContext,
    config: WindowsConfig,
    tick_source: dg.ResourceParam[TickSource],
    tick_lakehouse: Lakehouse,
) -> dg.MaterializeResult[Windows]:
    """Windows of 60 bars over one matrix, in three parts, and what scales them."""
    chosen = config.model_dump()
    days = chosen.pop("window_days")
    if tick_source.unique_days:
        # A replayed record repeats: what comes next must not have been seen when it came before.
        days = min(days, tick_source.unique_days - 1)
    end = context.partition_time_window.end
    with explained(context):
        snapshot = tick_lakehouse.snapshot_id(FEATURE_TABLE)
        rows = tick_lakehouse.read(
            FEATURE_TABLE, later(end, -days, TIMEZONE), end, snapshot_id=snapshot
        )
        series = gold.series(rows, f"{FEATURE_TABLE} as of {snapshot}", TIMEZONE)
        gold.require_known(series, config.steps)
        found = windowed(series, **chosen)
    return dg.MaterializeResult(
        value=found,
        metadata={
            "specification": found.specification,
            "first_bar": str(found.times[0]),
            "last_bar": str(found.times[-1]),
            "bars": len(found.times),
            "matrix_mb": found.features.nbytes / 1e6,
            "bar_type": found.bar_type,
            "source": found.source,
            "data_digest": found.data_digest,
        },
    )


@dg.asset(
    **SETTINGS,
    automation_condition=FOLLOWS,
    pool=TRAINING_POOL,
    kinds={"keras", "tensorflow"},
)
def model(
    context: dg.AssetExecutionContext,
    config: TrainingConfig,
    windows: Windows,
    tick_source: dg.ResourceParam[TickSource],
    tick_mlflow: MlflowResource,
    checkpoints: Checkpoints,
) -> dg.MaterializeResult[TrainedModel]:
    """The trained network. A killed training goes on from its last finished epoch."""
    chosen = config.model_dump()
    with explained(context):
        champion = (
            _champion(context, windows, chosen, tick_source, tick_mlflow)
            if chosen.pop("warm_start")
            else None
        )
        trained = train(
            windows,
            **chosen,
            code_version=code_version(GROUP),
            checkpoint=checkpoints.path(context),
            champion=champion,
        )
    return dg.MaterializeResult(value=trained, metadata=trained_metadata(trained))


@dg.asset(**SETTINGS, automation_condition=FOLLOWS, kinds={"keras", "scikitlearn"})
def evaluation(
    context: dg.AssetExecutionContext, windows: Windows, model: TrainedModel
) -> dg.MaterializeResult[Evaluation]:
    """The only look at the test days: errors, skill, hit rate, naive forecasts, a ridge."""
    with explained(context):
        result = evaluate(windows, model)
    return dg.MaterializeResult(
        value=result,
        metadata={
            **{name: picture(png) for name, png in _pictures(windows, model, result).items()},
            **result.metrics,
            **{f"mse_bp2_of_{name}": value for name, value in result.baselines.items()},
            "test_windows": len(windows.test),
        },
    )


@dg.asset(**SETTINGS, automation_condition=FOLLOWS, kinds={"mlflow"})
def mlflow_run(
    context: dg.AssetExecutionContext,
    windows: Windows,
    model: TrainedModel,
    evaluation: Evaluation,
    tick_mlflow: MlflowResource,
) -> dg.MaterializeResult[LoggedRun]:
    """The training in MLflow: parameters, every epoch, test metrics, pictures, the network."""
    with explained(context):
        evaluation.require_of(model.training_id, windows.data_digest)
    pictures = {"learning_curves": plots.learning_curves(model.history)}
    pictures |= _pictures(windows, model, evaluation)
    training = training_log(
        context,
        model,
        evaluation,
        kind=f"{model.parameters['architecture']}-{model.parameters['target']}",
        weights_sha256=weights_digest(model.model),
        pictures=pictures,
        source=windows.source,
        tags={"reads": windows.reads},
    )
    logged = tick_mlflow.log(training, partial(save_keras_model, model.model))
    return logged_run(tick_mlflow, logged)


@dg.asset(**SETTINGS, automation_condition=FOLLOWS, kinds={"mlflow"})
def registered_model(
    context: dg.AssetExecutionContext,
    windows: Windows,
    model: TrainedModel,
    evaluation: Evaluation,
    mlflow_run: LoggedRun,
    tick_source: dg.ResourceParam[TickSource],
    tick_mlflow: MlflowResource,
) -> dg.MaterializeResult[Registration]:
    """The model as challenger; as champion, if it beats the present one beyond the noise."""
    name = _model_name(model.parameters)
    told = {key: model.parameters[key] for key in ("trained_from", "trained_until")}
    told |= {"network": _network(model.parameters), "reads": _reads(windows, tick_source)}
    told |= {"test_mse_bp2": f"{evaluation.metrics[QUALITY.metric]:.4f}"}

    with explained(context), tick_mlflow.registry(name) as registry:

        def against(champion: bytes | None) -> Decision:
            if champion is None:
                return decide(evaluation.losses, None)
            days = windows.days_of(windows.test)
            tags = registry.tags(str(registry.champion()))
            if not _is_news(tags, windows, days, tick_source):
                return keep_later(tags, told)
            present = model_from_bytes(champion)
            target = model.parameters["target"]
            return decide(evaluation.losses, block_losses(present, windows, target))

        evaluation.require_of(mlflow_run.training_id, windows.data_digest)
        day = date.fromisoformat(context.partition_key)
        registration = registered(
            registry,
            mlflow_run,
            evaluation,
            quality=QUALITY,
            tags=told,
            against=against,
            policy=PROMOTION,
            day=day,
        )
    return dg.MaterializeResult(
        value=registration,
        metadata=registration_metadata(tick_mlflow, registration, evaluation, QUALITY),
    )


@dg.asset(
    **SETTINGS,
    automation_condition=FOLLOWS,
    freshness_policy=fresh_within(DAYS, timedelta(days=4)),  # a weekend and a holiday
    kinds={"keras", "iceberg"},
)
def forecast(
    context: dg.AssetExecutionContext,
    windows: Windows,
    model: TrainedModel,
    registered_model: Registration,
    tick_source: dg.ResourceParam[TickSource],
    tick_lakehouse: Lakehouse,
    tick_mlflow: MlflowResource,
) -> dg.MaterializeResult[Forecast]:
    """What a model that does not know the day forecasts at each of its bars for the next one.

    It is the champion; the day's own model, whose training ends before the test days, where the
    champion knows the day. The forecast at the last bar is of a bar that is not there yet.
    """
    start, end = context.partition_time_window
    day = np.datetime64(context.partition_key)
    name, target = registered_model.name, model.parameters["target"]
    with explained(context), tick_mlflow.registry(name) as registry:
        version = _version(registry, registered_model, windows, day, tick_source)
        network = model_from_bytes(registry.model_file(version))
        starts = ending(windows, windows.steps, day)
        result = forecast_of(network, windows, target, starts)
        times = windows.times[starts + windows.steps - 1]
        rows = forecast_table(result, times, start, target, f"{name} {version}")
        written = tick_lakehouse.replace(FORECAST_TABLE, rows, "partition_time_utc", start, end)
    return dg.MaterializeResult(
        value=result,
        metadata={
            "forecast_and_actual": picture(_outlook(times, result)),
            **result.metrics,
            **written.metadata(),
            "model_version": dg.MetadataValue.url(tick_mlflow.model_url(name, version)),
        },
    )


@dg.asset(
    **SETTINGS,
    deps=[forecast],
    automation_condition=FOLLOWS,
    kinds={"keras", "mlflow", "iceberg"},
)
def shadow(
    context: dg.AssetExecutionContext,
    windows: Windows,
    registered_model: Registration,
    tick_source: dg.ResourceParam[TickSource],
    tick_lakehouse: Lakehouse,
    tick_mlflow: MlflowResource,
) -> dg.MaterializeResult:
    """The champion and the version on trial on the day's bars, and what follows from all days."""
    window, day = context.partition_time_window, date.fromisoformat(context.partition_key)
    with explained(context), opened(PROMOTION, tick_mlflow, registered_model.name) as trial:
        if trial is None:
            return dg.MaterializeResult(metadata=no_trial(PROMOTION))
        losses = _losses(trial, windows, day, tick_source)
        days, means = recorded(tick_lakehouse, SHADOW_TABLE, trial, window, day, losses)
        metadata = trial.judged(day, days, means, tuned_for=PROMOTION.days, unit="bp²")
    return dg.MaterializeResult(metadata=metadata | {"table": SHADOW_TABLE})


def _losses(trial: OpenTrial, windows: Windows, day: date, source: TickSource) -> np.ndarray | None:
    """Squared errors `(m, 2)` of champion and challenger; None if one of them knows the day."""
    days = np.array([day], "datetime64[D]")
    tags = [trial.registry.tags(version) for version in trial.versions]
    if day <= trial.since or not all(_is_news(t, windows, days, source) for t in tags):
        return None
    starts = windows.test[windows.days_of(windows.test) == days[0]]
    if not len(starts):
        return np.empty((0, 2))
    target = "volatility" if trial.registry.name.endswith("_volatility") else "log_return"
    files = (trial.registry.model_file(version) for version in trial.versions)
    return np.column_stack(
        [squared_errors(model_from_bytes(file), windows, target, starts) for file in files]
    )


def _model_name(parameters: dict[str, Any]) -> str:
    """The registered model: one for each architecture and target."""
    target = "" if parameters["target"] == "log_return" else f"_{parameters['target']}"
    return f"{GROUP}_{parameters['architecture']}{target}"


def _network(parameters: dict[str, Any]) -> str:
    return f"{parameters['architecture']} of {parameters['units']} units"


def _champion(
    context: dg.AssetExecutionContext,
    windows: Windows,
    parameters: dict[str, Any],
    source: TickSource,
    mlflow: MlflowResource,
) -> "keras.Model | None":
    """The champion that the training may go on from; none if the registry does not answer.

    Of a record that repeats there is none: the champions before it may have learned the test days.
    """
    if source.unique_days:
        return None
    try:
        with mlflow.registry(_model_name(parameters)) as registry:
            version = registry.champion()
            tags = registry.tags(version) if version else {}
            news = _is_news(tags, windows, windows.days_of(windows.test), source)
            if version and news and tags.get("network") == _network(parameters):
                return model_from_bytes(registry.model_file(version))
    except dg.Failure as failure:
        context.log.warning("training from scratch: %s", failure.description)
    return None


def _reads(windows: Windows, source: TickSource) -> str:
    """What a version reads: models of other windows or another source are not compared."""
    return f"{windows.reads}; {source.describe()}"


def _is_news(tags: dict[str, str], windows: Windows, days: np.ndarray, source: TickSource) -> bool:
    """Whether the version with these tags reads such windows, and does not know these days."""
    same = tags.get("reads") == _reads(windows, source)
    return same and not knows(tags, days, source.unique_days)


def _version(
    registry: ModelRegistry,
    registration: Registration,
    windows: Windows,
    day: np.datetime64,
    source: TickSource,
) -> str:
    """The champion, or else the day's own model: the first to which the day is news."""
    for version in (registry.champion(), registration.version):
        if version and _is_news(registry.tags(version), windows, np.array([day]), source):
            return version
    raise DataError(
        f"a version of {registration.name} that was trained before {day}, on windows of "
        f"{_reads(windows, source)}",
        f"neither the champion, version {registry.champion()}, nor the day's own, "
        f"{registration.version or 'which was refused'}",
        "materialize windows with fewer test days, or tables of more days, and what comes after; "
        "the checks of tick/evaluation say why a model was refused",
    )


def _chart(bars: "pa.Table") -> bytes:
    """Price and volume of the bars of a day, as PNG."""
    traded = "ticks" if bars["volume"].null_count else "volume"
    names = (TIME, "low", "high", "close", traded)
    times, low, high, close, volume = (bars[name].to_numpy() for name in names)
    return plots.price_and_volume(times, low, high, close, volume)


def _pictures(windows: Windows, model: TrainedModel, result: Evaluation) -> dict[str, bytes]:
    """The end of the test days: forecast against actual, and the residuals by hour, as PNG."""
    target = model.parameters["target"]
    rows = windows.test + windows.steps - 1 + HORIZON
    truth = getattr(windows, target)[rows] / BASIS_POINT
    times, errors = windows.times[rows], point(result.predictions) / BASIS_POINT - truth
    hours = times.astype("datetime64[h]").astype(int) % 24
    shown = slice(-SHOWN_BARS, None)
    return {
        "forecast_against_actual": plots.forecast(
            times[shown], truth[shown], times[shown], _bounds(result.predictions[shown]), "bp"
        ),
        "residuals": plots.residuals(hours, errors, "hour of the day, UTC", "bp"),
    }


def _outlook(times: np.ndarray, result: Forecast) -> bytes:
    """The forecasts of a day against what came true, each at the time it was made, as PNG."""
    actual = result.actual / BASIS_POINT
    return plots.forecast(times, actual, times, _bounds(result.predictions), "bp of the next bar")


def _bounds(predictions: np.ndarray) -> np.ndarray:
    """Lower bound, forecast and upper bound `(n, 3)` in basis points; all one of a point."""
    if not len(predictions):
        return np.empty((0, 3))
    return np.broadcast_to(predictions, (len(predictions), 3)) / BASIS_POINT
