"""What goes wrong in a night, how it is done, and what is expected to come of it.

A fault begins before the schedules tick and ends in the morning, when the team removes it.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from ml_assets.ml import archive
from ml_assets.ml.errors import DataError
from ml_assets_tests.month.launcher import VICTIMS
from ml_assets_tests.month.small import DAILY, GROUPS, WEEKLY
from ml_assets_tests.servers import failing_server

NOBODY_LISTENS = "127.0.0.1:9"


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        name: What it is, in a few words.
        groups: The groups that it can befall.
        strike: Makes it last while the context is open, given the group and the home.
        remedy: What the runbook has the team do, once the fault is removed.
        told: How many alerts are expected of it.
        also: The weekly job of the group that fails of it too, if it is due.
    """

    name: str
    groups: tuple[str, ...]
    strike: Callable[[str, Path], AbstractContextManager[Any]]
    remedy: str
    told: int = 1
    also: str = ""


@contextmanager
def mlflow_answers_500(group: str, _: Path) -> Iterator[None]:
    with failing_server() as url, _environment(f"{group.upper()}_MLFLOW_TRACKING_URI", url):
        yield


def mlflow_is_down(group: str, _: Path) -> AbstractContextManager[None]:
    return _environment(f"{group.upper()}_MLFLOW_TRACKING_URI", f"http://{NOBODY_LISTENS}")


def catalog_is_down(group: str, _: Path) -> AbstractContextManager[None]:
    url = f"postgresql://ml@{NOBODY_LISTENS}/lakehouse"
    return _environment(f"{group.upper()}_LAKEHOUSE_CATALOG_URL", url)


@contextmanager
def process_is_killed(group: str, _: Path, times: int = 1) -> Iterator[None]:
    VICTIMS[group] = times
    yield
    assert not VICTIMS.pop(group), "a run that was to be killed was not"


def process_is_killed_twice(group: str, home: Path) -> AbstractContextManager[None]:
    return process_is_killed(group, home, times=2)


@contextmanager
def disk_is_full(group: str, _: Path) -> Iterator[None]:
    """For what the group's steps hand on."""
    save = archive.save

    def full(value: Any, path: Any) -> None:
        if f"/{group}/" in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        save(value, path)

    with mock.patch.object(archive, "save", full):
        yield


def source_is_missing(group: str, home: Path) -> AbstractContextManager[Any]:
    def gone(*_: object) -> None:
        raise DataError("the source of the day", "nothing", "supply it")

    if group in DAILY:
        return mock.patch.object(_replayed(group), "read", gone)
    return _file(_inbox(home, group), lambda path: path.unlink())


def source_is_corrupt(group: str, home: Path) -> AbstractContextManager[Any]:
    if group in DAILY:
        return _altered(group, {"power": _garbled_readings, "tick": _garbled_ticks}[group])
    return _file(_inbox(home, group), lambda path: os.truncate(path, path.stat().st_size // 2))


def data_are_bad(group: str, home: Path) -> AbstractContextManager[Any]:
    """A feed that delivers every line twice; labels of images that are no class."""
    if group in DAILY:
        return _altered(group, _twice)
    return _file(_inbox(home, group), _mislabelled)


def meter_is_silent(group: str, _: Path) -> AbstractContextManager[Any]:
    """For half of the day; what there is of it is sound."""
    return _altered(group, lambda rows, _day: rows.take(np.arange(0, len(rows), 2)))


REEXECUTE = "re-executed from the failure"
BACKFILL = "a backfill of the day"
LAUNCH = "launched again"
"""A re-execution from the failure would look at the same bad rows again, which are stored."""
FAULTS = (
    Fault("MLflow answers 500", GROUPS, mlflow_answers_500, REEXECUTE, also="retention"),
    Fault("MLflow is down", GROUPS, mlflow_is_down, REEXECUTE, also="retention"),
    Fault("source is missing", GROUPS, source_is_missing, REEXECUTE),
    Fault("source is corrupt", GROUPS, source_is_corrupt, LAUNCH),
    # Ticks that come twice are taken once: nobody need be told.
    Fault("bad data", ("power", *WEEKLY), data_are_bad, LAUNCH),
    Fault("half a day is missing", ("power",), meter_is_silent, BACKFILL),
    Fault("catalog is down", DAILY, catalog_is_down, REEXECUTE, also="upkeep"),
    Fault("disk is full", GROUPS, disk_is_full, REEXECUTE),
    Fault("killed twice", GROUPS, process_is_killed_twice, REEXECUTE),
    Fault("killed once", GROUPS, process_is_killed, "Dagster, at once", told=0),
)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Resources that hold a reference read it when a run starts."""
    with mock.patch.dict(os.environ, {name: value}):
        yield


def _inbox(home: Path, group: str) -> Path:
    return home / "data" / "inbox" / f"{group}.npz"


@contextmanager
def _file(path: Path, harm: Callable[[Path], Any]) -> Iterator[None]:
    content = path.read_bytes()
    harm(path)
    yield
    path.write_bytes(content)


def _mislabelled(path: Path) -> None:
    with np.load(path) as file:
        content = dict(file)
    content["y_train"] = content["y_train"] + 1
    np.savez(path, **content)


def _replayed(group: str) -> type:
    from ml_assets.resources.readings import ReplayedReadings
    from ml_assets.resources.ticks import ReplayedTicks

    return {"power": ReplayedReadings, "tick": ReplayedTicks}[group]


def _altered(group: str, change: Callable[[Any, Any], Any]) -> AbstractContextManager[Any]:
    """The replay gives something else."""
    source = _replayed(group)
    read = source.read

    def altered(self: Any, start: date | datetime, end: date | datetime) -> Any:
        return change(read(self, start, end), start)

    return mock.patch.object(source, "read", altered)


def _twice(rows: Any, _: Any) -> Any:
    import pyarrow as pa

    return pa.concat_tables([rows, rows])


def _garbled_readings(rows: Any, _: Any) -> Any:
    import pyarrow as pa

    text = pa.array([text[: len(text) // 2] for text in rows["text"].to_pylist()], pa.string())
    return rows.set_column(rows.schema.get_field_index("text"), "text", text)


def _garbled_ticks(rows: Any, _: Any) -> Any:
    import pyarrow as pa

    number = rows.schema.get_field_index("price")
    return rows.set_column(number, "price", pa.array(-rows["price"].to_numpy()))
