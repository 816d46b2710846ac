"""Prepare the data directory: what `make install` does once the packages are there.

python -m ml_assets.prepare

A new directory is laid out, one that was moved or copied is relocated, and the databases of an
earlier release are brought to the schemas of this one's packages.
"""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import dagster as dg
from rich.console import Console

from ml_assets import relocate
from ml_assets.build import TRAINING_POOL
from ml_assets.ml.errors import DataError
from ml_assets.settings import data_dir

STAMP = ".prepared.json"
"""With which packages the databases were prepared last."""
_PACKAGES = ("dagster", "mlflow", "optuna")


def prepare(data: Path, settings: Path, console: Console) -> None:
    """Prepare a data directory; again, nothing changes.

    Args:
        data: The directory.
        settings: The `dagster.yaml` of the embedded form.
        console: Where to say what was done.

    Raises:
        DataError: `DAGSTER_HOME` has settings of its own.
    """
    home = Path(os.environ.setdefault("DAGSTER_HOME", str(data / "dagster")))
    for directory in (home, data / "mlflow"):
        directory.mkdir(parents=True, exist_ok=True)
    _link(settings, home / settings.name)
    relocate.report(console, *relocate.relocate(data))
    stamp, versions = data / STAMP, {name: version(name) for name in _PACKAGES}
    before = json.loads(stamp.read_text()) if stamp.is_file() else None
    if before != versions:
        _migrate(data, home)
        stamp.write_text(json.dumps(versions))


def _link(settings: Path, link: Path) -> None:
    if link.exists() and not link.is_symlink():
        raise DataError(
            f"no dagster.yaml of its own in DAGSTER_HOME={link.parent}", "one", "unset DAGSTER_HOME"
        )
    if not link.is_symlink() or link.readlink() != settings:
        link.unlink(missing_ok=True)
        link.symlink_to(settings)


def _migrate(data: Path, home: Path) -> None:
    """Bring the databases below the data directory to the schemas of the installed packages."""
    new = not (home / "history").exists()
    with dg.DagsterInstance.get() as instance:
        if new:
            # Of a pool that it has never seen, the run queue lets the first runs start all at once.
            instance.event_log_storage.set_concurrency_slots(TRAINING_POOL, 1)
        else:
            instance.upgrade()
    if (mlflow := data / "mlflow" / "mlflow.db").is_file():
        command = [sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{mlflow}"]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)  # noqa: S603
    for studies in sorted((data / "optuna").glob("*.db")):
        from optuna.storages import RDBStorage

        RDBStorage(
            f"sqlite:///{studies}", skip_compatibility_check=True, skip_table_creation=True
        ).upgrade()


def main() -> int:
    """Prepare the data directory that the environment names, from the project's directory."""
    console = Console()
    try:
        prepare(data_dir(), Path("dagster.yaml").absolute(), console)
    except DataError as error:
        console.print(f"[red]{error}", soft_wrap=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
