"""The handles of one client process; a name says what is special about an object.

A queue named "bounded3" takes three items, "work2" hands an item out twice at most and then moves it to the
queue "dead"; a semaphore named "s3" has three leases; a topic named "last4" keeps four messages, "aged400"
keeps them for 400 milliseconds; "m1+m2" are the names of a MultiLock.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeVar

from raftcoord import aio
from raftcoord.client.lease_handle import LeaseHandle
from raftcoord.client.leases import Hold

DEAD_LETTERS: Final = "dead"
PREFETCH: Final = 3  # of a subscription: less than some topics keep, and more than one

_H = TypeVar("_H", bound=LeaseHandle)


def number_in(name: str, prefix: str) -> int:
    """Return the number behind a prefix in an object's name; 0 when it does not begin with that."""
    found = re.fullmatch(rf"{prefix}(\d+)", name)
    return 0 if found is None else int(found[1])


class Belief(NamedTuple):
    """A grant that a client takes for its own at this moment."""

    what: str
    fence: int


class Objects:
    """The handles of one client process.

    Args:
        number: of its host; every other thread of it reads topics from followers.
    """

    def __init__(self, client: aio.Client, number: int) -> None:
        self._client = client
        self._number = number
        self._variables: dict[str, aio.Variable] = {}
        self._queues: dict[str, aio.Queue] = {}
        self._events: dict[str, aio.Event] = {}
        self._publishers: dict[str, aio.Pub] = {}
        self._subscriptions: dict[tuple[int, str], aio.Sub] = {}
        self._leases: list[LeaseHandle] = []
        self._lost: set[int] = set()  # handles, by identity, that were told of a loss
        self.read: dict[str, Any] = {}  # what was read last, for compare_and_set

    def variable(self, name: str) -> aio.Variable:
        """Return the handle of a variable."""
        if name not in self._variables:
            self._variables[name] = aio.Variable(name, client=self._client)
        return self._variables[name]

    def queue(self, name: str) -> aio.Queue:
        """Return the handle of a queue."""
        if name not in self._queues:
            deliveries_max = number_in(name, "work")
            self._queues[name] = aio.Queue(
                name,
                maxsize=number_in(name, "bounded"),
                client=self._client,
                deliveries_max=deliveries_max,
                dead_letter=DEAD_LETTERS if deliveries_max else None,
            )
        return self._queues[name]

    def event(self, name: str) -> aio.Event:
        """Return the handle of an event."""
        if name not in self._events:
            self._events[name] = aio.Event(name, client=self._client)
        return self._events[name]

    def publisher(self, name: str) -> aio.Pub:
        """Return the handle of who publishes on a topic."""
        if name not in self._publishers:
            count, age_ms = number_in(name, "last"), number_in(name, "aged")
            self._publishers[name] = aio.Pub(
                name,
                client=self._client,
                retention_count=count or 10_000,
                retention_age=age_ms / 1000 if age_ms else None,
            )
        return self._publishers[name]

    def subscription(self, thread: int, name: str, begin: int | None) -> aio.Sub:
        """Return a thread's subscription; one that is new begins at an offset, or with what is kept."""
        key = thread, name
        if key not in self._subscriptions:
            self._subscriptions[key] = aio.Sub(
                name,
                "start" if begin is None else begin,
                client=self._client,
                prefetch=PREFETCH,
                read_from_followers=(self._number + thread) % 2 == 0,
            )
        return self._subscriptions[key]

    def end_subscription(self, thread: int, name: str) -> None:
        """Forget a subscription: its topic was deleted."""
        del self._subscriptions[thread, name]

    # What is held.

    def lock(self, name: str) -> aio.Lock:
        """Return a new handle of a lock: each use has its own."""
        return self._watched(lambda on_lost: aio.Lock(name, self._client, on_lost=on_lost))

    def rlock(self, name: str) -> aio.RLock:
        """Return a new handle of a re-entrant lock."""
        return self._watched(lambda on_lost: aio.RLock(name, self._client, on_lost=on_lost))

    def rwlock(self, name: str) -> aio.RWLock:
        """Return a new handle of a read-write lock."""
        return self._watched(lambda on_lost: aio.RWLock(name, self._client, on_lost=on_lost))

    def semaphore(self, name: str) -> aio.Semaphore:
        """Return a new handle of a semaphore."""
        leases = number_in(name, "s")
        return self._watched(lambda on_lost: aio.Semaphore(leases, name, self._client, on_lost=on_lost))

    def multilock(self, name: str) -> aio.MultiLock:
        """Return a new handle of several locks."""
        names = name.split("+")
        return self._watched(lambda on_lost: aio.MultiLock(names, self._client, on_lost=on_lost))

    def claim(self, name: str, timeout: float | None) -> aio.Claim:
        """Return a claim that is not taken yet."""
        queue = self.queue(name)
        return self._watched(lambda on_lost: queue.claim(timeout, on_lost=on_lost))

    def _watched(self, make: Callable[[Callable[[], object]], _H]) -> _H:
        handle: _H = make(lambda: self._lost.add(id(handle)))
        self._leases.append(handle)
        return handle

    def was_told_of_loss(self, handle: LeaseHandle) -> bool:
        """Whether `on_lost` was called for what this handle held."""
        return id(handle) in self._lost

    def forget(self, handle: LeaseHandle) -> None:
        """This handle is not used any more."""
        self._leases.remove(handle)
        self._lost.discard(id(handle))

    def beliefs(self) -> Iterator[Belief]:
        """Yield every grant that this client takes for its own at this moment."""
        for handle in self._leases:
            for hold in handle._holdings:
                if hold.is_alive():
                    yield Belief(f"{handle.KIND} {handle.name!r}", hold.fence)


def newest_hold(handle: LeaseHandle) -> Hold | None:
    """Return what a handle was granted last, lost or not."""
    return next(reversed(tuple(handle._holdings)), None)
