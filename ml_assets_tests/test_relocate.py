"""A data directory that was copied, moved or restored elsewhere, with MLflow's files and tables."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from ml_assets.backup import restore, save
from ml_assets.build import lakehouse_resource, mlflow_resource
from ml_assets.io_managers.archives import forget_outputs
from ml_assets.relocate import relocate
from ml_assets.resources.lakehouse import Lakehouse
from ml_assets.resources.mlflow import MlflowResource
from ml_assets.resources.registry import LoggedRun
from ml_assets_tests.resources.lakehouse.tables import values, write
from ml_assets_tests.resources.lakehouse.test_relocation import contents
from ml_assets_tests.resources.test_mlflow import TRAINING, save_text

ROOT = Path(__file__).parents[1]
LONG_AFTER = datetime.now(UTC) + timedelta(days=365)


def logged(data: Path) -> LoggedRun:
    return mlflow_resource("mnist", data).log(TRAINING, save_text)


@pytest.fixture
def data(tmp_path: Path, empty_mlflow_database: Path) -> Path:
    """A data directory with a table, and a champion among MLflow's models."""
    place = tmp_path / "data"
    (place / "mlflow").mkdir(parents=True)
    shutil.copy(empty_mlflow_database, place / "mlflow" / "mlflow.db")
    write(lakehouse_resource("power", place), 0, 1)
    run = logged(place)
    with mlflow_resource("mnist", place).registry("mnist_cnn") as registry:
        version = registry.register(run, {})
        registry.client.set_registered_model_alias("mnist_cnn", "champion", version)
    return place


def champion(mlflow: MlflowResource) -> bytes:
    with mlflow.registry("mnist_cnn") as registry:
        return registry.champion_file()[1]


def forget_aliases(mlflow: MlflowResource) -> None:
    """So that nobody needs the version any more."""
    with mlflow.registry("mnist_cnn") as registry:
        for alias in ("champion", "challenger"):
            registry.client.delete_registered_model_alias("mnist_cnn", alias)


def locations(data: Path) -> str:
    """All that MLflow's database holds."""
    with closing(sqlite3.connect(data / "mlflow" / "mlflow.db")) as connection:
        return "\n".join(connection.iterdump())


def test_a_copy_touches_nothing_of_the_original(data: Path, tmp_path: Path) -> None:
    before, copy = contents(data), tmp_path / "data2"
    shutil.copytree(data, copy)
    mlflow = mlflow_resource("mnist", copy)
    for forbidden in (lambda: mlflow.forget(LONG_AFTER), lambda: champion(mlflow)):
        with pytest.raises(dg.Failure, match=r"Remedy: make install, or python -m ml_assets.relo"):
            forbidden()
    assert relocate(copy) == (["MLflow's files of mnist", "power.readings"], [])
    assert relocate(copy) == ([], [])
    assert champion(mlflow) == champion(mlflow_resource("mnist", data))
    forget_aliases(mlflow)
    assert mlflow.forget(LONG_AFTER) == 1
    assert not list((copy / "mlflow").rglob("model.txt"))
    lakehouse_resource("power", copy).maintain("power.readings", timedelta(0), timedelta(0))
    assert contents(data) == before


@pytest.mark.parametrize("way", ["move", "restore"])
def test_all_is_usable_in_the_new_place(way: str, data: Path, tmp_path: Path) -> None:
    model, place = champion(mlflow_resource("mnist", data)), tmp_path / "deep" / "other place"
    if way == "move":
        place.parent.mkdir()
        data.rename(place)
        relocate(place)
    else:
        save(data, tmp_path / "backup.tar.gz")
        shutil.rmtree(data)
        restore(tmp_path / "backup.tar.gz", place)
    mlflow = mlflow_resource("mnist", place)
    assert champion(mlflow) == model
    assert values(lakehouse_resource("power", place), 0, 1) == [1]
    assert str(data) not in locations(place)
    # It was logged before, and is found again.
    assert mlflow.log(TRAINING, save_text).location.startswith(str(place))


def test_a_training_logged_before_the_move_is_registered_where_it_is(
    data: Path, tmp_path: Path
) -> None:
    """The step's output still names the old place."""
    run, place = logged(data), tmp_path / "other"
    data.rename(place)
    relocate(place)
    with mlflow_resource("mnist", place).registry("another_name") as registry:
        version = registry.register(run, {})
        assert registry.model_file(version)


def test_what_is_not_below_a_similar_name_stays(data: Path, tmp_path: Path) -> None:
    """Experiments of others keep their places, also where these begin alike."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{data}/mlflow/mlflow.db")
    places = [f"{data}/mlflow/artifacts2/own", "s3://bucket/own", "/somewhere/else/mnist"]
    for number, place in enumerate(places):
        client.create_experiment(f"own{number}", place)
    client.create_experiment("beside", f"{data}/mlflow/artifacts/beside")
    (data / "mlflow" / "artifacts" / "beside").mkdir()
    other = tmp_path / "other"
    data.rename(other)
    relocate(other)
    client = MlflowClient(f"sqlite:///{other}/mlflow/mlflow.db")
    found = [client.get_experiment_by_name(f"own{number}") for number in range(3)]
    assert [experiment.artifact_location for experiment in found] == places
    beside = client.get_experiment_by_name("beside").artifact_location
    assert beside == f"{other}/mlflow/artifacts/beside"


def test_a_copy_without_the_files_is_refused(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(data, copy)
    shutil.rmtree(copy / "mlflow" / "artifacts")
    shutil.rmtree(copy / "lakehouse" / "warehouse")
    moved, problems = relocate(copy)
    assert not moved
    assert len(problems) == 2
    assert all("copy the whole data directory" in problem for problem in problems)
    assert str(copy) not in locations(copy)


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_a_database_that_is_a_link_is_not_written(link, data: Path, tmp_path: Path) -> None:
    before, copy = contents(data), tmp_path / "copy"
    shutil.copytree(data, copy)
    for name in ("lakehouse/catalog.db", "mlflow/mlflow.db"):
        (copy / name).unlink()
        link(data / name, copy / name)
    moved, problems = relocate(copy)
    assert not moved
    assert all("--take-over" in problem for problem in problems)
    assert len(problems) == 2
    assert contents(data) == before


def test_a_database_outside_the_data_directory_is_left_to_the_original(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment names it for both."""
    before, copy = contents(data), tmp_path / "copy"
    shutil.copytree(data, copy)
    monkeypatch.setenv("LAKEHOUSE_CATALOG_URL", f"sqlite:///{data}/lakehouse/catalog.db")
    moved, [problem] = relocate(copy)
    assert moved == ["MLflow's files of mnist"]
    assert "which the original may use too" in problem
    assert contents(data) == before
    assert relocate(copy, take_over=True) == (["power.readings"], [])
    moved_on = Lakehouse(
        catalog_uri=os.environ["LAKEHOUSE_CATALOG_URL"],
        warehouse=str(copy / "lakehouse" / "warehouse"),
    )
    assert values(moved_on, 0, 1) == [1]


def test_a_relocation_that_is_killed_leaves_mlflow_as_it_was(data: Path, tmp_path: Path) -> None:
    place = tmp_path / "other"
    data.rename(place)
    before = locations(place)
    program = f"""
import os, signal
from pathlib import Path
from ml_assets.resources import artifact_places
replace = artifact_places._replace_all
def die(*arguments):
    replace(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
artifact_places._replace_all = die
from ml_assets.relocate import relocate
relocate(Path({str(place)!r}))
"""
    killed = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)
    assert killed.returncode == -9
    assert locations(place) == before
    relocate(place)
    assert champion(mlflow_resource("mnist", place))


def test_a_run_that_names_files_of_others_is_not_deleted(data: Path, tmp_path: Path) -> None:
    outside = tmp_path / "precious"
    outside.mkdir()
    (outside / "model.txt").touch()
    mlflow = mlflow_resource("mnist", data)
    forget_aliases(mlflow)
    with closing(sqlite3.connect(data / "mlflow" / "mlflow.db")) as connection, connection:
        connection.execute("UPDATE runs SET artifact_uri = ?", (str(outside),))
    with pytest.raises(ValueError, match="delete the run by hand"):
        mlflow.forget(LONG_AFTER)
    assert (outside / "model.txt").exists()


def test_retention_does_not_follow_links_out_of_the_outputs(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "2020-01-01.zip").touch()
    (tmp_path / "artifacts" / "power").mkdir(parents=True)
    (tmp_path / "artifacts" / "power" / "model").symlink_to(outside)
    assert forget_outputs(str(tmp_path / "artifacts"), "power", LONG_AFTER) == (0, 0)
    assert (outside / "2020-01-01.zip").exists()


def test_make_clean_removes_data_directories_only(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()

    def clean(directory: Path) -> int:
        command = ["make", "clean", f"ML_ASSETS_DATA_DIR={directory}"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode

    assert clean(tmp_path) != 0
    assert (tmp_path / "precious").exists()
    (tmp_path / "data" / "dagster").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert clean(tmp_path / "link") == 0
    assert (tmp_path / "data").exists()
    assert clean(tmp_path / "data") == 0
    assert not (tmp_path / "data").exists()
