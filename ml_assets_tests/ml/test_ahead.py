from threading import Event

import pytest

from ml_assets.ml.ahead import ahead


def test_the_next_two_are_made_while_one_is_used_and_no_more_than_that() -> None:
    made = [Event() for _ in range(5)]

    def make(number: int) -> int:
        made[number].set()
        return number

    for number in ahead(make, range(5)):
        assert all(event.wait(10) for event in made[number + 1 : number + 3])
        assert not any(event.is_set() for event in made[number + 3 :])


def test_nothing_is_made_of_nothing() -> None:
    assert list(ahead(str, [])) == []


def test_an_error_is_raised_in_its_turn() -> None:
    found = ahead(lambda number: 1 // number, [1, 0, 2])
    assert next(found) == 1
    with pytest.raises(ZeroDivisionError):
        next(found)
