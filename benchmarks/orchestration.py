"""What Dagster costs: the group `mnist` by its command line against a bare script.

All do the same work in processes of their own, in turn: read, train the default model, evaluate,
draw, log to an empty MLflow, register. The bare script is `benchmarks/bare_mnist.py`. Dagster is
measured as the project runs it, all steps in one process, and with `--multiprocess` also with a
process for each step. Its storage exists beforehand, as it does on every run but the first.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.common import dagster_instance, parser, report, write_json
from ml_assets.mnist.config import TrainingConfig
from ml_assets.resources.datasets import SAMPLES

ROOT = Path(__file__).parents[1]
OWN = ("DAGSTER_", "ML_ASSETS_", "MLFLOW_", "MNIST_", "POWER_", "TICK_")


def main() -> int:
    """Measure in turn, and print the medians."""
    options = parser(__doc__)
    options.add_argument("--runs", type=int, default=3, help="runs of each")
    options.add_argument(
        "--data", type=Path, metavar="FILE", help="an `mnist.npz`; the bundled sample if left out"
    )
    options.add_argument(
        "--multiprocess", action="store_true", help="measure the multiprocess executor too"
    )
    arguments = options.parse_args()
    path = (arguments.data or SAMPLES / "mnist.npz").absolute()
    contestants: dict[str, Callable[[], float]] = {
        "bare": partial(_bare, path),
        "dagster": partial(_dagster, path, "ml_assets.definitions"),
    }
    if arguments.multiprocess:
        contestants["multiprocess"] = partial(_dagster, path, "benchmarks.multiprocess")
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(1 if arguments.quick else arguments.runs):
        for name, run in contestants.items():
            times[name].append(run())
            print(f"{name} {times[name][-1]:.1f} s", file=sys.stderr)
    ratios = {
        name: statistics.median(t / b for t, b in zip(found, times["bare"], strict=True))
        for name, found in times.items()
    }
    medians = {name: statistics.median(found) for name, found in times.items()}
    figures = {f"{name}_s": median for name, median in medians.items()}
    write_json(arguments.json, {**figures, "ratio": ratios["dagster"]})
    report(
        f"The group mnist once, {'full data' if arguments.data else 'sample'}, "
        f"medians of {len(times['bare'])}",
        ["", "wall", "of the bare script's time"],
        [[name, f"{medians[name]:.1f} s", f"{ratios[name]:.2f}"] for name in times],
    )
    return 0


def _bare(path: Path) -> float:
    with tempfile.TemporaryDirectory() as directory:
        parameters = json.dumps(TrainingConfig().model_dump())
        command = [sys.executable, "-m", "benchmarks.bare_mnist", directory, str(path), parameters]
        return _seconds(command, {})


def _dagster(path: Path, module: str) -> float:
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory) / "dagster"
        (Path(directory) / "mnist.npz").symlink_to(path)
        with dagster_instance(home):
            pass  # creates the storage
        return _seconds(
            [
                *(sys.executable, "-m", "dagster", "asset", "materialize"),
                *("-m", module, "--select", "group:mnist"),
            ],
            {
                "DAGSTER_HOME": str(home),
                "ML_ASSETS_DATA_DIR": directory,
                "MNIST_SOURCE": "local",
                "MNIST_DIRECTORY": directory,
            },
        )


def _seconds(command: list[str], environment: dict[str, str]) -> float:
    """Wall time of a command; what it prints is shown only if it fails."""
    started = time.perf_counter()
    result = subprocess.run(
        command,
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith(OWN)}
        | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - started
    if result.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{result.stdout}")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
