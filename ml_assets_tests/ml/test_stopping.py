"""A stop waits for the end of an epoch or a trial, but not for ever."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from ml_assets.ml import stopping
from ml_assets.ml.stopping import stopping_between


class Interrupted(BaseException):
    """What Dagster would raise."""


@pytest.fixture(autouse=True)
def interrupts() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGTERM, interrupt)
    yield
    signal.signal(signal.SIGTERM, before)


def train(done: list[int], *, asked_in: int, times: int = 1, seconds: float = 0.0) -> None:
    """Five epochs, in one of which somebody asks for a stop."""
    with stopping_between("epoch") as stop_if_asked:
        for epoch in range(5):
            for _ in range(times if epoch == asked_in else 0):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(seconds)
            done.append(epoch)
            stop_if_asked()


def test_it_stops_after_the_epoch_in_which_it_was_asked_to() -> None:
    done: list[int] = []
    with pytest.raises(Interrupted):
        train(done, asked_in=2)
    assert done == [0, 1, 2]


def test_it_stops_after_the_last_one() -> None:
    with pytest.raises(Interrupted), stopping_between("epoch"):
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_long_epoch_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "PATIENCE", 0.1)
    done: list[int] = []
    with pytest.raises(Interrupted):
        train(done, asked_in=2, seconds=30)
    assert done == [0, 1]


def test_a_second_time_does_not_wait() -> None:
    done: list[int] = []
    with pytest.raises(Interrupted):
        train(done, asked_in=2, times=2)
    assert done == [0, 1]


def test_nothing_is_left_behind() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stopping_between("epoch") as stop_if_asked:
        stop_if_asked()
    assert signal.getsignal(signal.SIGTERM) is before


def test_other_threads_are_left_alone() -> None:
    def work() -> None:
        with stopping_between("epoch") as stop_if_asked:
            stop_if_asked()
            done.append(True)

    done: list[bool] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done
