from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import dagster as dg
import pytest

from ml_assets.resources.lakehouse import Lakehouse
from ml_assets_tests.resources.lakehouse.tables import (
    TABLE,
    process,
    values,
    write,
)


def test_writers_of_different_partitions_all_succeed(lake: Lakehouse) -> None:
    together = Barrier(8)

    def one(number: int) -> None:
        own = Lakehouse(catalog_uri=lake.catalog_uri, warehouse=lake.warehouse)
        together.wait()
        write(own, number, number + 1, float(number))

    # Nothing exists yet: they also race to create catalog, namespace and table.
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(8)))
    assert values(lake, 0, 8) == list(range(8))
    # Now they race for pieces of the same files.
    lake.maintain(TABLE)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(8)))
    assert values(lake, 0, 8) == list(range(8))


@pytest.mark.parametrize("first", [1, 3], ids=["filled", "empty"])
def test_writers_of_the_same_partition_leave_the_rows_of_one(lake: Lakehouse, first: int) -> None:
    write(lake, 0, 3, 9.0)
    together = Barrier(4)

    def one(number: int) -> None:
        together.wait()
        write(lake, first, first + 1, float(number))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(4)))
    found = values(lake, 0, 4)
    assert found.pop(first) in range(4)
    assert set(found) == {9}


def test_processes_that_create_the_same_table_all_succeed(lake: Lakehouse) -> None:
    writers = [
        process(lake, f"write(lake, {number}, {number + 1}, {number}.0)") for number in range(3)
    ]
    for writer in writers:
        _, errors = writer.communicate(timeout=120)
        assert writer.returncode == 0, errors
    assert values(lake, 0, 3) == [0, 1, 2]


def test_a_conflict_is_tried_again_for_a_limited_time(
    lake: Lakehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyiceberg.catalog.sql import SqlCatalog
    from pyiceberg.exceptions import CommitFailedException

    write(lake, 0, 1, 1.0)
    tries = []

    def lose(*args: object, **kwargs: object) -> None:
        tries.append(1)
        raise CommitFailedException("somebody was faster")

    impatient = lake.model_copy(update={"commit_timeout_seconds": 0.5})
    monkeypatch.setattr(SqlCatalog, "commit_table", lose)
    with pytest.raises(dg.Failure, match=r"within 0.5 seconds; found CommitFailedException"):
        write(impatient, 0, 1, 2.0)
    assert len(tries) > 1
    monkeypatch.undo()
    assert values(lake, 0, 1) == [1]


def test_a_write_whose_success_went_unheard_is_not_written_twice(
    lake: Lakehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyiceberg.catalog.sql import SqlCatalog
    from sqlalchemy.exc import OperationalError

    write(lake, 0, 1, 1.0)
    commit, tries = SqlCatalog.commit_table, []

    def unheard(*args: object, **kwargs: object) -> object:
        response = commit(*args, **kwargs)
        tries.append(1)
        if len(tries) == 1:
            raise OperationalError("COMMIT", None, Exception("the connection broke"))
        return response

    monkeypatch.setattr(SqlCatalog, "commit_table", unheard)
    write(lake, 0, 1, 2.0)
    assert values(lake, 0, 1) == [2]
