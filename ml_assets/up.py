"""What `make up` runs: honcho, which waits until trainings have stopped before it kills them.

python -m ml_assets.up start
"""

from honcho import manager
from honcho.command import main as honcho

from ml_assets.ml import stopping

SECONDS = stopping.PATIENCE + 10
"""How long the processes may take to stop: a training until its next epoch, and what follows."""


def main() -> None:
    """Run honcho's command line."""
    manager.KILL_WAIT = SECONDS
    honcho()


if __name__ == "__main__":
    main()
