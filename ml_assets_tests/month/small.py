"""Everything small: where the simulated month keeps its data, its data sets and its trainings.

Nothing but the environment, the defaults of some configurations and the most rounds of boosting are
changed: schedules give their runs no configuration. Jobs, assets, checks, floors, resources and
schedules are the real ones.
"""

import importlib
import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
DAILY, WEEKLY = ("power", "tick"), ("cifar10", "mnist")
GROUPS = (*WEEKLY, *DAILY)
BEGIN = date(2029, 1, 1)
"""A Monday that is still to come: what the file system says of a file is never later."""
HISTORY = {"power": 154, "tick": 14}
"""Days of tables that are there when the month begins."""
KEEP_DAYS = 7

CONFIGURATION: dict[tuple[str, str], dict[str, Any]] = {
    ("mnist", "TrainingConfig"): {"epochs": 3, "batch_size": 50},
    ("cifar10", "TrainingConfig"): {
        "architecture": "cnn",
        "size": "quick",
        "epochs": 6,
        "views": "plain",
        "precision": "float32",
    },
    ("power", "TuningConfig"): {"trials": 2, "folds": 1, "validation_days": 28},
    ("tick", "WindowsConfig"): {"steps": 10},
    ("tick", "TrainingConfig"): {
        "architecture": "gru",
        "units": 4,
        "epochs": 1,
        "batch_size": 512,
    },
}
MOST_ROUNDS = 150
"""Of the boosting of `power`."""
IMAGES = {"mnist": 3000, "cifar10": 900}
"""How many images of the bundled sample a week's file has."""
OURS = ("DAGSTER_", "ML_ASSETS_", "MLFLOW_", "MNIST_", "CIFAR10_", "POWER_", "TICK_")


def midnight(day: date) -> datetime:
    return datetime.combine(day, datetime.min.time(), UTC)


def surround(home: Path) -> None:
    """Set the environment; before the groups are imported, for they read it then."""
    for name in list(os.environ):
        if name.startswith(OURS) or name in {"LAKEHOUSE_CATALOG_URL", "OPTUNA_STORAGE_URL"}:
            del os.environ[name]
    for folder in ("dagster", "mlflow", "lakehouse", "optuna", "inbox"):
        (home / "data" / folder).mkdir(parents=True, exist_ok=True)
    os.environ |= {
        "ML_ASSETS_DATA_DIR": str(home / "data"),
        "DAGSTER_HOME": str(home / "data" / "dagster"),
        "ML_ASSETS_ALERTS_FILE": str(ROOT / "alerts.yaml"),
        "ML_ASSETS_KEEP_DAYS": str(KEEP_DAYS),
        "ML_ASSETS_RETRY_DELAY_SECONDS": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    for group in GROUPS:
        name = group.upper()
        os.environ[f"{name}_MLFLOW_TRACKING_URI"] = f"sqlite:///{home}/data/mlflow/mlflow.db"
        if group in WEEKLY:
            os.environ |= {f"{name}_SOURCE": "local", f"{name}_DIRECTORY": f"{home}/data/inbox"}
        else:
            catalog = f"sqlite:///{home}/data/lakehouse/catalog.db"
            os.environ[f"{name}_LAKEHOUSE_CATALOG_URL"] = catalog
            first = BEGIN - timedelta(days=HISTORY[group])
            os.environ[f"{name}_FIRST_PARTITION"] = str(first)


def shrink() -> None:
    """Give the configurations other defaults; before the assets are imported."""
    for (group, name), defaults in CONFIGURATION.items():
        config = getattr(importlib.import_module(f"ml_assets.{group}.config"), name)
        for field, value in defaults.items():
            config.model_fields[field].default = value
        config.model_rebuild(force=True)
    importlib.import_module("ml_assets.power.model").MAX_ROUNDS = MOST_ROUNDS


def deliver_images(group: str, home: Path, week: int) -> Path:
    """Put a week's file where the group finds it: other images of the sample each week."""
    from ml_assets.resources.datasets import SAMPLES

    path = home / "data" / "inbox" / f"{group}.npz"
    with np.load(SAMPLES / f"{group}.npz") as sample:
        content = dict(sample)
    chosen = np.random.default_rng(week).permutation(len(content["x_train"]))[: IMAGES[group]]
    content |= {name: content[name][chosen] for name in ("x_train", "y_train")}
    np.savez(path, **content)
    return path
