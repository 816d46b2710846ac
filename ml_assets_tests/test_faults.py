"""A part of the fault matrix: a group is broken, the others must not notice."""

from collections.abc import Iterator

import pytest

from ml_assets_tests.faults import FAULTS, Matrix, matrix
from ml_assets_tests.postgres import PostgresServer

ROUNDS = {"cifar10": "module does not import", "mnist": "step killed (SIGKILL)"}


@pytest.fixture(scope="module")
def found(
    tmp_path_factory: pytest.TempPathFactory, own_postgres_server: PostgresServer
) -> Iterator[Matrix]:
    with matrix(tmp_path_factory.mktemp("faults"), own_postgres_server) as made:
        yield made


@pytest.mark.parametrize("group", ROUNDS)
def test_only_the_broken_group_notices_and_it_is_put_right(found: Matrix, group: str) -> None:
    [fault] = [fault for fault in FAULTS if fault.name == ROUNDS[group]]
    outcome = found.round(fault, group)
    assert outcome.survived, outcome
