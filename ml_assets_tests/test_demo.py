import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def demo(data: Path, *groups: str, **environment: str) -> subprocess.CompletedProcess[str]:
    home = data / "dagster"
    home.mkdir()
    (home / "dagster.yaml").symlink_to(ROOT / "dagster.yaml")
    return subprocess.run(
        [sys.executable, "-m", "ml_assets.demo", *groups],
        cwd=ROOT,
        env=os.environ
        | {"DAGSTER_HOME": str(home), "ML_ASSETS_DATA_DIR": str(data), "COLUMNS": "120"}
        | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def row(output: str, model: str) -> list[str]:
    [found] = [line for line in output.splitlines() if model in line]
    return found.split()


def test_the_demo_ends_with_a_champion_and_says_where_to_look(tmp_path: Path) -> None:
    result = demo(tmp_path)
    assert result.returncode == 0, result.stdout
    digits = row(result.stdout, "mnist_cnn")
    assert digits[:3] == ["mnist", "mnist_cnn", "accuracy"]
    assert float(digits[3]) > 0.97 > float(digits[4])
    images = row(result.stdout, "cifar10_resnet")
    assert images[:3] == ["cifar10", "cifar10_resnet", "accuracy"]
    assert float(images[3]) > 0.5 > float(images[4])
    household = row(result.stdout, "household_power_lightgbm")
    assert household[:3] == ["power", "household_power_lightgbm", "mae"]
    assert float(household[3]) < float(household[4])
    assert digits[5:7] == household[5:7] == ["1,", "champion"]
    assert "http://127.0.0.1:3000" in result.stdout


def test_a_failing_demo_says_what_failed_and_exits_with_an_error(tmp_path: Path) -> None:
    result = demo(
        tmp_path, "mnist", MNIST_SOURCE="local", MNIST_DIRECTORY=str(tmp_path / "nowhere")
    )
    assert result.returncode == 1
    assert "mnist__raw_images" in result.stdout
    assert "put mnist.npz there" in result.stdout
    assert "The demo failed." in result.stdout


def test_a_group_that_does_not_even_start_fails_the_demo(tmp_path: Path) -> None:
    result = demo(tmp_path, "mnist", MNIST_SOURCE="hub")
    assert result.returncode == 1
    assert "'sample', 'local' or 'keras'" in result.stdout


def test_an_unknown_group_is_refused(tmp_path: Path) -> None:
    result = demo(tmp_path, "weather")
    assert result.returncode == 2
    assert "no group weather; there are mnist, cifar10, power" in result.stderr
