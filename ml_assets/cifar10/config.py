"""What can be configured about a training; the defaults are those of the weekly run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import dagster as dg
from pydantic import Field, model_validator

from ml_assets.build import promotion_policy
from ml_assets.cifar10.data import MEAN
from ml_assets.ml.augmentation import Augmentation

GROUP = "cifar10"
PROMOTION = promotion_policy(GROUP)


@dataclass(frozen=True)
class Recipe:
    """How an architecture is trained where nothing else was chosen.

    Attributes:
        epochs: Passes over the training images, by size.
        batch_size: Images in a step.
        learning_rate: Its peak.
        weight_decay: Decoupled; of `fast_resnet`, for each image of a batch.
        views: Of which views of an image a prediction is the mean.
    """

    epochs: dict[str, int]
    batch_size: int
    learning_rate: float
    weight_decay: float
    views: str = "mirrored"


RECIPES = {
    "cnn": Recipe({"quick": 20, "standard": 10, "full": 30}, 128, 0.003, 0.01),
    "vgg": Recipe({"quick": 10, "standard": 10, "full": 40}, 128, 0.002, 0.02),
    "resnet20": Recipe({"quick": 10, "standard": 20, "full": 200}, 128, 0.004, 0.02),
    "fast_resnet": Recipe(
        {"quick": 10, "standard": 4, "full": 10}, 2_000, 0.24, 5.5e-5, views="shifted"
    ),
    "resnet50_transfer": Recipe({"quick": 20, "standard": 20, "full": 40}, 128, 0.001, 0.01),
}
FINE_TUNING = Recipe({"quick": 1, "standard": 1, "full": 3}, 64, 5e-5, 0.01)
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

    architecture: Literal["cnn", "vgg", "resnet20", "fast_resnet", "resnet50_transfer"] = Field(
        default="fast_resnet",
        description="`fast_resnet`: the accurate one; `resnet20`, `vgg`, `cnn`: for comparison; "
        "`resnet50_transfer`: ResNet-50 trained on ImageNet, whose last layer is replaced.",
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
        default=0,
        ge=0,
        le=8192,
        description="Images in a step, fewer where an epoch would have fewer than 24 steps; 0: as "
        "the architecture has it.",
    )
    learning_rate: float = Field(
        default=0.0, ge=0, le=10, description="Its peak; 0: as the architecture has it."
    )
    fine_tuning: bool = Field(
        default=False,
        description="`resnet50_transfer` only: train the whole network, not its last layer alone; "
        "hours on the full data.",
    )
    label_smoothing: float = Field(
        default=0.2, ge=0, lt=1, description="Share of each target spread over all classes."
    )
    views: Literal["auto", "plain", "mirrored", "shifted"] = Field(
        default="auto",
        description="What a prediction is the mean of: `plain`, the image alone; `mirrored`, the "
        "image and its mirror image; `shifted`, both and both shifted by a pixel either way; "
        "`auto`: as the architecture has it.",
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

    @model_validator(mode="after")
    def _check_fine_tuning(self) -> "TrainingConfig":
        if self.fine_tuning and self.architecture != "resnet50_transfer":
            raise ValueError(
                f"fine_tuning: expected the architecture resnet50_transfer, found "
                f"{self.architecture}; remedy: choose that architecture, or no fine-tuning"
            )
        return self

    def resolved(self) -> dict[str, Any]:
        """All parameters of the training, those of the recipe where none were chosen."""
        recipe = FINE_TUNING if self.fine_tuning else RECIPES[self.architecture]
        quick = self.size == "quick"
        precision = "float32" if self.architecture == "resnet50_transfer" else self.precision
        return self.model_dump() | {
            "epochs": self.epochs or recipe.epochs[self.size],
            "batch_size": self.batch_size or (QUICK_BATCH_SIZE if quick else recipe.batch_size),
            "learning_rate": self.learning_rate or recipe.learning_rate,
            "weight_decay": recipe.weight_decay,
            "views": recipe.views if self.views == "auto" else self.views,
            "precision": _precision() if precision == "auto" else precision,
            "most_images": QUICK_IMAGES if quick else 0,
        }


def _precision() -> str:
    """`mixed_bfloat16` where the processor multiplies such numbers, else `float32`."""
    told = Path("/proc/cpuinfo")
    flags = told.read_text() if told.is_file() else ""
    return "mixed_bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"
