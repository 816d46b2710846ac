"""One thing is worked on while the next is made ready, such as read.

It pays where both let go of Python's lock, or wait.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def ahead(make: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """What is made of each item, in order; while one is used, a thread makes the next one.

    So two are in memory. What `make` raises is raised when the turn of its item has come.

    >>> list(ahead(str, [1, 2, 3]))
    ['1', '2', '3']
    """
    waiting: list[Future[Made]] = []
    with ThreadPoolExecutor(1) as thread:
        for item in items:
            waiting.append(thread.submit(make, item))
            if len(waiting) > 1:
                yield waiting.pop(0).result()
        if waiting:
            yield waiting.pop().result()
