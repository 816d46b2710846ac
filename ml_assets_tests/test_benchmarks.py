"""The benchmarks run to their end and write the figures they promise. No time is asserted."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.cifar10 import flop
from benchmarks.disk_year import bytes_of_a_tick
from ml_assets.cifar10.networks import BUILDERS

ROOT = Path(__file__).parents[1]


def quick(name: str, directory: Path) -> tuple[str, dict[str, Any]]:
    """What a benchmark prints and writes with `--quick --json`."""
    file = directory / "figures.json"
    result = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--json", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout, json.loads(file.read_text())


def test_mnist(tmp_path: Path) -> None:
    table, figures = quick("mnist", tmp_path)
    assert "test accuracy, mean ± sd" in table
    assert set(figures) == {"fast", "simple", "keras_example"}
    for found in figures.values():
        assert set(found) == {"accuracy_mean", "accuracy_sd", "wall_s", "seeds"}
        assert 0.5 < found["accuracy_mean"] <= 1


def test_cifar10(tmp_path: Path) -> None:
    table, figures = quick("cifar10", tmp_path)
    assert "projected from 2" in table
    assert set(figures) == {
        *("fast_resnet", "fast_resnet_standard", "resnet20"),
        *("matmul_gflops", "precision"),
    }
    assert {"accuracy_mean", "accuracy_sd", "wall_s", "seeds", "gflops"} <= set(
        figures["fast_resnet"]
    )
    assert figures["resnet20"]["accuracy_published"] == 0.9125


def test_operations_of_a_training_step_are_counted() -> None:
    whitening, bias, first = 31 * 31 * 12 * 24, 24, 31 * 31 * 9 * 24 * 64
    others = 15 * 15 * 9 * (64 * 64 + 64 * 256) + (2 * 7 * 7 + 3 * 3) * 9 * 256 * 256 + 256 * 10
    network = BUILDERS["fast_resnet"]("float32")
    assert flop(network) == 2 * (whitening + 2 * bias + 3 * (first + others))


def test_a_tick_of_the_alert_sensor_stores_no_more_than_its_place() -> None:
    found = bytes_of_a_tick()
    assert found["before"] > 200_000
    assert found["now"] < 1000


def test_orchestration(tmp_path: Path) -> None:
    table, figures = quick("orchestration", tmp_path)
    assert "bare script" in table
    assert set(figures) == {"bare_s", "dagster_s", "ratio"}


def test_lakehouse(tmp_path: Path) -> None:
    table, figures = quick("lakehouse", tmp_path)
    assert "one by one" in table
    assert figures


def test_power_backfill(tmp_path: Path) -> None:
    table, figures = quick("power_backfill", tmp_path)
    assert "bare script" in table
    assert figures["partitions"] == 182
    assert figures["ratio"] > 0
    assert {"raw_readings", "readings", "features"} <= set(figures["by_part"])


def test_power_published(tmp_path: Path) -> None:
    table, figures = quick("power_published", tmp_path)
    assert "EECP-CBL" in table
    assert set(figures) == {"hourly", "hourly_minutes"}  # the sample is too short for the others
    for found in figures.values():
        assert set(found) == {"rmse", "mae", "mse", "persistence_rmse"}
        assert 0 < found["rmse"] < found["persistence_rmse"]


def test_tick_backfill(tmp_path: Path) -> None:
    table, figures = quick("tick_backfill", tmp_path)
    assert "bare script" in table
    assert figures["partitions"] == 5
    assert figures["ratio"] > 0
    assert {"raw_ticks", "ticks", "bars", "features"} <= set(figures["by_part"])


def test_tick_features(tmp_path: Path) -> None:
    table, figures = quick("tick_features", tmp_path)
    assert "every tick" in table
    [(rows, found)] = figures.items()
    assert int(rows) > 0
    for kind in (found, found["minute_bars"]):
        assert {"seconds", "plain_seconds", "speedup", "peak_mb"} <= set(kind)
        assert kind["windows"] == kind["plain_windows"] > 0


def test_tick_skill(tmp_path: Path) -> None:
    table, figures = quick("tick_skill", tmp_path)
    assert "Forecasts of the next bar" in table
    assert set(figures) == {"log_return of a random walk", "log_return, 5% planted"}
    for found in figures.values():
        assert found["gru"]["best_naive"] == "zero_return"
        assert found["gru"]["skill"] < 0.1
        assert found["gru"]["hit_rate_low"] < found["gru"]["hit_rate"]
