"""Several processes log and register the same training at once, or move the champion.

python -m ml_assets_tests.at_once --rounds 40

In each round two processes do the same, one a moment after the other; in every fourth round the
second one is killed on its way. Whatever they do, there must be one champion whose files are there,
one version of the training, and a next weekly run that works.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ml_assets.resources.registry import LoggedRun
from ml_assets_tests.kill_sweep import BETTER, NAME, Registry, prepare_empty
from ml_assets_tests.kills import run_in_child, start_child

LOGGING_SECONDS = 0.6
"""So long a training takes to be logged, roughly: the second one comes within that time."""
POINTS = 60
"""A logging and registration has about as many."""


class Rounds:
    """Rounds of two processes, each in a directory that is made anew."""

    def __init__(self, home: Path) -> None:
        self.work, self.template = home / "work", home / "template"
        self.registry = Registry(self.work)
        for path in (self.work, self.template):
            shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(home / "empty", self.work)
        ending = run_in_child(lambda: self.registry.train("a", BETTER), home)
        assert not ending.error, ending.error
        self.work.rename(self.template)

    def log_twice(self, seed: int) -> list[str]:
        """Two log and register the same training; what is wrong afterwards."""
        chance = random.Random(seed)

        def log_and_register() -> dict[str, Any]:
            logged = self.registry.log("n")
            self.registry.train("n", BETTER)
            return asdict(logged)

        kill_at = chance.randrange(1, POINTS) if seed % 4 == 3 else None
        endings = self._at_once(chance, [log_and_register, log_and_register], kill_at)
        logged = [LoggedRun(**ending.result) for ending in endings if ending.result]
        whole = self._after(self._wrong_with, logged)
        # A killed one's repetition, the next week, and retention.
        later = self._after(self._week_after, logged)
        return [*(ending.error for ending in endings if ending.error), *whole, *later]

    def roll_back_twice(self, seed: int) -> list[str]:
        """Two people roll back at once: it goes back once."""
        chance = random.Random(seed)
        self._reset()
        for text in "bc":
            ending = run_in_child(lambda text=text: self.registry.train(text, BETTER), self.work)
            assert not ending.error, ending.error

        def roll_back(launch: str) -> Callable[[], None]:
            return lambda: self.registry.move("rollback", None, launch)

        endings = self._at_once(chance, [roll_back("one"), roll_back("two")], None, reset=False)
        state = run_in_child(self.registry.state, self.work).result
        stages = Counter(version["stage"] for version in state["versions"].values())
        wrong = [ending.error for ending in endings if ending.error]
        if state["aliases"] != {"champion": "2"} or stages["Production"] != 1 or state["pending"]:
            wrong.append(f"went back from 3 to another version than 2: {state}")
        return wrong

    def _at_once(
        self,
        chance: random.Random,
        works: list[Callable[[], Any]],
        kill_at: int | None,
        *,
        reset: bool = True,
    ) -> list[Any]:
        if reset:
            self._reset()
        first = start_child(works[0], self.work)
        time.sleep(chance.uniform(0, LOGGING_SECONDS))
        second = start_child(works[1], self.work, kill_at=kill_at)
        return [first(), second()]

    def _wrong_with(self, logged: list[LoggedRun]) -> list[str]:
        state = self.registry.state()  # reads the files of all versions, and compares digests
        weights = [version["weights"] for version in state["versions"].values()]
        champion = state["versions"][state["aliases"]["champion"]]["weights"]
        stages = Counter(version["stage"] for version in state["versions"].values())
        wrong = []
        if champion != "n" or weights.count("n") != 1 or stages["Production"] != 1:
            wrong.append(f"one version of the training, the champion; found {state}")
        files = [Path(run.location) / run.model_file for run in logged]
        return [*wrong, *(str(file) for file in files if file.read_text() != "n")]

    def _week_after(self, logged: list[LoggedRun]) -> list[str]:
        self.registry.train("n", BETTER)
        with self.registry.resource.registry(NAME) as registry:
            versions = {registry.register(run, {}) for run in logged}
        self.registry.train("week", BETTER)
        self.registry.forget()
        weights = [version["weights"] for version in self.registry.state()["versions"].values()]
        return [] if len(versions) == 1 and sorted(weights) == ["n", "week"] else [str(weights)]

    def _after(self, check: Callable[[list[LoggedRun]], list[str]], logged: list[LoggedRun]) -> Any:
        ending = run_in_child(lambda: check(logged), self.work)
        return [ending.error] if ending.error else ending.result

    def _reset(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.template, self.work)


def main() -> int:
    """Print how many rounds ended wrong."""
    options = argparse.ArgumentParser(prog="python -m ml_assets_tests.at_once")
    options.add_argument("--rounds", type=int, default=40, help="of each kind (40)")
    options.add_argument("--verbose", action="store_true", help="say what ended wrong")
    arguments = options.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as home:
        prepare_empty(Path(home))
        rounds = Rounds(Path(home))
        for kind in (rounds.log_twice, rounds.roll_back_twice):
            wrong = [found for seed in range(arguments.rounds) if (found := kind(seed))]
            print(f"{kind.__name__}: {len(wrong)} of {arguments.rounds} rounds ended wrong")
            if arguments.verbose:
                print(*wrong, sep="\n")
            failed += len(wrong)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
