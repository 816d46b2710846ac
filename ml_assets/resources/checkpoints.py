"""Where trainings keep their checkpoints, on any file system: another machine can go on."""

import dagster as dg
from pydantic import Field
from upath import UPath

from ml_assets.ml.archive import file_name


class Checkpoints(dg.ConfigurableResource):
    """One checkpoint for each asset that trains, or for each partition of it."""

    base_path: str = Field(description="A directory, or any fsspec URL such as `s3://bucket/ml`.")

    def path(self, context: dg.AssetExecutionContext) -> UPath:
        """Where the training of the asset that is being materialized keeps its checkpoint."""
        parts = list(context.asset_key.path)
        if context.has_partition_key:
            parts.append(file_name(context.partition_key))
        return UPath(self.base_path).joinpath(*parts[:-1], f"{parts[-1]}.zip")
