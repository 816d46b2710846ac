"""Which process executes a run, and whether it lives: one locked file a run.

The system frees a lock when its process ends, whichever way it ends. So a free lock is proof, and a
process that is busy or stopped is never taken for a dead one. Containers of one host that share the
directory see each other's locks. What follows from it is the run launcher's business.
"""

import fcntl
import json
import logging
import multiprocessing
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ml_assets.ml import stopping

HEARTBEAT = 1.0
"""Seconds between two signs of life, and between two looks at the parent process."""
SILENCE = 60.0
"""Seconds without a sign of life after which a process of another boot counts as gone."""
LAST_PATIENCE = stopping.PATIENCE + 10
"""Seconds after which a process that lost its code server, and was asked to stop, is killed."""

logger = logging.getLogger(__name__)


@contextmanager
def marked_alive(path: Path) -> Iterator[None]:
    """Hold the lock of `path` while a run is executed in this process.

    A process whose code server dies is asked to stop, as by Ctrl-C: nobody watches it any more.
    Where files cannot be locked, the run is executed all the same.
    """
    new = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = new.open("w")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        json.dump({"boot": _boot(), "pid": os.getpid()}, file)
        file.flush()
        new.rename(path)  # nobody sees it unlocked
    except OSError as error:
        logger.warning("cannot be seen to be alive: %s", error)
        yield
        return
    over = threading.Event()
    threading.Thread(target=_watch, args=(path, over), name="run-process", daemon=True).start()
    try:
        yield
    finally:
        over.set()
        path.unlink(missing_ok=True)
        file.close()


def lives(path: Path) -> bool | None:
    """Whether the process that marked `path` lives; None where that cannot be known from here."""
    try:
        with path.open("r+") as file:
            boot = json.load(file)["boot"]
            if not _is_free(file.fileno()):
                return True
            if not path.exists():  # it came to its end meanwhile
                return None
    except (OSError, ValueError, KeyError):
        return None
    # After a reboot the lock is free, and so it may be where another host holds it.
    return boot != _boot() and time.time() - path.stat().st_mtime < SILENCE


def _is_free(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _boot() -> str:
    """The same for all processes and containers of a host until it is started again."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except FileNotFoundError:
        return platform.node()


def _watch(path: Path, over: threading.Event) -> None:
    """Give signs of life, and stop this process if the code server that started it is gone."""
    parent = multiprocessing.parent_process()  # none on the command line
    while not over.wait(HEARTBEAT):
        with suppress(OSError):  # a disk that is full or lost is not for this thread to report
            os.utime(path)
        if parent and not parent.is_alive():
            break
    else:
        return
    logger.warning("the code server of this run is gone: stopping")
    os.kill(os.getpid(), signal.SIGTERM)
    if not over.wait(LAST_PATIENCE):
        os.kill(os.getpid(), signal.SIGKILL)
