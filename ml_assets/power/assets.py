"""The ten assets, from raw_readings by readings, features, model and forecast to shadow.

The first three are tables in the lakehouse and take any range of days in one run; the others are
made for one day, from the window of days that ends with it.
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
from ml_assets.ml import archive, plots
from ml_assets.ml.boosting import TrainedForecaster, boosters_digest
from ml_assets.ml.days import later
from ml_assets.ml.errors import DataError
from ml_assets.ml.evaluation import Evaluation
from ml_assets.ml.replay import knows
from ml_assets.ml.training import training_fingerprint
from ml_assets.power import data
from ml_assets.power import features as gold
from ml_assets.power.checks import QUALITY
from ml_assets.power.config import (
    COUNTRY,
    DAYS,
    GROUP,
    PROMOTION,
    TIMEZONE,
    CleaningConfig,
    TrainingConfig,
    TuningConfig,
)
from ml_assets.power.features import TARGET, TIME, Window
from ml_assets.power.model import (
    BOUNDS,
    Forecast,
    Tuning,
    daily_losses,
    evaluate,
    next_day,
    review,
    select,
    train,
    tune,
)
from ml_assets.promotion import Decision, Registration, decide, keep_later
from ml_assets.ranges import Days, each_day
from ml_assets.reporting import (
    explained,
    logged_run,
    picture,
    registration_metadata,
    training_log,
)
from ml_assets.resources.lakehouse import Lakehouse
from ml_assets.resources.mlflow import MlflowResource, save_forecaster
from ml_assets.resources.readings import ReadingsSource
from ml_assets.resources.registry import LoggedRun
from ml_assets.resources.studies import Studies
from ml_assets.trials import OpenTrial, no_trial, opened, recorded, registered

if TYPE_CHECKING:
    import pyarrow as pa

MODEL_NAMES = {
    "day_ahead": "household_power_lightgbm",
    "next_hour": "household_power_lightgbm_next_hour",
}
SETTINGS = asset_settings(GROUP) | {"partitions_def": DAYS}
RANGES = dg.BackfillPolicy.single_run()
PIECE_DAYS = 92
"""How many days of a range are in memory at a time."""

RAW_TABLE = f"{GROUP}.raw_readings"
TABLE = f"{GROUP}.readings"
QUARANTINE_TABLE = f"{GROUP}.quarantine"
FEATURE_TABLE = f"{GROUP}.features"
FORECAST_TABLE = f"{GROUP}.forecast"
SHADOW_TABLE = f"{GROUP}.shadow"


@dg.asset(**SETTINGS, backfill_policy=RANGES, kinds={"iceberg"})
def raw_readings(
    context: dg.AssetExecutionContext,
    power_source: dg.ResourceParam[ReadingsSource],
    power_lakehouse: Lakehouse,
) -> dg.MaterializeResult:
    """The meter's lines as they arrived, untouched, with their source and digest."""
    source = power_source.describe()

    def read(start: datetime, end: datetime) -> "pa.Table":
        lines = power_source.read(start.date(), end.date())
        return data.arrived(lines, start, end, TIMEZONE, source)

    def store(rows: "pa.Table", days: Days) -> list[dict[str, Any]]:
        written = _stored(power_lakehouse, RAW_TABLE, rows, "partition_time_utc", days)
        digests = (power_source.digest(day.start.date(), day.end.date()) for day in days)
        return [
            {**metadata, "source": source, "sha256": digest}
            for metadata, digest in zip(written, digests, strict=True)
        ]

    return each_day(context, read, store, days_at_once=PIECE_DAYS)


@dg.asset(**SETTINGS, deps=[raw_readings], backfill_policy=RANGES, kinds={"iceberg", "polars"})
def readings(
    context: dg.AssetExecutionContext, config: CleaningConfig, power_lakehouse: Lakehouse
) -> dg.MaterializeResult:
    """One row a minute: typed, ordered, de-duplicated, gaps marked; odd lines are quarantined."""

    def clean(start: datetime, end: datetime) -> data.Cleaned:
        raw = power_lakehouse.read(RAW_TABLE, start, end)
        return data.clean(raw, start, end, TIMEZONE, config.max_excluded_share)

    def store(cleaned: data.Cleaned, days: Days) -> list[dict[str, Any]]:
        power_lakehouse.replace(
            QUARANTINE_TABLE,
            cleaned.quarantine,
            "partition_time_utc",
            days[0].start,
            days[-1].end,
        )
        written = _stored(power_lakehouse, TABLE, cleaned.readings, TIME, days)
        return [
            {**metadata, **counts, "quarantine": QUARANTINE_TABLE}
            for metadata, counts in zip(written, cleaned.by_day.values(), strict=True)
        ]

    return each_day(context, clean, store, days_at_once=PIECE_DAYS)


@dg.asset(
    **SETTINGS,
    **trailing({readings: gold.LOOKBACK_DAYS}),
    backfill_policy=RANGES,
    kinds={"iceberg", "pandas"},
)
def features(context: dg.AssetExecutionContext, power_lakehouse: Lakehouse) -> dg.MaterializeResult:
    """One row an hour: the mean power, and what was known before the hour or before its day."""

    def make(start: datetime, end: datetime) -> "pa.Table":
        known = _readings(power_lakehouse, gold.lookback(start, TIMEZONE), end)
        data.require_minutes(known, start, end)
        return gold.compute(known, start, end, TIMEZONE, COUNTRY)

    def store(rows: "pa.Table", days: Days) -> list[dict[str, Any]]:
        counts = {horizon: len(gold.names(rows.column_names, horizon)) for horizon in gold.PREFIXES}
        written = _stored(power_lakehouse, FEATURE_TABLE, rows, TIME, days)
        return [{**metadata, "features_by_horizon": counts} for metadata in written]

    return each_day(context, make, store, days_at_once=PIECE_DAYS)


@dg.asset(
    **SETTINGS,
    **trailing({features: TuningConfig().window_days - 1}),
    pool=TRAINING_POOL,
    kinds={"optuna", "lightgbm"},
)
def tuning(
    context: dg.AssetExecutionContext,
    config: TuningConfig,
    power_source: dg.ResourceParam[ReadingsSource],
    power_lakehouse: Lakehouse,
    power_studies: Studies,
) -> dg.MaterializeResult[Tuning]:
    """The search for boosting parameters. A killed search goes on after its last finished trial."""
    chosen = config.model_dump()
    if power_source.unique_days:
        # A replayed record repeats: what comes next must not have been seen when it came before.
        limit = power_source.unique_days - config.test_days
        chosen["window_days"] = min(config.window_days, limit)
    end = context.partition_time_window.end
    with explained(context):
        rows = {
            "table": FEATURE_TABLE,
            "snapshot_id": str(power_lakehouse.snapshot_id(FEATURE_TABLE)),
            "start": later(end, -chosen["window_days"], TIMEZONE).isoformat(),
            "end": end.isoformat(),
        }
        window = _window(power_lakehouse, rows, config.horizon)
        space = {name: chosen[name] for name in chosen if name not in {"trials", "seconds"}}
        fingerprint = training_fingerprint(window.digest, code_version(GROUP), space)
        # What was searched with fewer test days has seen some of these.
        series = f"{GROUP}/{config.horizon}-{config.test_days}"
        with power_studies.study(series, context.partition_key, fingerprint) as study:
            found = tune(window, study, **chosen, rows=rows)
    return dg.MaterializeResult(
        value=found,
        metadata={
            "search_history": picture(plots.search_history(found.losses, "kW")),
            "validation_mae_kw": found.loss,
            "boosting": found.boosting,
            "trials": len(found.losses),
            "pruned_trials": int(np.isnan(found.losses).sum()),
            "search_wall_seconds": found.wall_seconds,
            "first_day": str(window.days[0]),
            "last_day": str(window.days[-1]),
            "rows": len(window.times),
            **{f"rows_{name}": value for name, value in rows.items()},
        },
    )


@dg.asset(**SETTINGS, pool=TRAINING_POOL, kinds={"lightgbm"})
def model(
    context: dg.AssetExecutionContext,
    config: TrainingConfig,
    tuning: Tuning,
    power_lakehouse: Lakehouse,
) -> dg.MaterializeResult[TrainedForecaster]:
    """The boosters of the forecast and of its interval, trained with the parameters found."""
    with explained(context):
        window = _window(power_lakehouse, tuning.rows, tuning.parameters["horizon"])
        trained = train(window, tuning, **config.model_dump(), code_version=code_version(GROUP))
    return dg.MaterializeResult(
        value=trained,
        metadata={
            "learning_curves": picture(plots.learning_curves(trained.history, step="round")),
            "feature_importance": picture(_importance(trained)),
            "trees": trained.point.num_trees(),
            "interval_margin_kw": trained.margin,
            **trained.costs,
            "weights_sha256": boosters_digest(trained),
            "parameters": trained.parameters,
        },
    )


@dg.asset(**SETTINGS, kinds={"lightgbm", "scikitlearn"})
def evaluation(
    context: dg.AssetExecutionContext,
    tuning: Tuning,
    model: TrainedForecaster,
    power_lakehouse: Lakehouse,
) -> dg.MaterializeResult[Evaluation]:
    """The model on the test days: metrics, naive forecasts, a random forest, the interval."""
    with explained(context):
        window = _window(power_lakehouse, tuning.rows, tuning.parameters["horizon"])
        result = evaluate(window, model)
    return dg.MaterializeResult(
        value=result,
        metadata={
            **{name: picture(png) for name, png in _pictures(window, model, result).items()},
            **result.metrics,
            **{f"mae_of_{name}": value for name, value in result.baselines.items()},
            "test_days": len(result.losses),
        },
    )


@dg.asset(**SETTINGS, kinds={"mlflow"})
def mlflow_run(
    context: dg.AssetExecutionContext,
    tuning: Tuning,
    model: TrainedForecaster,
    evaluation: Evaluation,
    power_lakehouse: Lakehouse,
    power_mlflow: MlflowResource,
) -> dg.MaterializeResult[LoggedRun]:
    """The training in MLflow: parameters, every round, test metrics, pictures, the boosters."""
    with explained(context):
        window = _window(power_lakehouse, tuning.rows, tuning.parameters["horizon"])
        evaluation.require_of(model.training_id, window.digest)
    pictures = _pictures(window, model, evaluation) | {
        "search_history": plots.search_history(tuning.losses, "kW"),
        "feature_importance": _importance(model),
    }
    training = training_log(
        context,
        model,
        evaluation,
        kind=tuning.parameters["horizon"],
        weights_sha256=boosters_digest(model),
        pictures=pictures,
        source=f"{FEATURE_TABLE} as of {tuning.rows['snapshot_id']}",
        metrics={"search_wall_seconds": tuning.wall_seconds},
        tags={f"rows_{name}": value for name, value in tuning.rows.items()},
    )
    logged = power_mlflow.log(training, partial(save_forecaster, model))
    return logged_run(power_mlflow, logged)


@dg.asset(**SETTINGS, kinds={"mlflow"})
def registered_model(
    context: dg.AssetExecutionContext,
    tuning: Tuning,
    model: TrainedForecaster,
    evaluation: Evaluation,
    mlflow_run: LoggedRun,
    power_source: dg.ResourceParam[ReadingsSource],
    power_lakehouse: Lakehouse,
    power_mlflow: MlflowResource,
) -> dg.MaterializeResult[Registration]:
    """The model as challenger; as champion, if it beats the present one beyond the noise."""
    name = MODEL_NAMES[tuning.parameters["horizon"]]
    mae = evaluation.metrics[QUALITY.metric]

    with explained(context), power_mlflow.registry(name) as registry:
        window = _window(power_lakehouse, tuning.rows, tuning.parameters["horizon"])

        def against(champion: bytes | None) -> Decision:
            if champion is None:
                return decide(evaluation.losses, None)
            test = window.latest(tuning.parameters["test_days"])
            present = archive.from_bytes(TrainedForecaster, champion, f"champion of {name}")
            if knows(present.parameters, window.days[test], power_source.unique_days):
                return keep_later(present.parameters, model.parameters)
            columns = dict(zip(window.names, window.features[test].T, strict=True))
            rows = select(columns, present.point.feature_name())
            return decide(
                evaluation.losses, daily_losses(window, test, present.predict(rows)[:, 1])
            )

        evaluation.require_of(mlflow_run.training_id, window.digest)
        day = date.fromisoformat(context.partition_key)
        registration = registered(
            registry,
            mlflow_run,
            evaluation,
            quality=QUALITY,
            tags={"test_mae_kw": f"{mae:.4f}"},
            against=against,
            policy=PROMOTION,
            day=day,
        )
    return dg.MaterializeResult(
        value=registration,
        metadata=registration_metadata(power_mlflow, registration, evaluation, QUALITY),
    )


@dg.asset(
    **SETTINGS,
    **trailing({features: 7, readings: gold.LOOKBACK_DAYS}),
    freshness_policy=fresh_within(DAYS, timedelta(hours=36)),
    kinds={"lightgbm", "iceberg"},
)
def forecast(
    context: dg.AssetExecutionContext,
    registered_model: Registration,
    power_source: dg.ResourceParam[ReadingsSource],
    power_lakehouse: Lakehouse,
    power_mlflow: MlflowResource,
) -> dg.MaterializeResult[Forecast]:
    """The champion's forecast of the next day, and what became of its forecast of this one.

    Where the champion knows that day, because it is past or a replay repeats it, it is the forecast
    of the day's own model.
    """
    day_begins, begins = context.partition_time_window
    ends, week_ago = later(begins, 1, TIMEZONE), later(day_begins, -6, TIMEZONE)
    with explained(context), power_mlflow.registry(MODEL_NAMES["day_ahead"]) as registry:
        version, champion = registry.champion_file()
        forecaster = archive.from_bytes(TrainedForecaster, champion, f"version {version}")
        news = np.array([begins.date()], "datetime64[D]")
        if knows(forecaster.parameters, news, power_source.unique_days):
            version = _own_version(registered_model)
            champion = registry.model_file(version)
            forecaster = archive.from_bytes(TrainedForecaster, champion, f"version {version}")
        known = _readings(power_lakehouse, gold.lookback(begins, TIMEZONE), begins)
        data.require_minutes(known, day_begins, begins)
        rows = gold.compute(known, begins, ends, TIMEZONE, COUNTRY)
        made = next_day(rows, forecaster, version)
        written = power_lakehouse.replace(FORECAST_TABLE, made, TIME, begins, ends)
        earlier = power_lakehouse.read(FORECAST_TABLE, week_ago, begins)
        actual = power_lakehouse.read(FEATURE_TABLE, week_ago, begins, [TIME, TARGET])
    result = review(earlier, actual, made, day_begins)
    return dg.MaterializeResult(
        value=result,
        metadata={
            "forecast_and_actual": picture(_outlook(earlier, actual, made)),
            **result.metrics,
            **written.metadata(),
            "model_version": dg.MetadataValue.url(
                power_mlflow.model_url(MODEL_NAMES["day_ahead"], version)
            ),
        },
    )


@dg.asset(**SETTINGS, deps=[forecast], kinds={"lightgbm", "mlflow", "iceberg"})
def shadow(
    context: dg.AssetExecutionContext,
    registered_model: Registration,
    power_source: dg.ResourceParam[ReadingsSource],
    power_lakehouse: Lakehouse,
    power_mlflow: MlflowResource,
) -> dg.MaterializeResult:
    """The champion and the version on trial on the day's hours, and what follows from all days."""
    window, day = context.partition_time_window, date.fromisoformat(context.partition_key)
    with explained(context), opened(PROMOTION, power_mlflow, registered_model.name) as trial:
        if trial is None:
            return dg.MaterializeResult(metadata=no_trial(PROMOTION))
        rows = power_lakehouse.read(FEATURE_TABLE, *window)
        losses = _losses(trial, rows, day, power_source.unique_days)
        days, means = recorded(power_lakehouse, SHADOW_TABLE, trial, window, day, losses)
        metadata = trial.judged(day, days, means, tuned_for=PROMOTION.days, unit="kW")
    return dg.MaterializeResult(metadata=metadata | {"table": SHADOW_TABLE})


def _losses(
    trial: OpenTrial, rows: "pa.Table", day: date, unique_days: int | None
) -> np.ndarray | None:
    """Absolute errors `(hours, 2)` of champion and challenger; None if one knows the day."""
    if day <= trial.since:
        return None
    models = [
        archive.from_bytes(TrainedForecaster, trial.registry.model_file(version), version)
        for version in trial.versions
    ]
    days = np.array([day], "datetime64[D]")
    if any(knows(model.parameters, days, unique_days) for model in models):
        return None
    target = rows[TARGET].to_numpy()
    columns = {name: rows[name].to_numpy() for name in rows.column_names}
    errors = [
        np.abs(model.predict(select(columns, model.point.feature_name()))[:, 1] - target)
        for model in models
    ]
    return np.column_stack(errors)[np.isfinite(target)]


def _own_version(registration: Registration) -> str:
    """The version of a day's own model, if it forecasts days and is registered."""
    if registration.name != MODEL_NAMES["day_ahead"] or not registration.version:
        raise DataError(
            f"a version of {MODEL_NAMES['day_ahead']} that does not know what came after the day",
            f"the champion does, and the day's own model is {registration.name}, "
            f"{registration.role}",
            "materialize tuning with the horizon day_ahead, and what comes after it; the checks of "
            "power/evaluation say why a model was refused",
        )
    return registration.version


def _stored(
    lakehouse: Lakehouse, table: str, rows: "pa.Table", column: str, days: Days
) -> list[dict[str, Any]]:
    """Store the rows of some days in one commit; the metadata of each."""
    windows = [(day.start, day.end) for day in days]
    return [result.metadata() for result in lakehouse.replace_days(table, rows, column, windows)]


def _readings(lakehouse: Lakehouse, start: datetime, end: datetime) -> "pa.Table":
    return lakehouse.read(TABLE, start, end, [TIME, *data.COLUMNS])


def _window(lakehouse: Lakehouse, rows: dict[str, str], horizon: str) -> Window:
    """The rows of a training, as of the snapshot that it began with."""
    start, end = (datetime.fromisoformat(rows[name]) for name in ("start", "end"))
    table = lakehouse.read(rows["table"], start, end, snapshot_id=int(rows["snapshot_id"]))
    return gold.window(table, horizon, TIMEZONE)


def _importance(trained: TrainedForecaster) -> bytes:
    point = trained.point
    return plots.importance(point.feature_name(), point.feature_importance("gain"))


def _pictures(window: Window, trained: TrainedForecaster, result: Evaluation) -> dict[str, bytes]:
    """The test days: forecast against actual, and the residuals by hour of the day, as PNG."""
    test = window.latest(trained.parameters["test_days"])
    times, target = window.times[test], window.target[test]
    hours = window.features[test][:, window.names.index("calendar_hour")].astype(int)
    errors = result.predictions[:, 1] - target
    return {
        "forecast_against_actual": plots.forecast(times, target, times, result.predictions, "kW"),
        "residuals": plots.residuals(hours, errors, "hour of the day", "kW"),
    }


def _outlook(earlier: "pa.Table", actual: "pa.Table", made: "pa.Table") -> bytes:
    """A week of forecasts against what came true, and the forecast of the next day, as PNG."""
    import pyarrow as pa

    forecasts = pa.concat_tables([earlier.select(made.column_names), made])
    bounds = np.column_stack([forecasts[name].to_numpy() for name in BOUNDS])
    return plots.forecast(
        actual[TIME].to_numpy(), actual[TARGET].to_numpy(), forecasts[TIME].to_numpy(), bounds, "kW"
    )
