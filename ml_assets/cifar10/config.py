"""What can be configured about a training; the defaults are those of the weekly run."""

from pathlib import Path
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from ml_assets.cifar10.data import MEAN
from ml_assets.ml.augmentation import Augmentation

GROUP = "cifar10"

EPOCHS = {
    "cnn": {"quick": 20, "standard": 10, "full": 30},
    "vgg": {"quick": 10, "standard": 10, "full": 40},
    "resnet20": {"quick": 10, "standard": 20, "full": 200},
    "fast_resnet": {"quick": 10, "standard": 4, "full": 8},
}
"""Passes over the training images, by architecture and size."""

BATCH_SIZE = {"cnn": 128, "vgg": 128, "resnet20": 128, "fast_resnet": 2_000}
LEARNING_RATE = {"cnn": 0.003, "vgg": 0.002, "resnet20": 0.004, "fast_resnet": 0.24}
WEIGHT_DECAY = {"cnn": 0.01, "vgg": 0.02, "resnet20": 0.02, "fast_resnet": 0.0167}
QUICK_BATCH_SIZE = 50
QUICK_IMAGES = 5_000


class AugmentationConfig(dg.Config):
    """Configuration of `cifar10/augmentation`: how training images are changed."""

    flip: Literal["none", "random", "alternating"] = Field(
        default="alternating",
        description="Left and right: `random`; or `alternating`, so that any two epochs that "
        "follow one another have seen both.",
    )
    translation_pixels: int = Field(
        default=2, ge=0, le=8, description="Largest shift of a training image."
    )
    rotation_degrees: float = Field(
        default=0.0, ge=0, le=45, description="Largest rotation of a training image."
    )
    cutout_pixels: int = Field(
        default=0, ge=0, le=24, description="Side of a square that is blanked out; 0 for none."
    )

    def policy(self) -> Augmentation:
        """The same, as what changes images."""
        return Augmentation(**self.model_dump(), fill=list(MEAN))


class TrainingConfig(dg.Config):
    """Configuration of `cifar10/model`: what `resolved` makes of it are parameters of `train`."""

    architecture: Literal["cnn", "vgg", "resnet20", "fast_resnet"] = Field(
        default="fast_resnet",
        description="`fast_resnet`: the accurate one; `resnet20`, `vgg`, `cnn`: for comparison.",
    )
    size: Literal["quick", "standard", "full"] = Field(
        default="full",
        description="How long to train: `quick` about a minute, on up to 5,000 images; `standard` "
        "for a first impression; `full` as the weekly run.",
    )
    epochs: int = Field(
        default=0, ge=0, le=500, description="Passes over the images; 0: as the size has it."
    )
    batch_size: int = Field(
        default=0, ge=0, le=8192, description="Images in a step; 0: as the architecture has it."
    )
    learning_rate: float = Field(
        default=0.0, ge=0, le=10, description="Its peak; 0: as the architecture has it."
    )
    label_smoothing: float = Field(
        default=0.2, ge=0, lt=1, description="Share of each target spread over all classes."
    )
    views: Literal["plain", "mirrored", "shifted"] = Field(
        default="shifted",
        description="What a prediction is the mean of: `plain`, the image alone; `mirrored`, the "
        "image and its mirror image; `shifted`, both and both shifted by a pixel either way.",
    )
    precision: Literal["auto", "float32", "mixed_bfloat16"] = Field(
        default="auto",
        description="`auto`: `mixed_bfloat16` where the processor has instructions for it.",
    )
    seed: int = Field(
        default=0,
        ge=0,
        lt=2**31,
        description="Decides initial weights, data order and augmentation.",
    )

    def resolved(self) -> dict[str, Any]:
        """All parameters of the training, the architecture's own where none were chosen."""
        values, quick = self.model_dump(), self.size == "quick"
        batch_size = QUICK_BATCH_SIZE if quick else BATCH_SIZE[self.architecture]
        return values | {
            "epochs": self.epochs or EPOCHS[self.architecture][self.size],
            "batch_size": self.batch_size or batch_size,
            "learning_rate": self.learning_rate or LEARNING_RATE[self.architecture],
            "weight_decay": WEIGHT_DECAY[self.architecture],
            "precision": _precision() if self.precision == "auto" else self.precision,
            "most_images": QUICK_IMAGES if quick else 0,
        }


def _precision() -> str:
    """`mixed_bfloat16` where the processor multiplies such numbers, else `float32`."""
    told = Path("/proc/cpuinfo")
    flags = told.read_text() if told.is_file() else ""
    return "mixed_bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"
