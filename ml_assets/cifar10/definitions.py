"""The code location `cifar10`: what is in it, when it runs, and where its data come from."""

import dagster as dg

from ml_assets.build import build_group, promote_job, refuse_early, rollback_job, weekly_schedule
from ml_assets.cifar10 import assets, data, transfer
from ml_assets.cifar10.checks import CHECKS
from ml_assets.cifar10.config import GROUP, AugmentationConfig, TrainingConfig
from ml_assets.resources.datasets import DatasetFile, PretrainedWeights
from ml_assets.retention import retention
from ml_assets.settings import data_dir, secret, setting

ASSETS = [
    assets.raw_images,
    assets.images,
    assets.augmentation,
    assets.model,
    assets.evaluation,
    assets.mlflow_run,
    assets.registered_model,
    assets.shadow,
]
refuse_early(assets.augmentation, AugmentationConfig)
refuse_early(assets.model, TrainingConfig)

SOURCE = setting(GROUP, "SOURCE", "sample")

cifar10_source = DatasetFile(
    source=SOURCE,  # type: ignore[arg-type]
    file_name=data.ARCHIVE_NAME if SOURCE == "keras" else data.FILE_NAME,
    other_name=data.ARCHIVE_NAME,
    sample_sha256=data.SAMPLE_SHA256,
    directory=setting(GROUP, "DIRECTORY", str(data_dir() / "datasets")),
    url=secret(GROUP, "URL", data.URL, shared=False),
    sha256=data.SHA256,
    cache_directory=str(data_dir() / "datasets"),
)
cifar10_imagenet = PretrainedWeights(
    path=setting(GROUP, "WEIGHTS", ""),
    url=transfer.WEIGHTS_URL,
    known_hash=transfer.WEIGHTS_HASH,
    cache_directory=str(data_dir() / "datasets"),
)
cifar10_weekly = dg.define_asset_job("cifar10_weekly", dg.AssetSelection.groups(GROUP))

defs = build_group(
    GROUP,
    assets=ASSETS,
    checks=CHECKS,
    jobs=[
        cifar10_weekly,
        rollback_job(GROUP, assets.MODEL_NAME),
        promote_job(GROUP, assets.MODEL_NAME),
    ],
    schedules=[
        weekly_schedule(
            GROUP,
            cifar10_weekly,
            "cifar10_source",
            TrainingConfig().resolved() | vars(AugmentationConfig().policy()),
        ),
        retention(GROUP),
    ],
    resources={"cifar10_source": cifar10_source, "cifar10_imagenet": cifar10_imagenet},
)
