"""The eight assets, from raw_images by augmentation, model and registered_model to shadow.

Each reads, makes one pure call, and says what came out.
"""

from functools import partial

import dagster as dg

from ml_assets.build import TRAINING_POOL, asset_settings, code_version
from ml_assets.cifar10 import data, features
from ml_assets.cifar10.checks import QUALITY
from ml_assets.cifar10.config import GROUP, PROMOTION, AugmentationConfig, TrainingConfig
from ml_assets.cifar10.data import CLASSES
from ml_assets.cifar10.model import train
from ml_assets.image_reporting import (
    evaluation_metadata,
    images_metadata,
    pictures,
    raw_images_metadata,
)
from ml_assets.ml import plots
from ml_assets.ml.augmentation import Augmentation, augmented
from ml_assets.ml.classifiers import Comparison, champion_losses, evaluate
from ml_assets.ml.evaluation import Evaluation
from ml_assets.ml.images import ImageSplits, RawImages
from ml_assets.ml.training import TrainedModel, weights_digest
from ml_assets.promotion import Decision, Registration, decide
from ml_assets.reporting import (
    explained,
    logged_run,
    picture,
    registration_metadata,
    trained_metadata,
    training_log,
)
from ml_assets.resources.checkpoints import Checkpoints
from ml_assets.resources.datasets import DatasetFile, PretrainedWeights
from ml_assets.resources.mlflow import MlflowResource, save_keras_model
from ml_assets.resources.registry import LoggedRun
from ml_assets.trials import registered, stored, today, tried

MODEL_NAME = "cifar10_resnet"
MODEL_NAMES = {
    "fast_resnet": MODEL_NAME,
    "resnet20": "cifar10_resnet20",
    "vgg": "cifar10_vgg",
    "cnn": "cifar10_cnn",
    "resnet50_transfer": "cifar10_resnet50_transfer",
}
"""The registered model of each architecture; the weekly run's is the first."""
SHOWN_IMAGES, SHOWN_EPOCHS = 10, 4
SETTINGS = asset_settings(GROUP)


@dg.asset(**SETTINGS, kinds={"numpy"})
def raw_images(
    context: dg.AssetExecutionContext, cifar10_source: DatasetFile
) -> dg.MaterializeResult[RawImages]:
    """The images as they arrived, untouched, with their source and digest."""
    with explained(context):
        path = cifar10_source.fetch()
        raw = data.load(path, source=cifar10_source.describe(), sha256=cifar10_source.digest())
    return dg.MaterializeResult(value=raw, metadata=raw_images_metadata(raw, CLASSES))


@dg.asset(**SETTINGS, kinds={"numpy"})
def images(
    context: dg.AssetExecutionContext, raw_images: RawImages
) -> dg.MaterializeResult[ImageSplits]:
    """The images in three disjoint sets: train, validation (stratified) and test."""
    with explained(context):
        splits = features.prepare(raw_images)
    return dg.MaterializeResult(value=splits, metadata=images_metadata(splits, CLASSES))


@dg.asset(**SETTINGS, kinds={"tensorflow"})
def augmentation(
    config: AugmentationConfig, images: ImageSplits
) -> dg.MaterializeResult[Augmentation]:
    """How training images are changed; the training does so while it reads them."""
    policy = config.policy()
    sheet = augmented(policy, images.train_images[:SHOWN_IMAGES], SHOWN_EPOCHS)
    captions = ["original"] * SHOWN_IMAGES
    for epoch in range(1, SHOWN_EPOCHS + 1):
        captions += [f"epoch {epoch}"] * SHOWN_IMAGES
    return dg.MaterializeResult(
        value=policy,
        metadata={
            "augmented_images": picture(plots.contact_sheet(sheet, captions, columns=SHOWN_IMAGES)),
            **config.model_dump(),
        },
    )


@dg.asset(**SETTINGS, kinds={"keras", "tensorflow"}, pool=TRAINING_POOL)
def model(
    context: dg.AssetExecutionContext,
    config: TrainingConfig,
    images: ImageSplits,
    augmentation: Augmentation,
    checkpoints: Checkpoints,
    cifar10_imagenet: PretrainedWeights,
) -> dg.MaterializeResult[TrainedModel]:
    """The trained network. A killed training goes on from its last finished epoch."""
    with explained(context):
        trained = train(
            images,
            augmentation,
            **config.resolved(),
            pretrained=cifar10_imagenet.fetch,
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
    cifar10_mlflow: MlflowResource,
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
    logged = cifar10_mlflow.log(training, partial(save_keras_model, model.model))
    return logged_run(cifar10_mlflow, logged)


@dg.asset(**SETTINGS, kinds={"mlflow"})
def registered_model(
    context: dg.AssetExecutionContext,
    images: ImageSplits,
    model: TrainedModel,
    evaluation: Evaluation,
    mlflow_run: LoggedRun,
    cifar10_mlflow: MlflowResource,
) -> dg.MaterializeResult[Registration]:
    """The model as challenger; as champion, if it beats the present one beyond the noise."""

    def against(champion: bytes | None) -> Decision:
        return decide(evaluation.losses, champion_losses(champion, images))

    accuracy = evaluation.metrics[QUALITY.metric]
    name = MODEL_NAMES[model.parameters["architecture"]]
    with explained(context), cifar10_mlflow.registry(name) as registry:
        evaluation.require_of(mlflow_run.training_id, images.data_digest)
        evaluation.require_of(model.training_id, images.data_digest)  # who gives the name
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
        metadata=registration_metadata(cifar10_mlflow, registration, evaluation, QUALITY),
    )


@dg.asset(**SETTINGS, kinds={"keras", "mlflow"})
def shadow(
    context: dg.AssetExecutionContext,
    images: ImageSplits,
    registered_model: Registration,
    checkpoints: Checkpoints,
    cifar10_mlflow: MlflowResource,
) -> dg.MaterializeResult[Comparison]:
    """The champion and the version on trial on the same test images, and what follows from it."""
    before = stored(checkpoints.output(context))
    with explained(context):
        found, metadata = tried(
            PROMOTION, cifar10_mlflow, registered_model.name, images, before, today(GROUP)
        )
    return dg.MaterializeResult(value=found, metadata=metadata)
