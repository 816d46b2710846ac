"""What Dagster costs: the group `mnist` by its command line against a bare script.

Both do the same work in processes of their own, in turn: read, train the default model, evaluate,
draw, log to an empty MLflow, register. The bare script is `benchmarks/bare_mnist.py`.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import parser, report, write_json
from ml_assets.resources.datasets import SAMPLES

ROOT = Path(__file__).parents[1]
OWN = ("DAGSTER_", "ML_ASSETS_", "MLFLOW_", "MNIST_")


def main() -> int:
    """Measure in turn, and print the medians."""
    options = parser(__doc__)
    options.add_argument("--runs", type=int, default=3, help="runs of each")
    options.add_argument(
        "--data", type=Path, metavar="FILE", help="an `mnist.npz`; the bundled sample if left out"
    )
    arguments = options.parse_args()
    path = (arguments.data or SAMPLES / "mnist.npz").absolute()
    bare, dagster = [], []
    for _ in range(1 if arguments.quick else arguments.runs):
        bare.append(_bare(path))
        dagster.append(_dagster(path))
        print(f"bare {bare[-1]:.1f} s, Dagster {dagster[-1]:.1f} s", file=sys.stderr)
    figures = {"bare_s": statistics.median(bare), "dagster_s": statistics.median(dagster)}
    figures["ratio"] = statistics.median(d / b for d, b in zip(dagster, bare, strict=True))
    write_json(arguments.json, figures)
    report(
        f"The group mnist once, {'the file ' + path.name if arguments.data else 'sample'}, "
        f"median of {len(bare)}",
        ["bare script", "Dagster", "ratio"],
        [
            [
                f"{figures['bare_s']:.1f} s",
                f"{figures['dagster_s']:.1f} s",
                f"{figures['ratio']:.3f}",
            ]
        ],
    )
    return 0


def _bare(path: Path) -> float:
    with tempfile.TemporaryDirectory() as directory:
        return _seconds([sys.executable, "-m", "benchmarks.bare_mnist", directory, str(path)], {})


def _dagster(path: Path) -> float:
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory) / "dagster"
        home.mkdir()
        (home / "dagster.yaml").symlink_to(ROOT / "dagster.yaml")
        (Path(directory) / "mnist.npz").symlink_to(path)
        return _seconds(
            [
                *(sys.executable, "-m", "dagster", "asset", "materialize"),
                *("-m", "ml_assets.definitions", "--select", "group:mnist"),
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
