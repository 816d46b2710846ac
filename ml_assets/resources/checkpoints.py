"""Where trainings keep their checkpoints: beside their outputs, so another machine can go on."""

import dagster as dg
from pydantic import Field
from upath import UPath

from ml_assets.ml.archive import checkpoint_of, file_name


class Checkpoints(dg.ConfigurableResource):
    """One checkpoint for each asset that trains, or for each partition of it.

    The I/O manager removes it when the output is stored; until then nothing is lost.
    """

    base_path: str = Field(description="The I/O manager's base path.")

    def path(self, context: dg.AssetExecutionContext) -> UPath:
        """Where the training of the asset that is being materialized keeps its checkpoint."""
        return checkpoint_of(self.output(context))

    def output(self, context: dg.AssetExecutionContext) -> UPath:
        """Where the I/O manager keeps the output of that asset: until then, the one before."""
        parts = list(context.asset_key.path)
        if context.has_partition_key:
            parts.append(file_name(context.partition_key))
        return UPath(self.base_path).joinpath(*parts[:-1], f"{parts[-1]}.zip")
