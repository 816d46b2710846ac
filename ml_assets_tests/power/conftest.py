"""The bundled half year of readings, its lines, cleaned, and hourly rows; and the group on it.

What takes long is done once: the tables of 110 days, and one day's training. A test gets a copy of
the databases and of the artifacts; the files of the tables and of MLflow never change, so that the
copies share them.
"""

import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from ml_assets.power import data, features
from ml_assets.resources.readings import SampleReadings
from ml_assets_tests.homes import copy_home
from ml_assets_tests.power.days import PARIS, arrived, begins
from ml_assets_tests.power.group import FIRST as FIRST_DAY
from ml_assets_tests.power.group import TABLES, TODAY, Group, Prepared, build

FIRST, END = date(2008, 1, 7), date(2008, 7, 7)


@pytest.fixture(scope="session")
def lines(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """All lines of the sample: `day`, `line` and `text`."""
    return SampleReadings(
        archive_name=data.SAMPLE_NAME,
        file_name=data.FILE_NAME,
        header=data.HEADER,
        sha256=data.SAMPLE_SHA256,
        cache_directory=str(tmp_path_factory.mktemp("sample")),
    ).read(FIRST, END)


@pytest.fixture(scope="session")
def readings(lines: pa.Table) -> pa.Table:
    """The sample, cleaned; the clock of its meter taken for UTC."""
    window = (begins(FIRST, "UTC"), begins(END, "UTC"))
    return data.clean(arrived(lines, *window, "UTC"), *window, "UTC", 0.05).readings


@pytest.fixture(scope="session")
def rows(readings: pa.Table) -> pa.Table:
    """The hourly rows of the sample in UTC."""
    return features.compute(readings, begins(FIRST, "UTC"), begins(END, "UTC"), "UTC", "FR")


@pytest.fixture(params=["UTC", PARIS])
def timezone(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("power_files")


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory: pytest.TempPathFactory, empty_mlflow_database: Path) -> Path:
    home = tmp_path_factory.mktemp("power_empty")
    shutil.copy(empty_mlflow_database, home / "mlflow.db")
    return home


@pytest.fixture(scope="session")
def with_tables(
    tmp_path_factory: pytest.TempPathFactory, empty_home: Path, files: Path
) -> Prepared:
    """The tables of all days until TODAY, made by one run."""
    home = copy_home(empty_home, tmp_path_factory.mktemp("power_tables") / "home", files)
    with dg.DagsterInstance.ephemeral() as instance:
        result = build(home, files, instance).run(TABLES, (FIRST_DAY, TODAY))
    assert result.success
    return Prepared(home, result)


@pytest.fixture(scope="session")
def with_training(
    tmp_path_factory: pytest.TempPathFactory, with_tables: Prepared, files: Path
) -> Prepared:
    """The same, and all nine assets of TODAY."""
    home = copy_home(with_tables.home, tmp_path_factory.mktemp("power_trained") / "home", files)
    with dg.DagsterInstance.ephemeral() as instance:
        result = build(home, files, instance).run()
    assert result.success
    return Prepared(home, result)


@pytest.fixture
def copied(tmp_path: Path, files: Path) -> Any:
    """Copies a home and makes the group in the copy."""
    with dg.DagsterInstance.ephemeral() as instance:
        number = iter(range(10))
        yield lambda home: build(
            copy_home(home, tmp_path / f"home{next(number)}", files), files, instance
        )


@pytest.fixture
def empty(copied: Callable[[Path], Group], empty_home: Path) -> Group:
    """Nothing was ever materialized."""
    return copied(empty_home)


@pytest.fixture
def tables(copied: Callable[[Path], Group], with_tables: Prepared) -> Group:
    """There are tables until TODAY, but no model."""
    return copied(with_tables.home)


@pytest.fixture
def trained(copied: Callable[[Path], Group], with_training: Prepared) -> Group:
    """All of TODAY is there."""
    return copied(with_training.home)
