"""Kill a process really, at a chosen write, commit or file operation.

The processes are forked from one that has imported everything already, so that hundreds of kills
take minutes and not hours. The parent must not have opened the stores.
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FILE_EVENTS = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink"}
_WRITES = ("INSERT", "UPDATE", "DELETE")


@dataclass(frozen=True)
class Ending:
    """How a child process ended.

    Attributes:
        killed: It was killed at the chosen point.
        error: What it raised, empty if nothing.
        result: What its work returned.
        points: At how many points it could have been killed.
    """

    killed: bool
    error: str
    result: Any
    points: int


def run_in_child(
    work: Callable[[], Any], root: Path, *, kill_at: int | None = None, statements: bool = True
) -> Ending:
    """Do `work` in a forked process, and kill it before its `kill_at`-th point.

    Args:
        work: What to do; what it returns must be JSON.
        root: Operations on files below it are points.
        kill_at: The point, from 1 on; None kills nothing.
        statements: Statements that write are points too; else commits and file operations alone.
    """
    return start_child(work, root, kill_at=kill_at, statements=statements)()


def start_child(
    work: Callable[[], Any], root: Path, *, kill_at: int | None = None, statements: bool = True
) -> Callable[[], Ending]:
    """Start what `run_in_child` does, beside others; what it returns waits for the end."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _work_and_exit(work, root, kill_at, statements, writing)
    os.close(writing)

    def wait() -> Ending:
        with os.fdopen(reading) as stream:
            told = stream.read()
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            return Ending(True, "", None, kill_at or 0)
        return Ending(False, **json.loads(told))

    return wait


def _work_and_exit(
    work: Callable[[], Any], root: Path, kill_at: int | None, statements: bool, writing: int
) -> None:
    points = _count_points(root, kill_at, statements)
    error, result = "", None
    try:
        result = work()
    except BaseException as raised:
        error = f"{type(raised).__name__}: {raised}"
        if os.environ.get("KILLS_TRACEBACK"):
            traceback.print_exc()
    with os.fdopen(writing, "w") as stream:
        json.dump({"error": error, "result": result, "points": points[0]}, stream)
    os._exit(0)


def _count_points(root: Path, kill_at: int | None, statements: bool) -> list[int]:
    """Count points in the returned list, and kill this process at the chosen one."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    points = [0]
    below = str(root)

    def point() -> None:
        points[0] += 1
        if points[0] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    @event.listens_for(Engine, "before_cursor_execute")
    def _write(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip().upper().startswith(_WRITES):
            connection.info["dirty"] = True
            if statements:
                point()

    @event.listens_for(Engine, "commit")
    def _commit(connection: Any) -> None:
        if connection.info.pop("dirty", False):
            point()

    def audit(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "open":
            path, _, flags = arguments
            changes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        elif name in _FILE_EVENTS:
            path, changes = arguments[0], True
        else:
            return
        if changes and isinstance(path, str | os.PathLike) and str(path).startswith(below):
            point()

    sys.addaudithook(audit)
    return points
