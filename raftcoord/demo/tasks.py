"""What the workers do: plain functions on the public, synchronous objects, as a user would write them.

Each takes the number of its worker, 1 to 10, and returns something that JSON carries.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from raftcoord import Lock, Queue, Variable

WORK_S = 0.02  # what a worker does between reading a value and writing it back
END_OF_ITEMS = "end"


def power(x: int) -> int:
    """Raise x to the global variable y."""
    y: int = Variable("y").get()
    return int(x**y)


def power_of_text(x: int) -> int | None:
    """As `power`, but an odd x meets the text "5", fails, and reports that."""
    y: Any = "5" if x % 2 else 5
    try:
        return int(x**y)
    except TypeError as error:
        Queue("failures").put("{} ** {} Failed : {}".format(x, y, error))  # noqa: UP032 - the shape users know
        return None


def increment_without_lock(_: int) -> int:
    """Read, work, write back: whoever does this at the same time overwrites the result."""
    counter = Variable("counter")
    value: int = counter.get() + 1
    time.sleep(WORK_S)
    counter.set(value)
    return value


def increment_under_lock(_: int) -> int:
    """The same, one at a time."""
    with Lock("counter-lock"):
        return increment_without_lock(_)


def add(_: int) -> int:
    """Let the store add, so that no lock is needed."""
    return int(Variable("counter").add(1))


def drain(_: int) -> list[int]:
    """Take items until there are none."""
    queue, taken = Queue("items"), []
    while (item := queue.get()) != END_OF_ITEMS:
        taken.append(item)
    return taken


TASKS: dict[str, Callable[[int], Any]] = {
    task.__name__: task
    for task in (power, power_of_text, increment_without_lock, increment_under_lock, add, drain)
}
