"""The I/O manager of all groups: a step's output is a dataclass, kept as one archive.

The archive's format is `ml_assets.ml.archive`; tables belong in the lakehouse, not here.
"""

import re
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Any

import dagster as dg
from dagster import UPathIOManager
from pydantic import Field
from upath import UPath

from ml_assets.ml import archive
from ml_assets.ml.errors import DataError
from ml_assets.ml.places import below

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


class ArchiveIOManager(dg.ConfigurableIOManagerFactory):
    """Keeps each output as `{base_path}/{asset key}[/{partition}].zip`."""

    base_path: str = Field(description="A directory, or any fsspec URL such as `s3://bucket/ml`.")

    def create_io_manager(self, _: dg.InitResourceContext) -> "_ArchiveIOManager":
        """The I/O manager on `base_path`."""
        return _ArchiveIOManager(UPath(self.base_path))


class _ArchiveIOManager(UPathIOManager):
    extension = ".zip"

    def make_safe_partition_path(self, base_path: UPath, partition: str) -> UPath:
        return base_path / archive.file_name(partition)

    def dump_to_path(self, context: dg.OutputContext, obj: Any, path: UPath) -> None:
        archive.save(obj, path)
        archive.checkpoint_of(path).unlink(missing_ok=True)
        context.add_output_metadata({"size_bytes": path.stat().st_size})

    def load_from_path(self, context: dg.InputContext, path: UPath) -> Any:
        name = context.asset_key.to_user_string()
        try:
            return archive.load(context.dagster_type.typing_type, path)
        except DataError as error:
            raise dg.Failure(f"{name}: {error}", allow_retries=False) from error
        except FileNotFoundError as error:
            raise dg.Failure(
                f"{name}: expected its value at {path}; found nothing there; remedy: materialize "
                f"{name} first",
                allow_retries=False,
            ) from error


def _of_day_before(time: datetime, path: UPath) -> bool:
    """Files are named after their partition, and ISO dates sort as text."""
    day = path.name.partition(".")[0]
    return bool(_DAY.fullmatch(day)) and day < str(time.date())


def forget_outputs(base_path: str, group: str, before: datetime) -> tuple[int, int]:
    """Delete the outputs and checkpoints of a group's days before a time, but for newer files.

    What was made of a day long past a moment ago is not old: somebody is at work on it. What a
    training has computed beside its checkpoint goes when it is old, of groups without days too.
    A link that leads out of `base_path` is not followed.

    Returns:
        How many there were, and how many bytes they had.
    """
    number = size = 0
    outputs, caches = (UPath(base_path, group).glob(way) for way in ("*/*", "*.features/*/*/*"))
    for path in chain(filter(partial(_of_day_before, before), outputs), caches):
        found = path.stat()
        if found.st_mtime < before.timestamp() and below(str(path), base_path):
            number, size = number + 1, size + found.st_size
            path.unlink()
    return number, size
