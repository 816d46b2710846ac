import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def demo(data: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    home = data / "dagster"
    home.mkdir()
    (home / "dagster.yaml").symlink_to(ROOT / "dagster.yaml")
    return subprocess.run(
        [sys.executable, "-m", "ml_assets.demo"],
        cwd=ROOT,
        env=os.environ
        | {"DAGSTER_HOME": str(home), "ML_ASSETS_DATA_DIR": str(data), "COLUMNS": "120"}
        | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_demo_ends_with_a_champion_and_says_where_to_look(tmp_path: Path) -> None:
    result = demo(tmp_path)
    assert result.returncode == 0, result.stdout
    [row] = [line for line in result.stdout.splitlines() if "mnist_cnn" in line]
    group, model, metric, value, baseline, version, role, _ = row.split()
    assert [group, model, metric] == ["mnist", "mnist_cnn", "accuracy"]
    assert [version, role] == ["1", "champion"]
    assert float(value) > 0.97 > float(baseline)
    assert "http://127.0.0.1:3000" in result.stdout


def test_a_failing_demo_says_what_failed_and_exits_with_an_error(tmp_path: Path) -> None:
    result = demo(tmp_path, MNIST_SOURCE="local", MNIST_DIRECTORY=str(tmp_path / "nowhere"))
    assert result.returncode == 1
    assert "mnist__raw_images" in result.stdout
    assert "put mnist.npz there" in result.stdout
    assert "The demo failed." in result.stdout


def test_a_group_that_does_not_even_start_fails_the_demo(tmp_path: Path) -> None:
    result = demo(tmp_path, MNIST_SOURCE="hub")
    assert result.returncode == 1
    assert "'sample', 'local' or 'keras'" in result.stdout
