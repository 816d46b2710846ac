"""Calls that may take so long and no longer, whatever happens at the other end.

Clients of servers limit each silence. A server that says one byte every two seconds is never
silent, and holds them for ever.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar, cast

import dagster as dg

T = TypeVar("T")


def within(seconds: float, what: str, call: Callable[[], T]) -> T:
    """What `call` returns or raises, if it does so within some seconds.

    Nobody can end a call that waits for a server. It is left behind, in a thread that ends with
    the process or when the server does.

    Raises:
        dagster.Failure: It took longer; it may be tried again.
    """
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:  # raised again where it was called
            answer.set_exception(error)

    # Not of an executor: at its end Python would wait for the threads of those.
    threading.Thread(target=run, name=what, daemon=True).start()
    try:
        return answer.result(seconds)
    except TimeoutError:
        if answer.done():
            raise
        raise dg.Failure(
            f"{what} took more than {seconds:g} s. Expected: an answer within that time. Remedy: "
            "see whether the server is well, and try again later."
        ) from None


def bounded(client: T, seconds_of: Callable[[str], float]) -> T:
    """The client of a server, each of whose calls has an end.

    Args:
        client: The client.
        seconds_of: How long a call may take, by its name.
    """
    return cast("T", _Bounded(client, seconds_of))


class _Bounded:
    """Answers as the client does."""

    def __init__(self, client: Any, seconds_of: Callable[[str], float]) -> None:
        self._client, self._seconds_of = client, seconds_of

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found):
            return found

        def call(*values: Any, **named: Any) -> Any:
            seconds = self._seconds_of(name)
            what = f"{type(self._client).__name__}.{name}"
            return within(seconds, what, lambda: found(*values, **named))

        return call
