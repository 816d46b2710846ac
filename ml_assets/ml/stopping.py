"""Stopping a training where nothing is lost: after an epoch, or after a trial.

A stop is asked for by SIGTERM: by Ctrl-C of `make up`, `docker compose stop`, a machine's shutdown.
What the signal does then (end the process, or raise Dagster's interrupt) is not decided here.
"""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

PATIENCE = 20.0
"""Seconds that a stop waits for the end of an epoch. Who stops the process has to wait longer."""

logger = logging.getLogger(__name__)


@contextmanager
def stopping_between(what: str) -> Iterator[Callable[[], None]]:
    """Let a stop wait until the caller says that nothing would be lost, for `PATIENCE` at most.

    A second SIGTERM does not wait. Only the main thread can wait; elsewhere nothing changes.

    Args:
        what: What the stop waits for, such as "epoch", for the log.

    Yields:
        To be called when nothing would be lost: stops here if that was asked for.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = signal.getsignal(signal.SIGTERM)
    timer = threading.Timer(PATIENCE, os.kill, (os.getpid(), signal.SIGTERM))
    timer.daemon = True
    asked = False

    def stop() -> None:
        timer.cancel()
        signal.signal(signal.SIGTERM, before)
        signal.raise_signal(signal.SIGTERM)

    def wait(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            stop()
        asked = True
        timer.start()

    def stop_if_asked() -> None:
        if asked:
            logger.info("asked to stop: stopping here, between one %s and the next", what)
            stop()

    signal.signal(signal.SIGTERM, wait)
    try:
        yield stop_if_asked
    finally:
        timer.cancel()
        signal.signal(signal.SIGTERM, before)
    if asked:  # after the last one
        stop()
