"""What assets tell: metadata with pictures, errors with their partition, trainings to MLflow.

What a group's own assets show besides is in its `assets.py`.
"""

import base64
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets.ml import plots
from ml_assets.ml.errors import DataError
from ml_assets.ml.evaluation import Evaluation, Quality
from ml_assets.ml.training import TrainedModel, weights_digest
from ml_assets.promotion import Registration
from ml_assets.resources.mlflow import MlflowResource, Training
from ml_assets.resources.registry import LoggedRun

if TYPE_CHECKING:
    from ml_assets.ml.boosting import TrainedForecaster

FINGERPRINT = "training_fingerprint"
"""The metadata of `registered_model` by which the schedule knows what was trained."""


def run_tags(context: dg.AssetExecutionContext) -> dict[str, str]:
    """The tags that say in MLflow which Dagster run logged what."""
    tags = {
        "dagster_run_id": context.run_id,
        "dagster_asset": context.asset_key.to_user_string(),
    }
    return tags | ({"partition": context.partition_key} if context.has_partition_key else {})


def picture(png: bytes) -> dg.MarkdownMetadataValue:
    """Show a PNG image in the Dagster UI, with few colours: about a quarter of its size.

    Dagster keeps metadata for ever, three times over. MLflow has the image with all colours.
    """
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.open(io.BytesIO(png)).convert("RGB")
    colours = 64 if image.getcolors(16_384) else 256  # of a chart, or of photographs
    image.quantize(colours, dither=Image.Dither.NONE).save(buffer, format="PNG", optimize=True)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return dg.MetadataValue.md(f"![](data:image/png;base64,{encoded})")


def registration_metadata(
    mlflow: MlflowResource, registration: Registration, evaluation: Evaluation, quality: Quality
) -> dict[str, Any]:
    """What `registered_model` shows; the schedule and the demo read it."""
    name, version = registration.name, registration.version
    url = {"model_version": dg.MetadataValue.url(mlflow.model_url(name, version))}
    return {
        **(url if version else {}),
        "role": registration.role,
        "reason": registration.reason,
        "model": name,
        "version": version,
        "metric": quality.metric,
        "value": evaluation.metrics[quality.metric],
        "baseline": evaluation.baselines[quality.baseline],
        # What was refused is due again.
        FINGERPRINT: evaluation.fingerprint if version else "",
    }


@contextmanager
def explained(context: dg.AssetExecutionContext) -> Iterator[None]:
    """Report a `DataError` with the asset and partition it befell; retrying would not help."""
    try:
        yield
    except DataError as error:
        partitions = ""
        if context.has_partition_key_range:
            chosen = context.partition_key_range
            partitions = f", partition {chosen.start}"
            partitions += f" to {chosen.end}" if chosen.end != chosen.start else ""
        elif context.has_partition_key:
            partitions = f", partition {context.partition_key}"
        raise dg.Failure(
            f"{context.asset_key.to_user_string()}{partitions}: {error}",
            metadata={
                "expected": error.expected,
                "found": error.found,
                "remedy": error.remedy,
            },
            allow_retries=False,
        ) from error


def trained_metadata(trained: TrainedModel) -> dict[str, Any]:
    """What an asset that trains a Keras model shows: curves, last metrics, costs, digests."""
    return {
        "learning_curves": picture(plots.learning_curves(trained.history)),
        **{name: values[-1] for name, values in trained.history.items()},
        **trained.costs,
        "parameter_count": trained.model.count_params(),
        "weights_sha256": weights_digest(trained.model),
        "parameters": trained.parameters,
        "resumed_after_epochs": trained.resumed_after,
    }


def training_log(
    context: dg.AssetExecutionContext,
    trained: "TrainedModel | TrainedForecaster",
    evaluation: Evaluation,
    *,
    kind: str,
    weights_sha256: str,
    pictures: dict[str, bytes],
    source: str,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
) -> Training:
    """What MLflow is told about a training, of which every group tells the same.

    Args:
        context: Of the asset that logs it.
        trained: The training.
        evaluation: What it is worth on the test set.
        kind: What was trained, for the name of the MLflow run.
        weights_sha256: Digest of the weights.
        pictures: PNG bytes by name.
        source: Where the data came from.
        metrics: What else was measured.
        tags: What else to tag the MLflow run with.
    """
    group = context.asset_key.path[0]
    return Training(
        training_id=trained.training_id,
        weights_sha256=weights_sha256,
        name=f"{group}-{kind}",
        parameters=trained.parameters,
        history=trained.history,
        metrics={f"test_{name}": value for name, value in evaluation.metrics.items()}
        | {f"baseline_{name}": value for name, value in evaluation.baselines.items()}
        | dict(metrics or {})
        | trained.costs,
        tags=run_tags(context)
        | {"code_version": trained.code_version, "seed": str(trained.parameters["seed"])}
        | dict(tags or {}),
        pictures={f"{name}.png": png for name, png in pictures.items()},
        dataset=group,
        dataset_source=source,
        data_digest=trained.data_digest,
    )


def logged_run(mlflow: MlflowResource, logged: LoggedRun) -> dg.MaterializeResult[LoggedRun]:
    """The result of an asset that logged a training, with a link to it."""
    url = dg.MetadataValue.url(mlflow.run_url(logged))
    return dg.MaterializeResult(value=logged, metadata={"mlflow_run": url, **asdict(logged)})
