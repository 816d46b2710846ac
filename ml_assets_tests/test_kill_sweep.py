"""A part of the kill sweep, and of the rounds in which two do the same at once.

`python -m ml_assets_tests.kill_sweep` and `python -m ml_assets_tests.at_once` do all of it.
"""

from pathlib import Path

import pytest

from ml_assets_tests.at_once import Rounds
from ml_assets_tests.kill_sweep import AGAIN, ANEW, OPERATIONS, WEEK_AND_AGAIN, Sweep, prepare_empty


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("sweep")
    prepare_empty(home)
    return home


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("challenge, promoted", [AGAIN]),
        ("rollback", [AGAIN, ANEW, WEEK_AND_AGAIN]),
        ("promote the challenger", [AGAIN, ANEW]),
        ("trial lost", [AGAIN]),
    ],
)
def test_a_killed_transition_ends_as_if_it_had_not_been_killed(
    name: str, ends: list[str], home: Path
) -> None:
    sweep = Sweep(OPERATIONS[name], home, statements=False, ends=ends)
    # Where the registry is written, from the tags of the versions to the last but one.
    for point in (sweep.points - 4, sweep.points - 2, sweep.points):
        sweep.kill_at(point)
    assert sweep.wrong == []


def test_two_who_log_and_register_the_same_training_end_with_one_version(home: Path) -> None:
    rounds = Rounds(home)
    assert [rounds.log_twice(seed) for seed in (2, 3)] == [[], []]


def test_two_who_roll_back_at_once_go_back_once(home: Path) -> None:
    rounds = Rounds(home)
    assert [rounds.roll_back_twice(seed) for seed in (0, 1)] == [[], []]
