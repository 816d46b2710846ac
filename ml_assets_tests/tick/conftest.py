"""The group on the replayed sample, and on a feed of files that never repeats.

What takes long is done once: the tables of twelve days, and the training of their Friday. A test
gets a copy of the databases and of the artifacts; the files of the tables and of MLflow never
change, so that the copies share them.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from ml_assets.resources.ticks import FileTicks, TickSource
from ml_assets_tests.homes import copy_home
from ml_assets_tests.tick import group
from ml_assets_tests.tick.group import FIRST, FRIDAY, REPLAY, TABLES, Group, Prepared, build

Copy = Callable[[Prepared], Group]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tick_files")


@pytest.fixture(scope="session")
def feed(tmp_path_factory: pytest.TempPathFactory) -> FileTicks:
    """Every twentieth trade of the sample, on twelve weekdays that follow one another."""
    return group.files(tmp_path_factory.mktemp("tick_feed"), group.weekdays(FIRST, 12))


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory: pytest.TempPathFactory, empty_mlflow_database: Path) -> Path:
    home = tmp_path_factory.mktemp("tick_empty")
    shutil.copy(empty_mlflow_database, home / "mlflow.db")
    return home


Prepare = Callable[..., Prepared]


@pytest.fixture(scope="session")
def prepare(tmp_path_factory: pytest.TempPathFactory, files: Path) -> Prepare:
    """Copies a home and runs something there."""

    def prepared(home: Path, source: TickSource, *chosen: object) -> Prepared:
        copied = copy_home(home, tmp_path_factory.mktemp("tick") / "home", files)
        with dg.DagsterInstance.ephemeral() as instance:
            result = build(copied, files, instance, source).run(*chosen)  # type: ignore[arg-type]
        assert result.success
        return Prepared(copied, source, result)

    return prepared


@pytest.fixture(scope="session")
def replayed_tables(prepare: Prepare, empty_home: Path) -> Prepared:
    """The tables of the replay until FRIDAY, made by one run."""
    return prepare(empty_home, REPLAY, TABLES, (FIRST, FRIDAY))


@pytest.fixture(scope="session")
def replayed_training(prepare: Prepare, replayed_tables: Prepared) -> Prepared:
    """The same, and all ten assets of FRIDAY."""
    return prepare(replayed_tables.home, REPLAY)


@pytest.fixture(scope="session")
def with_tables(prepare: Prepare, empty_home: Path, feed: FileTicks) -> Prepared:
    """The tables of the feed until FRIDAY, made by one run."""
    return prepare(empty_home, feed, TABLES, (FIRST, FRIDAY))


@pytest.fixture(scope="session")
def with_training(prepare: Prepare, with_tables: Prepared) -> Prepared:
    """The same, and all ten assets of FRIDAY."""
    return prepare(with_tables.home, with_tables.source)


@pytest.fixture
def copied(tmp_path: Path, files: Path) -> Iterator[Copy]:
    """Makes the group in a copy of what was prepared."""
    with dg.DagsterInstance.ephemeral() as instance:
        number = iter(range(10))
        yield lambda prepared: build(
            copy_home(prepared.home, tmp_path / f"home{next(number)}", files),
            files,
            instance,
            prepared.source,
        )


@pytest.fixture
def empty(tmp_path: Path, files: Path, empty_home: Path, feed: FileTicks) -> Iterator[Group]:
    """Nothing was ever materialized."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield build(copy_home(empty_home, tmp_path / "empty", files), files, instance, feed)


@pytest.fixture
def tables(copied: Copy, with_tables: Prepared) -> Group:
    """There are tables of the feed until FRIDAY, but no model."""
    return copied(with_tables)


@pytest.fixture
def trained(copied: Copy, with_training: Prepared) -> Group:
    """All of the feed's FRIDAY is there."""
    return copied(with_training)


@pytest.fixture
def replayed(copied: Copy, replayed_training: Prepared) -> Group:
    """All of the replay's FRIDAY is there."""
    return copied(replayed_training)
