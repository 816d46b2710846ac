"""Make a data directory usable where it lies now, after a move, a copy or a restore elsewhere.

python -m ml_assets.relocate                what `make install` does too
python -m ml_assets.relocate --take-over    also where databases or tables may still be another's

Tables and MLflow's files are known by their absolute paths. Until these are those of today, they
are refused, so that a copy never touches the original. Only the copy is changed, and doing it again
changes nothing more.
"""

import argparse
import sys
from pathlib import Path

import dagster as dg
from rich.console import Console

from ml_assets.build import lakehouse_resource, mlflow_resource
from ml_assets.ml.errors import DataError
from ml_assets.ml.places import below
from ml_assets.resources import artifact_places
from ml_assets.resources.lakehouse import Lakehouse
from ml_assets.settings import data_dir, without_credentials

GROUPS = sorted(path.parent.name for path in Path(__file__).parent.glob("*/assets.py"))
_SQLITE = "sqlite:///"


def relocate(
    data: Path, *, servers: bool = False, take_over: bool = False
) -> tuple[list[str], list[str]]:
    """Relocate all tables and MLflow's files.

    Args:
        data: The data directory, for what the environment does not place elsewhere.
        servers: Whether to look at databases on servers too.
        take_over: Also by databases outside the data directory, and of tables that belong to
            another catalog.

    Returns:
        What was relocated, and what stands against the rest.
    """
    from sqlalchemy.exc import SQLAlchemyError

    moved: list[str] = []
    problems: list[str] = []
    for group in GROUPS:
        for step in (_tables, _mlflow):
            try:
                done, against = step(group, data, servers, take_over)
                moved += done
                problems += against
            except DataError as error:
                problems.append(str(error))
            except dg.Failure as error:
                problems.append(error.description or group)
            except SQLAlchemyError as error:
                problems.append(f"{group}: {getattr(error, 'orig', error)}")
    return moved, problems


def _tables(group: str, data: Path, servers: bool, take_over: bool) -> tuple[list[str], list[str]]:
    lakehouse = lakehouse_resource(group, data)
    url = _value(lakehouse.catalog_uri)
    lakehouse = lakehouse.model_copy(update={"catalog_uri": url})
    if not _exists(url, servers) or not (take_over or _elsewhere(lakehouse, group)):
        return [], []
    if not take_over:
        _require_own(url, data, f"the catalog of {group}")
    moved, problems = lakehouse.relocate(group, take_over=take_over)
    return moved, list(map(str, problems))


def _mlflow(group: str, data: Path, servers: bool, take_over: bool) -> tuple[list[str], list[str]]:
    mlflow = mlflow_resource(group, data)
    where = (_value(mlflow.tracking_uri), mlflow.artifact_location, mlflow.experiment)
    if not _exists(where[0], servers) or not artifact_places.before(*where):
        return [], []
    if not take_over:
        _require_own(where[0], data, f"MLflow's database of {group}")
    artifact_places.relocate(*where)
    return [f"MLflow's files of {group}"], []


def _value(text: str) -> str:
    return text.get_value() or "" if isinstance(text, dg.EnvVar) else text


def _exists(url: str, servers: bool) -> bool:
    """Whether there may be such a database; MLflow's servers keep their own files."""
    if url.startswith(_SQLITE):
        return Path(url.removeprefix(_SQLITE)).is_file()
    return servers and not url.startswith("http")


def _require_own(url: str, data: Path, name: str) -> None:
    """Raise `DataError` unless a database is a file of the data directory, and no link."""
    path = Path(url.removeprefix(_SQLITE))
    inside = url.startswith(_SQLITE) and path.resolve().is_relative_to(data.resolve())
    if not inside or path.stat().st_nlink > 1:
        raise DataError(
            f"{name} as a file of {data}, for it names files elsewhere",
            f"{without_credentials(url)}, which the original may use too",
            "give this data directory a database of its own; or, if the original is gone for good, "
            "run python -m ml_assets.relocate --take-over",
        )


def _elsewhere(lakehouse: Lakehouse, namespace: str) -> bool:
    """Whether there are tables outside the warehouse, without the libraries that read them."""
    from sqlalchemy import create_engine, inspect, text

    from ml_assets.resources.database_urls import parsed

    engine = create_engine(parsed(lakehouse.catalog_uri, "lakehouse's catalog URI"))
    try:
        if not inspect(engine).has_table("iceberg_tables"):
            return False
        with engine.connect() as connection:
            places = connection.execute(
                text("SELECT metadata_location FROM iceberg_tables WHERE table_namespace = :name"),
                {"name": namespace},
            ).scalars()
            return any(place and not below(place, lakehouse.warehouse) for place in places)
    finally:
        engine.dispose()


def report(console: Console, moved: list[str], problems: list[str]) -> None:
    """Print what was done and what was not."""
    if moved:
        console.print(f"relocated: {', '.join(moved)}", soft_wrap=True, markup=False)
    for problem in problems:
        console.print(f"not relocated: {problem}", soft_wrap=True, style="red", markup=False)


def main() -> int:
    """Relocate the data directory that the environment names."""
    options = argparse.ArgumentParser(
        prog="python -m ml_assets.relocate", description="Relocate a data directory."
    )
    options.add_argument(
        "--take-over",
        action="store_true",
        help="also by databases outside the data directory, and of tables that belong to another "
        "catalog: only if what had them is gone for good, for two would delete each other's files",
    )
    console, take_over = Console(), options.parse_args().take_over
    moved, problems = relocate(data_dir(), servers=True, take_over=take_over)
    report(console, moved, problems)
    if not moved and not problems:
        console.print("nothing to relocate")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
