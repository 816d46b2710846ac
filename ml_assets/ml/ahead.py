"""One thing is worked on while the next ones are made ready, such as read.

It pays where both let go of Python's lock, or wait.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

_AHEAD = 2


def ahead(make: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """What is made of each item, in order; while one is used, two threads make the next two.

    So three are in memory. What `make` raises is raised when the turn of its item has come.

    >>> list(ahead(str, [1, 2, 3]))
    ['1', '2', '3']
    """
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(_AHEAD) as threads:
        for item in items:
            waiting.append(threads.submit(make, item))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
