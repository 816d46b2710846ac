from threading import Event

import pytest

from ml_assets.ml.ahead import ahead


def test_the_next_is_made_while_one_is_used_and_no_more_than_that() -> None:
    made = [Event() for _ in range(4)]

    def make(number: int) -> int:
        made[number].set()
        return number

    for number in ahead(make, range(4)):
        if number < 3:
            assert made[number + 1].wait(10)
        assert not any(event.is_set() for event in made[number + 2 :])


def test_nothing_is_made_of_nothing() -> None:
    assert list(ahead(str, [])) == []


def test_an_error_is_raised_in_its_turn() -> None:
    found = ahead(lambda number: 1 // number, [1, 0, 2])
    assert next(found) == 1
    with pytest.raises(ZeroDivisionError):
        next(found)
