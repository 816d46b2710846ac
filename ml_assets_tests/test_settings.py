"""One file of settings, read alike by make, Dagster's commands and the project's own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from dotenv import dotenv_values

from ml_assets import settings

ROOT = Path(__file__).parents[1]
SPELLINGS = """\
# a comment
DAGSTER_PORT=3456
export MLFLOW_PORT = 5678  # another
A_SINGLE='a $b # c'
A_DOUBLE="x  y"
A_PLAIN=p$w#rd
A_EMPTY=
A_TWICE=first
A_TWICE=second
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "settings.env"
    found.write_text(SPELLINGS)
    return found


def output(command: list[str], file: Path, **environment: str) -> str:
    """What a command says with this file of settings."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
            "ML_ASSETS_SETTINGS_FILE": str(file),
            "ML_ASSETS_DATA_DIR": str(file.parent / "data"),
            "DAGSTER_HOME": str(file.parent),
            "COLUMNS": "300",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def made(file: Path, **environment: str) -> dict[str, str]:
    """The environment of what make runs, such as `make up` and `make demo`."""
    rule = file.with_name("show.mk")
    rule.write_text("show:\n\t@env\n")
    lines = output(["make", "-f", "Makefile", "-f", str(rule), "show"], file, **environment)
    return dict(line.split("=", 1) for line in lines.splitlines() if "=" in line)


def test_make_reads_every_spelling_as_the_package_does(file: Path) -> None:
    found = made(file)
    assert {name: found[name] for name in dotenv_values(file)} == dotenv_values(
        file, interpolate=False
    )
    assert found["A_SINGLE"] == "a $b # c"
    assert found["ML_ASSETS_MLFLOW_UI_URL"] == "http://127.0.0.1:5678"
    assert made(file, DAGSTER_PORT="1")["DAGSTER_PORT"] == "1"
    assert made(file.with_name("none"))["DAGSTER_PORT"] == "3000"


def test_the_projects_commands_read_it_and_the_environment_takes_precedence(file: Path) -> None:
    reexecute = [sys.executable, "-m", "ml_assets.reexecute", "--help"]
    assert "(http://127.0.0.1:3456)" in output(reexecute, file)
    assert "(http://127.0.0.1:3457)" in output(reexecute, file, DAGSTER_PORT="3457")


@pytest.mark.parametrize(
    "command",
    [
        ["dagster", "asset", "materialize", "-m", "ml_assets.definitions", "--select", "*"],
        ["ml_assets.demo", "power"],
    ],
    ids=["dagster asset materialize", "make demo"],
)
def test_what_runs_the_groups_reads_it_and_the_environment_takes_precedence(
    command: list[str], file: Path
) -> None:
    file.write_text("POWER_SOURCE=nonsense")
    (file.parent / "dagster.yaml").write_text("telemetry: {enabled: false}")
    (file.parent / "data").mkdir()
    for environment, found in ({}, "nonsense"), ({"POWER_SOURCE": "rubbish"}, "rubbish"):
        said = output([sys.executable, "-m", *command], file, **environment)
        assert f"found '{found}'" in re.sub(r"\s+", " ", said), said


def test_dagsters_home_has_no_place_in_it(file: Path) -> None:
    file.write_text("DAGSTER_HOME=/elsewhere")
    assert "export" in output([sys.executable, "-c", "import ml_assets"], file)
    assert "export DAGSTER_HOME instead" in output(["make", "help"], file)


def test_links_lead_to_the_ports_of_make_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.dagster_url() == "http://127.0.0.1:3000"
    assert settings.mlflow_url("tick") == "http://127.0.0.1:5000"
    monkeypatch.setenv("DAGSTER_PORT", "3456")
    monkeypatch.setenv("MLFLOW_PORT", "5678")
    assert settings.dagster_url() == "http://127.0.0.1:3456"
    assert settings.mlflow_url("tick") == "http://127.0.0.1:5678"
    monkeypatch.setenv("ML_ASSETS_DAGSTER_UI_URL", "https://dagster")
    monkeypatch.setenv("TICK_MLFLOW_UI_URL", "https://mlflow")
    assert settings.dagster_url() == "https://dagster"
    assert settings.mlflow_url("tick") == "https://mlflow"


def test_git_and_images_never_see_it() -> None:
    assert "/settings.env" in (ROOT / ".gitignore").read_text().split()
    assert "settings.env" in (ROOT / ".dockerignore").read_text().split()
