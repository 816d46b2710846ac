"""A group's code location as small as it gets, in the release that `make.py` bundles.

It is run by that release's interpreter and imports nothing of this one: formats and schemas are the
release's own; networks, searches and pictures are small. The variable `BUNDLED_GROUP` names it.
"""

import importlib
import os
from functools import partial
from typing import Any

from matplotlib.figure import Figure

CONFIGURATION: dict[tuple[str, str], dict[str, Any]] = {
    ("mnist", "TrainingConfig"): {"epochs": 5, "batch_size": 25},
    ("cifar10", "TrainingConfig"): {
        "architecture": "cnn",
        "size": "quick",
        "epochs": 6,
        "views": "plain",
        "precision": "float32",
    },
    ("power", "TuningConfig"): {"trials": 2, "folds": 1, "validation_days": 7, "test_days": 7},
    ("tick", "WindowsConfig"): {"steps": 10},
    ("tick", "TrainingConfig"): {
        "architecture": "gru",
        "units": 4,
        "epochs": 1,
        "batch_size": 512,
    },
}
MOST_ROUNDS = 40


def _build_small_digits() -> Any:
    from keras import Sequential, layers

    return Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(8, 5, activation="relu"),
            layers.MaxPooling2D(),
            layers.BatchNormalization(momentum=0.9),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.BatchNormalization(momentum=0.9),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ],
        name="fast",
    )


def _shrink(group: str) -> None:
    for (owner, name), defaults in CONFIGURATION.items():
        if owner == group:
            config = getattr(importlib.import_module(f"ml_assets.{group}.config"), name)
            for field, value in defaults.items():
                config.model_fields[field].default = value
            config.model_rebuild(force=True)
    save = Figure.savefig
    Figure.savefig = lambda self, *args, **options: save(self, *args, **(options | {"dpi": 6}))
    if group == "power":
        importlib.import_module("ml_assets.power.model").MAX_ROUNDS = MOST_ROUNDS
    if group == "mnist":
        builders = importlib.import_module("ml_assets.mnist.model").BUILDERS
        builders["fast"] = _build_small_digits
    if group == "cifar10":
        networks = importlib.import_module("ml_assets.cifar10.networks")
        networks.BUILDERS["cnn"] = partial(
            networks._plain, widths=(16, 32, 64), repeats=1, name="cnn"
        )
    # The bundle is compressed as a whole, and files that are alike count once.
    commits = importlib.import_module("ml_assets.resources.lakehouse.commits")
    commits._PROPERTIES["write.parquet.compression-codec"] = "uncompressed"


_shrink(os.environ["BUNDLED_GROUP"])
defs = importlib.import_module(f"ml_assets.{os.environ['BUNDLED_GROUP']}.definitions").defs
