"""The group `mnist` under Dagster's multiprocess executor, for `benchmarks/orchestration.py`."""

import dagster as dg

from ml_assets.mnist import definitions as mnist

defs = dg.Definitions(
    assets=mnist.ASSETS,
    asset_checks=mnist.CHECKS,
    resources=mnist.defs.resources,
    executor=dg.multiprocess_executor,
)
