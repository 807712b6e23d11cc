"""A queue of a hundred numbers, emptied by four tasks, without a lock and with one.

    python examples/drained_queue.py --kill-leader

Without a lock each task takes what is next and stops at an end mark: `get` hands out every item once. A task
that first asks whether something is left, and then takes it, does two steps, and needs a lock around them:
another task could take the last item in between.
"""

from __future__ import annotations

from both_clusters import Halfway, main, nothing
from distributed import Client

from raftcoord.dask import Lock, Queue

ITEMS = 100
TASKS = 4
END = "end"


def take_until_end(_: int) -> list[int]:
    """Take items until an end mark comes."""
    queue = Queue("numbers")
    taken: list[int] = []
    while (item := queue.get()) != END:
        taken.append(item)
    return taken


def take_while_there_are_some(_: int) -> list[int]:
    """Take items until the queue is empty, one task at a time."""
    queue, lock = Queue("numbers"), Lock("numbers")
    taken: list[int] = []
    while True:
        with lock:
            if queue.qsize() == 0:
                return taken
            taken.append(queue.get())


def drained_without_lock(client: Client, halfway: Halfway = nothing) -> list[list[int]]:
    """Return what each task took; the second half of the items comes while they wait."""
    queue = Queue("numbers")
    tasks = client.map(take_until_end, range(TASKS), pure=False)
    for number in range(ITEMS // 2):
        queue.put(number)
    halfway()
    for number in range(ITEMS // 2, ITEMS):
        queue.put(number)
    for _ in tasks:
        queue.put(END)
    shares: list[list[int]] = client.gather(tasks)
    return shares


def drained_under_lock(client: Client, halfway: Halfway = nothing) -> list[list[int]]:
    """The same under a lock, which the program holds until all tasks are on their way."""
    queue = Queue("numbers")
    for number in range(ITEMS):
        queue.put(number)
    with Lock("numbers"):
        tasks = client.map(take_while_there_are_some, range(TASKS), pure=False)
        halfway()
    shares: list[list[int]] = client.gather(tasks)
    return shares


def show(client: Client, halfway: Halfway) -> None:
    for title, shares in (
        ("without a lock", drained_without_lock(client)),
        ("under the lock", drained_under_lock(client, halfway)),
    ):
        every_one = sorted(item for share in shares for item in share) == list(range(ITEMS))
        sizes = " + ".join(str(len(share)) for share in shares)
        print(f"{title}: {sizes} items, {'each one once' if every_one else 'NOT each one once'}")


if __name__ == "__main__":
    main(show, __doc__)
