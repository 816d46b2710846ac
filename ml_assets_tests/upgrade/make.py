"""Bundle the state that a release leaves behind, for `test_upgrade.py`.

git worktree add ../release TAG && make -C ../release install
python -m ml_assets_tests.upgrade.make ../release

Everything is made by the release's own code and interpreter, in a directory that is gone when the
bundle is opened. What is the cache or the copy of something else is left out.
"""

import argparse
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BUNDLE = HERE / "release.tar.xz"
POWER = ("2025-01-06", "2025-02-20")
TICK = ("2025-04-07", "2025-04-18")
SEED = 1
"""Of the training and of the search that were killed."""
_SECONDS = 300
_INBOX = """
import sys
from datetime import date, timedelta
import polars as pl
import pyarrow.parquet as pq
from ml_assets.resources.datasets import SAMPLES
inbox, first, last = sys.argv[1:]
sample = pq.ParquetFile(SAMPLES / "ticks.parquet")
day = date.fromisoformat(first)
while day <= date.fromisoformat(last):
    if day.weekday() < 5:
        rows = pl.DataFrame(sample.read_row_group(day.weekday())).gather_every(60)
        time = pl.col("timestamp") - pl.col("timestamp").dt.truncate("1d") + pl.lit(day).cast(
            pl.Datetime("ms")).dt.replace_time_zone("UTC")
        rows = rows.select(time.cast(pl.Datetime("ms", "UTC")).alias("timestamp"),
                           pl.col("price") * (1 + day.day / 1000), "size")
        rows.write_parquet(f"{inbox}/{day}.parquet", compression="uncompressed")
    day += timedelta(days=1)
"""
_CURSORS = """
import dagster as dg
with dg.DagsterInstance.get() as instance:
    for state in instance.all_instigator_state():
        if getattr(state.instigator_data, "cursor", None):
            print(state.instigator_name)
"""
_WORKSPACE = """load_from:
  - python_module: {module_name: ml_assets.monitoring.definitions, location_name: monitoring}
  - python_module: {module_name: ml_assets.tick.definitions, location_name: tick}
"""


class Release:
    """A checkout with its interpreter, and the data directory that it fills."""

    def __init__(self, checkout: Path, data: Path) -> None:
        self.checkout, self.data = checkout, data
        self.environment = os.environ | {
            "ML_ASSETS_DATA_DIR": str(data),
            "DAGSTER_HOME": str(data / "dagster"),
            "ML_ASSETS_RETRY_DELAY_SECONDS": "0",
            "PYTHONPATH": str(HERE),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TICK_SOURCE": "files",
            "TICK_DIRECTORY": str(data / "inbox"),
        }

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """Start a program of the checkout, in a process group of its own."""
        program, *arguments = command
        return subprocess.Popen(
            [str(self.checkout / ".venv" / "bin" / program), *arguments],
            cwd=self.checkout,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str, **environment: str) -> str:
        """Run a program of the checkout to its end, which must be a success; what it printed."""
        process = self.start(*command, **environment)
        output = process.communicate()[0]
        if process.returncode:
            raise RuntimeError(f"{command}: {output[-3000:]}")
        return output

    def job(self, group: str, job: str, tags: dict[str, str] | None = None) -> None:
        """Execute a job of a group, with small trainings."""
        print(job, tags or "", flush=True)
        arguments = ["job", "execute", "-m", "small_group", "-j", job]
        self.run("dagster", *arguments, "--tags", json.dumps(tags or {}), BUNDLED_GROUP=group)

    def kill(self, asset: str, partition: str, config: dict[str, Any], when: str) -> None:
        """Kill the materialization of an asset as soon as it prints something."""
        print("killed:", asset, flush=True)
        group, name = asset.split("/")
        ops = {"ops": {f"{group}__{name}": {"config": config}}}
        process = self.start(
            *("dagster", "asset", "materialize", "-m", "small_group", "--partition", partition),
            *("--select", f"key:{asset}", "--config-json", json.dumps(ops)),
            BUNDLED_GROUP=group,
        )
        assert process.stdout
        for line in process.stdout:
            if when in line:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return
        raise RuntimeError(f"{asset} never printed {when!r}")


def fill(release: Release) -> None:
    """Have the release do what it does in a week."""
    data = release.data
    subprocess.run(
        ["make", "--no-print-directory", "install"],
        cwd=release.checkout,
        env=release.environment,
        check=True,
    )
    (data / "inbox").mkdir()
    release.run("python", "-c", _INBOX, str(data / "inbox"), *TICK)
    release.job("mnist", "mnist_weekly")
    release.job("cifar10", "cifar10_weekly")
    for group, days in (("power", POWER), ("tick", TICK)):
        ends = [f"dagster/asset_partition_range_{end}" for end in ("start", "end")]
        release.job(group, f"{group}_tables", dict(zip(ends, days, strict=True)))
        release.job(group, f"{group}_daily", {"dagster/partition": days[-1]})
    release.kill("tick/model", TICK[-1], {"epochs": 50, "seed": SEED}, "epoch 1/50")
    release.kill("power/tuning", POWER[-1], {"trials": 500, "seed": SEED}, "trial 1/500")
    failing = release.start(
        *("dagster", "job", "execute", "-m", "small_group", "-j", "mnist_weekly"),
        BUNDLED_GROUP="mnist",
        MNIST_SOURCE="local",
        MNIST_DIRECTORY="/nowhere",
    )
    if "put mnist.npz there" not in failing.communicate()[0]:
        raise RuntimeError("expected a run that fails")
    tick_sensors(release)


def tick_sensors(release: Release) -> None:
    """Let the daemon run until the sensors have their cursors."""
    print("sensors", flush=True)
    workspace = release.data.parent / "workspace.yaml"
    workspace.write_text(_WORKSPACE)
    daemon = release.start("dagster-daemon", "run", "-w", str(workspace))
    try:
        names = {"alerts", "tick_files"}
        wait_until(lambda: names <= set(release.run("python", "-c", _CURSORS).split()))
    finally:
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.communicate()


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _SECONDS
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(2)


def prune(data: Path) -> None:
    """Leave out what a release makes again by itself: caches, and the samples' copies."""
    shutil.rmtree(data / "datasets", ignore_errors=True)
    for group in ("mnist", "cifar10"):
        for name in ("raw_images", "images"):
            (data / "artifacts" / group / f"{name}.zip").unlink(missing_ok=True)
    for path in data.rglob("*.db"):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("VACUUM")


def main() -> None:
    parser = argparse.ArgumentParser(description="Bundle the state that a release leaves behind.")
    parser.add_argument("checkout", type=Path, help="the release, installed by `make install`")
    parser.add_argument("--file", type=Path, default=BUNDLE)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ml_assets-release-") as place:
        data = Path(place) / "data"
        fill(Release(arguments.checkout.resolve(), data))
        prune(data)
        with tarfile.open(arguments.file, "w:xz", preset=9) as archive:
            archive.add(data, "data")
    print(f"{arguments.file}: {arguments.file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
