"""Damage sound files for some time and count what their readers make of them.

`python -m ml_assets_tests.fuzz --seconds 60`: of each reader how many files it read, how many it
refused with `DataError`, and how many ended otherwise, with what; exit code 1 if any did. The same
seed damages the same files in the same order. Linux and macOS only: a reader that hangs is
interrupted by an alarm.
"""

import argparse
import logging
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from random import Random
from types import FrameType

from ml_assets.ml.errors import DataError
from ml_assets_tests.damage import Reader, random_edits, readers

HANGS_AFTER_SECONDS = 20


class _Hangs(BaseException):
    """No reader catches it."""


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise _Hangs


def outcome(reader: Reader, random: Random, directory: Path) -> str:
    """`read`, `DataError`, or what else came of one damaged file."""
    name, content = random.choice(list(reader.seeds.items()))
    content = reader.damage(content, random_edits(random))
    place = Path(tempfile.mkdtemp(dir=directory))
    signal.alarm(HANGS_AFTER_SECONDS)
    try:
        reader.read(place, name, content)
    except DataError:
        return "DataError"
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        return type(error).__name__
    finally:
        signal.alarm(0)
        shutil.rmtree(place)
    return "read"


def main() -> int:
    """Damage files of each reader in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="for all readers together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", action="append", help="only these, by their names")
    arguments = parser.parse_args()
    chosen = {
        name: reader
        for name, reader in readers().items()
        if not arguments.reader or name in arguments.reader
    }
    signal.signal(signal.SIGALRM, _interrupt)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    print(f"{'reader':26}{'inputs':>8}{'read':>8}{'DataError':>11}{'other':>7}  which")
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as directory:
        for name, reader in chosen.items():
            random, counts = Random(f"{arguments.seed} {name}"), Counter[str]()
            ends = time.monotonic() + arguments.seconds / len(chosen)
            while time.monotonic() < ends:
                counts[outcome(reader, random, Path(directory))] += 1
            total += counts
            print(_row(name, counts), flush=True)
    print(_row("all", total))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(f"peak memory {peak:.0f} MiB")
    return int(_other(total) > 0)


def _other(counts: Counter[str]) -> int:
    return counts.total() - counts["read"] - counts["DataError"]


def _row(name: str, counts: Counter[str]) -> str:
    which = ", ".join(
        f"{number} {kind}"
        for kind, number in counts.most_common()
        if kind not in {"read", "DataError"}
    )
    return (
        f"{name:26}{counts.total():>8}{counts['read']:>8}{counts['DataError']:>11}"
        f"{_other(counts):>7}  {which}"
    )


if __name__ == "__main__":
    sys.exit(main())
