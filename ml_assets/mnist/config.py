"""What can be configured about a training; the defaults are those of the weekly run."""

from typing import Literal

import dagster as dg
from pydantic import Field

from ml_assets.build import promotion_policy

GROUP = "mnist"
PROMOTION = promotion_policy(GROUP)


class TrainingConfig(dg.Config):
    """Configuration of `mnist/model`: the keyword parameters of `model.train`."""

    architecture: Literal["fast", "simple"] = Field(
        default="fast",
        description="`fast`: the accurate one; `simple`: two convolutions, for comparison.",
    )
    epochs: int = Field(default=10, ge=1, le=200, description="Passes over the training images.")
    batch_size: int = Field(default=250, ge=8, le=4096, description="Images in a step.")
    learning_rate: float = Field(
        default=0.016, gt=0, le=1, description="Peak of the one-cycle learning rate of AdamW."
    )
    weight_decay: float = Field(
        default=0.02, ge=0, le=1, description="Decoupled weight decay of AdamW."
    )
    label_smoothing: float = Field(
        default=0.05, ge=0, lt=1, description="Share of each target spread over all classes."
    )
    rotation_degrees: float = Field(
        default=12.0, ge=0, le=45, description="Largest rotation of a training image."
    )
    translation_pixels: float = Field(
        default=2.0, ge=0, le=8, description="Largest shift of a training image."
    )
    zoom: float = Field(
        default=0.12,
        ge=0,
        le=0.5,
        description="Largest relative change of a training image's size.",
    )
    seed: int = Field(
        default=0,
        ge=0,
        lt=2**31,
        description="Decides initial weights, data order and augmentation.",
    )
