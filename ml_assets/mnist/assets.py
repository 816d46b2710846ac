"""The seven assets, from raw_images by images, model and registered_model to shadow.

Each reads, makes one pure call, and says what came out.
"""

from functools import partial

import dagster as dg

from ml_assets.build import TRAINING_POOL, asset_settings, code_version
from ml_assets.image_reporting import (
    evaluation_metadata,
    images_metadata,
    pictures,
    raw_images_metadata,
)
from ml_assets.ml import plots
from ml_assets.ml.classifiers import Comparison, champion_losses, evaluate
from ml_assets.ml.evaluation import Evaluation
from ml_assets.ml.images import ImageSplits, RawImages, load
from ml_assets.ml.training import TrainedModel, weights_digest
from ml_assets.mnist import features
from ml_assets.mnist.checks import QUALITY
from ml_assets.mnist.config import GROUP, PROMOTION, TrainingConfig
from ml_assets.mnist.data import CLASSES
from ml_assets.mnist.model import train
from ml_assets.promotion import Decision, Registration, decide
from ml_assets.reporting import (
    explained,
    logged_run,
    registration_metadata,
    trained_metadata,
    training_log,
)
from ml_assets.resources.checkpoints import Checkpoints
from ml_assets.resources.datasets import DatasetFile
from ml_assets.resources.mlflow import MlflowResource, save_keras_model
from ml_assets.resources.registry import LoggedRun
from ml_assets.trials import registered, stored, today, tried

MODEL_NAME = "mnist_cnn"
SETTINGS = asset_settings(GROUP)


@dg.asset(**SETTINGS, kinds={"numpy"})
def raw_images(
    context: dg.AssetExecutionContext, mnist_source: DatasetFile
) -> dg.MaterializeResult[RawImages]:
    """The digits as they arrived, untouched, with their source and digest."""
    with explained(context):
        path = mnist_source.fetch()
        raw = load(path, source=mnist_source.describe(), sha256=mnist_source.digest())
    return dg.MaterializeResult(value=raw, metadata=raw_images_metadata(raw, CLASSES))


@dg.asset(**SETTINGS, kinds={"numpy"})
def images(
    context: dg.AssetExecutionContext, raw_images: RawImages
) -> dg.MaterializeResult[ImageSplits]:
    """The digits in three disjoint sets: train, validation (stratified) and test."""
    with explained(context):
        splits = features.prepare(raw_images)
    return dg.MaterializeResult(value=splits, metadata=images_metadata(splits, CLASSES))


@dg.asset(**SETTINGS, kinds={"keras", "tensorflow"}, pool=TRAINING_POOL)
def model(
    context: dg.AssetExecutionContext,
    config: TrainingConfig,
    images: ImageSplits,
    checkpoints: Checkpoints,
) -> dg.MaterializeResult[TrainedModel]:
    """The trained network. A killed training goes on from its last finished epoch."""
    trained = train(
        images,
        **config.model_dump(),
        code_version=code_version(GROUP),
        checkpoint=checkpoints.path(context),
    )
    return dg.MaterializeResult(value=trained, metadata=trained_metadata(trained))


@dg.asset(**SETTINGS, kinds={"keras", "scikitlearn"})
def evaluation(
    context: dg.AssetExecutionContext, images: ImageSplits, model: TrainedModel
) -> dg.MaterializeResult[Evaluation]:
    """The only look at the test set: metrics, the naive baseline, and the worst mistakes."""
    with explained(context):
        result = evaluate(images, model)
    return dg.MaterializeResult(value=result, metadata=evaluation_metadata(images, result, CLASSES))


@dg.asset(**SETTINGS, kinds={"mlflow"})
def mlflow_run(
    context: dg.AssetExecutionContext,
    images: ImageSplits,
    model: TrainedModel,
    evaluation: Evaluation,
    mnist_mlflow: MlflowResource,
) -> dg.MaterializeResult[LoggedRun]:
    """The training in MLflow: parameters, every epoch, test metrics, pictures, the model."""
    with explained(context):
        evaluation.require_of(model.training_id, images.data_digest)
    training = training_log(
        context,
        model,
        evaluation,
        kind=model.parameters["architecture"],
        weights_sha256=weights_digest(model.model),
        pictures={
            "learning_curves": plots.learning_curves(model.history),
            **pictures(images, evaluation, CLASSES),
        },
        source=images.source,
    )
    logged = mnist_mlflow.log(training, partial(save_keras_model, model.model))
    return logged_run(mnist_mlflow, logged)


@dg.asset(**SETTINGS, kinds={"mlflow"})
def registered_model(
    context: dg.AssetExecutionContext,
    images: ImageSplits,
    evaluation: Evaluation,
    mlflow_run: LoggedRun,
    mnist_mlflow: MlflowResource,
) -> dg.MaterializeResult[Registration]:
    """The model as challenger; as champion, if it beats the present one beyond the noise."""

    def against(champion: bytes | None) -> Decision:
        return decide(evaluation.losses, champion_losses(champion, images))

    accuracy = evaluation.metrics[QUALITY.metric]
    with explained(context), mnist_mlflow.registry(MODEL_NAME) as registry:
        evaluation.require_of(mlflow_run.training_id, images.data_digest)
        registration = registered(
            registry,
            mlflow_run,
            evaluation,
            quality=QUALITY,
            tags={"test_accuracy": f"{accuracy:.4f}"},
            against=against,
            policy=PROMOTION,
            day=today(GROUP),
        )
    return dg.MaterializeResult(
        value=registration,
        metadata=registration_metadata(mnist_mlflow, registration, evaluation, QUALITY),
    )


@dg.asset(**SETTINGS, kinds={"keras", "mlflow"})
def shadow(
    context: dg.AssetExecutionContext,
    images: ImageSplits,
    registered_model: Registration,
    checkpoints: Checkpoints,
    mnist_mlflow: MlflowResource,
) -> dg.MaterializeResult[Comparison]:
    """The champion and the version on trial on the same test images, and what follows from it."""
    before = stored(checkpoints.output(context))
    with explained(context):
        found, metadata = tried(
            PROMOTION, mnist_mlflow, registered_model.name, images, before, today(GROUP)
        )
    return dg.MaterializeResult(value=found, metadata=metadata)
