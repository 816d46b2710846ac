"""What can be configured about a training; the defaults are those of the weekly run."""

from typing import Literal

import dagster as dg
from pydantic import Field


class TrainingConfig(dg.Config):
    """Configuration of `mnist/model`: the keyword parameters of `model.train`."""

    architecture: Literal["fast", "simple"] = Field(
        default="fast",
        description="`fast`: the accurate one; `simple`: two convolutions, for comparison.",
    )
    epochs: int = Field(default=10, ge=1, le=200, description="Passes over the training images.")
    batch_size: int = Field(default=128, ge=8, le=4096, description="Images in a step.")
    learning_rate: float = Field(default=1e-3, gt=0, le=1, description="The largest step size.")
    seed: int = Field(
        default=0,
        ge=0,
        lt=2**31,
        description="Decides initial weights, data order and augmentation.",
    )
