"""The code location `mnist`: what is in it, when it runs, and where its data come from."""

import dagster as dg

from ml_assets.build import build_group, promote_job, refuse_early, rollback_job, weekly_schedule
from ml_assets.mnist import assets, data
from ml_assets.mnist.checks import CHECKS
from ml_assets.mnist.config import GROUP, TrainingConfig
from ml_assets.resources.datasets import DatasetFile
from ml_assets.retention import retention
from ml_assets.settings import data_dir, secret, setting

ASSETS = [
    assets.raw_images,
    assets.images,
    assets.model,
    assets.evaluation,
    assets.mlflow_run,
    assets.registered_model,
    assets.shadow,
]
refuse_early(assets.model, TrainingConfig)

mnist_source = DatasetFile(
    source=setting(GROUP, "SOURCE", "sample"),  # type: ignore[arg-type]
    file_name=data.FILE_NAME,
    sample_sha256=data.SAMPLE_SHA256,
    directory=setting(GROUP, "DIRECTORY", str(data_dir() / "datasets")),
    url=secret(GROUP, "URL", data.URL, shared=False),
    sha256=data.SHA256,
    cache_directory=str(data_dir() / "datasets"),
)
mnist_weekly = dg.define_asset_job("mnist_weekly", dg.AssetSelection.groups(GROUP))

defs = build_group(
    GROUP,
    assets=ASSETS,
    checks=CHECKS,
    jobs=[
        mnist_weekly,
        rollback_job(GROUP, assets.MODEL_NAME),
        promote_job(GROUP, assets.MODEL_NAME),
    ],
    schedules=[
        weekly_schedule(GROUP, mnist_weekly, "mnist_source", TrainingConfig().model_dump()),
        retention(GROUP),
    ],
    resources={"mnist_source": mnist_source},
)
