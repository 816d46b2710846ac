"""Machine-learning pipelines that retrain themselves, kept as Dagster assets.

Each pipeline is a code location of its own (`ml_assets.mnist.definitions`, …);
`ml_assets.definitions` merges them for the command line. Importing this package imports
nothing heavy, and sets what `settings.env` says and the environment does not.
"""

import os

from dotenv import dotenv_values


def _read_settings_file() -> None:
    """Set each variable of the file `settings.env` that the environment has not set.

    It is the same file, read in the same way, as that of the Makefile. `.env` is none: Dagster's
    commands read it by themselves, over the environment, and Compose for the deployed form.

    Raises:
        ValueError: The file sets `DAGSTER_HOME`.
    """
    file = os.environ.get("ML_ASSETS_SETTINGS_FILE") or "settings.env"
    for name, value in dotenv_values(file, interpolate=False).items():
        if name == "DAGSTER_HOME":
            raise ValueError(
                f"{file}: expected no DAGSTER_HOME, which Dagster reads before this file; found "
                f"it; remedy: export it instead, or set ML_ASSETS_DATA_DIR"
            )
        os.environ.setdefault(name, value or "")


_read_settings_file()
