"""Where MLflow's files are by its database, and where they are now that a directory has moved.

MLflow records the absolute path of every run's and every model's files. What goes through a
tracking server (`mlflow-artifacts:`) or lies in an object store does not move with a directory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ml_assets.ml.errors import DataError
from ml_assets.ml.places import below, local_path
from ml_assets.resources.database_urls import parsed

if TYPE_CHECKING:
    from sqlalchemy import Connection

_COLUMNS = {
    "experiments": ["artifact_location"],
    "runs": ["artifact_uri"],
    "logged_models": ["artifact_location"],
    "model_versions": ["source", "storage_location"],
    "trace_tags": ["value"],
}


def elsewhere(location: str, root: str) -> bool:
    """Whether files are on this machine's file systems, but not below a directory."""
    return local_path(location) is not None and not below(location, root)


def before(tracking_uri: str, root: str, experiment: str) -> str | None:
    """Where the files of an experiment were, if it was not `root`.

    Args:
        tracking_uri: The database.
        root: The directory that has the files of experiments now.
        experiment: Name of the experiment.
    """
    with _connected(tracking_uri) as connection:
        return _before(_locations(connection), root, experiment)


def relocate(tracking_uri: str, root: str, experiment: str) -> None:
    """Make a database name the files below `root`, in one transaction.

    What lay beside the experiment's files and is there now moves with them.

    Raises:
        DataError: The experiment's files are not there.
    """
    with _connected(tracking_uri) as connection:
        places = _locations(connection)
        parent = _before(places, root, experiment)
        if parent is None:
            return
        _require_files(connection, experiment, parent, root)
        for name, place in places.items():
            moved = f"{root}/{place.removeprefix(f'{parent}/')}"
            if place.startswith(f"{parent}/") and (name == experiment or Path(moved).is_dir()):
                _replace_all(connection, place, moved)


@contextmanager
def _connected(tracking_uri: str) -> "Iterator[Connection]":
    """A transaction."""
    from sqlalchemy import create_engine

    engine = create_engine(parsed(tracking_uri, "MLflow tracking URI"))
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _locations(connection: "Connection") -> dict[str, str]:
    """The places of experiments by their names; none before MLflow has made its tables."""
    from sqlalchemy import inspect, text

    if not inspect(connection).has_table("experiments"):
        return {}
    rows = connection.execute(text("SELECT name, artifact_location FROM experiments"))
    return {name: (location or "").rstrip("/") for name, location in rows.all()}


def _before(places: dict[str, str], root: str, experiment: str) -> str | None:
    parent, _, name = places.get(experiment, "").rpartition("/")
    return parent if name == experiment and elsewhere(parent, root) else None


def _require_files(connection: "Connection", experiment: str, before: str, root: str) -> None:
    """Raise `DataError` if an experiment has runs, but no files below `root`."""
    from sqlalchemy import text

    runs = connection.execute(
        text(
            "SELECT count(*) FROM runs JOIN experiments USING (experiment_id) "
            "WHERE experiments.name = :name"
        ),
        {"name": experiment},
    )
    if runs.scalar_one() and not Path(root, experiment).is_dir():
        raise DataError(
            f"the files of the MLflow experiment {experiment}, which were in {before}, in {root}",
            "no such directory there",
            "copy the whole data directory, and relocate again",
        )


def _replace_all(connection: "Connection", old: str, new: str) -> None:
    """Replace a directory by another in all paths that are it or lie below it."""
    from sqlalchemy import inspect, text

    known = inspect(connection)
    for table, columns in _COLUMNS.items():
        present = (
            {column["name"] for column in known.get_columns(table)}
            if known.has_table(table)
            else set()
        )
        for column in present.intersection(columns):
            connection.execute(
                text(
                    f"UPDATE {table} SET {column} = :new || substr({column}, :rest) "  # noqa: S608
                    f"WHERE {column} = :old OR substr({column}, 1, :rest) = :prefix"
                ),
                {"new": new, "rest": len(old) + 1, "old": old, "prefix": f"{old}/"},
            )
