"""What `make up` runs: honcho, which waits until trainings have stopped before it kills them.

python -m ml_assets.up start
"""

import os
import signal
import sys
from pathlib import Path

from honcho import manager
from honcho.command import main as honcho

from ml_assets.ml import stopping

SECONDS = stopping.PATIENCE + 10
"""How long the processes may take to stop: a training until its next epoch, and what follows."""


def main() -> None:
    """Run honcho's command line; a terminal that is closed stops it as Ctrl-C does."""
    manager.KILL_WAIT = SECONDS
    signal.signal(signal.SIGHUP, _hang_up)
    honcho()


def _hang_up(*_: object) -> None:
    with Path(os.devnull).open("w") as nowhere:  # the terminal can no longer be written to
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
        os.dup2(nowhere.fileno(), sys.stderr.fileno())
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
