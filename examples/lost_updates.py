"""A shared counter: ten tasks add one, first without a lock, then with one.

    python examples/lost_updates.py --kill-leader

Reading, adding and writing back are three steps. Without a lock, tasks that do them at the same time
overwrite each other. Under the lock the ten tasks write the ten values 2…11.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from both_clusters import Halfway, main, nothing
from distributed import Client

from raftcoord.dask import Lock, Variable

Work = Callable[[int], object]


def work(_: int) -> None:
    """What a task does between reading the counter and writing it back."""
    time.sleep(0.05)


def add_without_lock(number: int, work: Work = work) -> int:
    """Add one to the counter, and return what was written."""
    counter = Variable("counter")
    value: int = counter.get() + 1
    work(number)
    counter.set(value)
    return value


def add_under_lock(number: int, work: Work = work) -> int:
    """The same, one task at a time."""
    with Lock("counter"):
        return add_without_lock(number, work)


def values_without_lock(client: Client, halfway: Halfway = nothing, work: Work = work) -> list[int]:
    """Return what ten tasks wrote, and then what the counter is."""
    counter = Variable("counter")
    counter.set(1)
    values: list[int] = client.gather(client.map(add_without_lock, range(5), work=work, pure=False))
    halfway()
    values += client.gather(client.map(add_without_lock, range(5, 10), work=work, pure=False))
    return [*values, counter.get()]


def values_under_lock(client: Client, halfway: Halfway = nothing, work: Work = work) -> list[int]:
    """The same under the lock; the program itself holds it for a moment, and five tasks wait for it."""
    counter = Variable("counter")
    counter.set(1)
    values: list[int] = client.gather(client.map(add_under_lock, range(5), work=work, pure=False))
    with Lock("counter"):
        tasks = client.map(add_under_lock, range(5, 10), work=work, pure=False)
        halfway()
    values += client.gather(tasks)
    return [*values, counter.get()]


def show(client: Client, halfway: Halfway) -> None:
    *values, last = values_without_lock(client)
    print("without a lock:", sorted(values), "and the counter is", last)
    *values, last = values_under_lock(client, halfway)
    print("under the lock:", sorted(values), "and the counter is", last)


if __name__ == "__main__":
    main(show, __doc__)
