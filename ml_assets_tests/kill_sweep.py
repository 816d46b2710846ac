"""The kill sweep: each operation on the registry is killed at every point, and must end well.

python -m ml_assets_tests.kill_sweep                         every point of every operation
python -m ml_assets_tests.kill_sweep --operations rollback   of some of them
python -m ml_assets_tests.kill_sweep --every 5               every fifth point

After each kill the operation is repeated (the same run executed again), launched anew (by a person
who saw it fail), or not at all: the next weekly run comes instead, and the operation afterwards. In
the end the registry must be as if nobody had been killed.
"""

import argparse
import dataclasses
import inspect
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from ml_assets import trials
from ml_assets.promotion import Decision, Policy
from ml_assets.resources.mlflow import MlflowResource
from ml_assets.resources.registry import LoggedRun
from ml_assets_tests.kills import run_in_child
from ml_assets_tests.resources.test_mlflow import TRAINING

NAME = "mnist_cnn"
AUTO, SHADOW = Policy("auto"), Policy("shadow", 14)
DAY = date(2026, 1, 1)
FIRST = Decision(True, False, "the first")
BETTER = Decision(True, False, "better", 0.1, 0.05, 0.15)
SAME = Decision(False, False, "not distinguishable", 0.0, -0.1, 0.1)


class Registry:
    """The registered model of a group below a directory, as its jobs use it."""

    def __init__(self, root: Path) -> None:
        self.resource = MlflowResource(
            experiment="mnist",
            tracking_uri=f"sqlite:///{root}/mlflow.db",
            artifact_location=str(root / "artifacts"),
            ui_url="http://127.0.0.1:5000",
        )

    def log(self, text: str) -> LoggedRun:
        """Log a training whose model file holds the text."""

        def save(directory: Path) -> str:
            directory.mkdir()
            (directory / "model.txt").write_text(text)
            return "model.txt"

        training = dataclasses.replace(
            TRAINING, training_id=text, weights_sha256=text, parameters={"seed": 1}
        )
        return self.resource.log(training, save)

    def train(self, text: str, decision: Decision, policy: Policy = AUTO, day: date = DAY) -> None:
        """A weekly run: log a training, register it, let it challenge the champion."""
        logged = self.log(text)
        with self.resource.registry(NAME) as registry:
            version = registry.register(logged, {})
            trials.challenged(
                registry,
                version,
                lambda champion: FIRST if champion is None else decision,
                policy,
                day,
            )

    def move(self, name: str, version: str | None, run_id: str) -> None:
        """What the jobs `rollback` and `promote` do, in the run of that id."""
        with self.resource.registry(NAME) as registry:
            move = getattr(registry, name)
            # The release before this had no launches, and is swept with the same program.
            if "launch" in inspect.signature(move).parameters:
                from ml_assets.resources.registered_model import Launch

                # The first run has not ended well by the time of the second one.
                move(version, Launch(run_id, lambda _: True))
            else:
                move(version)

    def end_trial(self, decision: Decision) -> None:
        """What the asset `shadow` does when the evidence is enough, or the days are over."""
        with self.resource.registry(NAME) as registry:
            if finish := getattr(registry, "finish_pending", None):
                finish()
            trial = registry.trial()
            if trial and trial.challenger == "2":
                registry.end_trial(trial, decision)

    def forget(self) -> None:
        """What the job `retention` does when everything is old."""
        self.resource.forget(datetime.now(UTC) + timedelta(minutes=1))

    def state(self) -> dict[str, Any]:
        """What must be the same in the end."""
        with self.resource.registry(NAME) as registry:
            client = registry.client
            model = client.get_registered_model(NAME)
            aliases = {alias: str(version) for alias, version in model.aliases.items()}
            versions = {
                str(found.version): {
                    tag: found.tags.get(tag)
                    for tag in ("stage", "replaced", "decision_reason", "shadow_since")
                }
                | {"weights": registry.model_file(str(found.version)).decode()}
                | {"rolled_back": found.tags.get("rolled_back") == "true"}
                | {"tried": registry.was_on_trial(str(found.version))}
                for found in client.search_model_versions(f"name = '{NAME}'")
            }
            pending = [key for key, value in model.tags.items() if '"pending"' in value]
        return {"aliases": aliases, "versions": versions, "pending": pending}


@dataclasses.dataclass(frozen=True)
class Operation:
    """What is killed.

    Attributes:
        name: For people.
        prepare: What was there before.
        phases: What is done: the whole, or after a kill some of it and then the next week.
        week: The next weekly run.
        anew: The same, launched anew by a person; None where only runs do it.
    """

    name: str
    prepare: Callable[[Registry], None]
    phases: list[Callable[[Registry], object]]
    week: Callable[[Registry], None]
    anew: Callable[[Registry], None] | None = None

    def do(self, registry: Registry) -> None:
        """Do the whole."""
        for phase in self.phases:
            phase(registry)


def _champions(registry: Registry) -> None:
    """Version 3 is champion, after 2 and 1; version 4 challenges it."""
    for text in "abc":
        registry.train(text, BETTER)
    registry.train("d", SAME)


def _on_trial(registry: Registry) -> None:
    """Version 1 is champion, 2 is on trial, 3 came later."""
    for text in "abc":
        registry.train(text, SAME, SHADOW)


def _one(registry: Registry) -> None:
    registry.train("a", FIRST)


def _trained(
    text: str, decision: Decision, policy: Policy = AUTO
) -> list[Callable[[Registry], object]]:
    def register(registry: Registry) -> None:
        logged = registry.log(text)
        with registry.resource.registry(NAME) as found:
            found.register(logged, {})

    return [
        lambda registry: registry.log(text),
        register,
        lambda registry: registry.train(text, decision, policy),
    ]


def _moved(name: str, version: str | None) -> dict[str, Any]:
    return {
        "phases": [lambda registry: registry.move(name, version, "first-launch")],
        "anew": lambda registry: registry.move(name, version, "second-launch"),
    }


def _week(policy: Policy, decision: Decision) -> Callable[[Registry], None]:
    return lambda registry: registry.train("week", decision, policy, DAY + timedelta(days=7))


def _operations() -> list[Operation]:
    better, shadow = _week(AUTO, BETTER), _week(SHADOW, SAME)
    lost = [lambda registry: registry.end_trial(SAME)]
    won = [lambda registry: registry.end_trial(BETTER)]
    return [
        Operation("first version", lambda _: None, _trained("n", FIRST), better),
        Operation("challenge, promoted", _champions, _trained("n", BETTER), better),
        Operation("challenge, not promoted", _champions, _trained("n", SAME), better),
        Operation("rollback", _champions, week=better, **_moved("rollback", None)),
        Operation("rollback to a version", _champions, week=better, **_moved("rollback", "1")),
        Operation("promote the challenger", _champions, week=better, **_moved("promote", None)),
        Operation("promote a version", _champions, week=better, **_moved("promote", "1")),
        Operation("trial begins", _one, _trained("n", SAME, SHADOW), shadow),
        Operation("trial won", _on_trial, won, shadow),
        Operation("trial lost", _on_trial, lost, shadow),
        Operation("retention", _champions, [lambda registry: registry.forget()], better),
    ]


OPERATIONS = {operation.name: operation for operation in _operations()}


AGAIN, ANEW, WEEK, WEEK_AND_AGAIN = (
    "executed again",
    "launched anew",
    "next week",
    "next week, then again",
)
ENDS = [AGAIN, ANEW, WEEK, WEEK_AND_AGAIN]


class Sweep:
    """Kills an operation point by point, in a directory that is made anew each time."""

    def __init__(
        self, operation: Operation, home: Path, *, statements: bool, ends: list[str] = ENDS
    ) -> None:
        self.operation = operation
        self.statements = statements
        self.work, self.template = home / "work", home / "template"
        self.registry = Registry(self.work)
        self.wrong: list[tuple[int, str, str]] = []
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.rmtree(self.template, ignore_errors=True)
        shutil.copytree(home / "empty", self.work)
        prepared = self._child(operation.prepare)
        assert not prepared.error, prepared.error
        shutil.copytree(self.work, self.template)
        steps = {
            AGAIN: [operation.do, operation.do],
            ANEW: [operation.anew] if operation.anew else [],
            WEEK: [operation.week],
            WEEK_AND_AGAIN: [operation.week, operation.do],
        }
        self.ends = {end: (steps[end], self._allowed(end)) for end in ends if steps[end]}
        self._reset()
        self.points = self._child(operation.do).points

    def _allowed(self, end: str) -> list[Any]:
        """The states after that end, if nobody is killed."""
        operation = self.operation
        if end in {AGAIN, ANEW}:
            whole = self._ending(operation.do)
            again = self._ending(operation.do, operation.do)
            if end == AGAIN and again != whole:
                self.wrong.append((0, end, _difference(again, whole)))
            return [whole]
        then = [operation.week] if end == WEEK else [operation.week, operation.do]
        # Some of it, or nothing, may have been done before.
        some = [operation.phases[:count] for count in range(len(operation.phases) + 1)]
        return [self._ending(*phases, *then) for phases in some]

    def kill_at(self, point: int) -> None:
        """Kill the operation at a point, and note what ends wrong."""
        self._reset()
        ending = self._child(self.operation.do, kill_at=point)
        if not ending.killed:
            raise RuntimeError(f"{self.operation.name} has no point {point}: {ending}")
        killed = self.work.with_name("killed")
        shutil.rmtree(killed, ignore_errors=True)
        self.work.rename(killed)
        for end, (steps, allowed) in self.ends.items():
            self._reset(killed)
            found = self._ending(*steps, reset=False)
            if found not in allowed:
                self.wrong.append((point, end, _difference(found, allowed[0])))

    def _ending(self, *steps: Callable[[Registry], object], reset: bool = True) -> Any:
        """The state after some steps, each in a process of its own but for the last."""
        if reset:
            self._reset()

        def work() -> object:
            for step in steps:
                step(self.registry)
            return self.registry.state()

        ending = self._child_of(work)
        return ending.result or ending.error

    def _child(self, step: Callable[[Registry], object], kill_at: int | None = None) -> Any:
        return self._child_of(lambda: step(self.registry) and None, kill_at)

    def _child_of(self, work: Callable[[], object], kill_at: int | None = None) -> Any:
        return run_in_child(work, self.work, kill_at=kill_at, statements=self.statements)

    def _reset(self, origin: Path | None = None) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(origin or self.template, self.work)


def _difference(found: Any, wanted: Any) -> str:
    if isinstance(found, str) or isinstance(wanted, str):
        return f"{found} instead of {wanted}"
    flat = [
        {
            f"{part}.{key}": value
            for part in ("aliases", "versions")
            for key, value in of[part].items()
        }
        | {"pending": of["pending"]}
        for of in (found, wanted)
    ]
    names = sorted({*flat[0], *flat[1]})
    return "; ".join(
        f"{name}: {json.dumps(flat[0].get(name))} instead of {json.dumps(flat[1].get(name))}"
        for name in names
        if flat[0].get(name) != flat[1].get(name)
    )


def prepare_empty(home: Path) -> None:
    """Make an empty store in `home`, and import in this process what its children need."""
    (home / "warm").mkdir()
    _champions(Registry(home / "warm"))
    (home / "work").mkdir()  # where artifacts are from now on
    made = run_in_child(lambda: Registry(home / "work").resource.forget(datetime.now(UTC)), home)
    assert not made.error, made.error
    (home / "work").rename(home / "empty")


def sweeps(home: Path, names: list[str], *, statements: bool) -> Iterator[Sweep]:
    """The sweeps of some operations; no point is killed yet."""
    prepare_empty(home)
    for name in names:
        yield Sweep(OPERATIONS[name], home, statements=statements)


def main() -> int:
    """Kill, print the ledger, and say whether all ended well."""
    options = argparse.ArgumentParser(
        prog="python -m ml_assets_tests.kill_sweep",
        description="Kill every operation on the registry at every point.",
    )
    options.add_argument("--operations", nargs="*", choices=OPERATIONS, default=list(OPERATIONS))
    options.add_argument("--every", type=int, default=1, help="every so many points (1)")
    options.add_argument("--commits", action="store_true", help="leave out statements that write")
    options.add_argument("--verbose", action="store_true", help="say what ended wrong")
    arguments = options.parse_args()
    table = Table(box=SIMPLE)
    for column in ["operation", "points", "kills", *(f"wrong: {end}" for end in ENDS)]:
        table.add_column(column, justify="left" if column == "operation" else "right")
    console = Console(width=160)
    wrong = 0
    with tempfile.TemporaryDirectory() as home:
        for sweep in sweeps(Path(home), arguments.operations, statements=not arguments.commits):
            points = range(1, sweep.points + 1, arguments.every)
            for point in points:
                sweep.kill_at(point)
            if arguments.verbose:
                for found in sweep.wrong:
                    console.print(sweep.operation.name, *found)
            by_end = Counter(end for _, end, _ in sweep.wrong)
            counts = [str(by_end[end]) if end in sweep.ends else "" for end in ENDS]
            table.add_row(sweep.operation.name, str(sweep.points), str(len(points)), *counts)
            print(sweep.operation.name, sweep.points, len(points), *counts, flush=True)
            wrong += len(sweep.wrong)
    console.print(table)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
