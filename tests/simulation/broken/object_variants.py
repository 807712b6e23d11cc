"""Broken variants of the state machine: events, semaphores, multilocks, rwlocks, claims, topics, and time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from broken.registry import patched, variant
from raftcoord.machine import queue
from raftcoord.machine.claim import Claim, Item, value_of
from raftcoord.machine.context import Context
from raftcoord.machine.deadlines import Deadlines
from raftcoord.machine.event import Events
from raftcoord.machine.multilock import MultiLocks
from raftcoord.machine.outcome import Result
from raftcoord.machine.queue import Queues
from raftcoord.machine.rwlock import RWLock, RWLocks
from raftcoord.machine.semaphore import Semaphores
from raftcoord.machine.topic import Topics
from raftcoord.machine.variable import Variables

# Events.


@variant
def event_wakes_newest_first() -> Iterator[None]:
    """Those who wait for an event are served in the opposite order."""
    set_event = Events._set

    def broken(self: Any, session: Any, sequence: int, name: bytes) -> Result:
        event = self.table.get(name)
        if event is not None:
            event.waiters = OrderedDict(reversed(event.waiters.items()))
        return set_event(self, session, sequence, name)

    with patched(Events, _set=broken):
        yield


@variant
def event_wakes_one() -> Iterator[None]:
    """Only the first of those who wait for an event is served."""
    set_event = Events._set

    def broken(self: Any, session: Any, sequence: int, name: bytes) -> Result:
        event = self.table.get(name)
        later = list(event.waiters.items())[1:] if event is not None else []
        for key, _ in later:
            del event.waiters[key]
        result = set_event(self, session, sequence, name)
        if event is not None:
            event.waiters.update(later)
        return result

    with patched(Events, _set=broken):
        yield


# Semaphores.


@variant
def semaphore_overbooked() -> Iterator[None]:
    """A semaphore has one more lease for those who do not wait."""
    acquire = Semaphores._acquire

    def broken(self: Any, session: Any, sequence: int, name: bytes, max_leases: int, wait: bool) -> Result:
        semaphore = self.table.get(name)
        if not wait and semaphore is not None and len(semaphore.leases) == max_leases:
            self.context.touch(semaphore)
            return 0, self._grant(semaphore, session)
        return acquire(self, session, sequence, name, max_leases, wait)

    with patched(Semaphores, _acquire=broken):
        yield


@variant
def leases_of_the_dead_kept() -> Iterator[None]:
    """The leases of a session stay taken when it ends."""
    with patched(Semaphores, release=lambda self, sessions, holds: ()):
        yield


# Several locks, and read-write locks.


@variant
def multilock_granted_in_part() -> Iterator[None]:
    """Somebody who does not wait is given what is free of his locks, and not all or none."""
    acquire = MultiLocks._acquire

    def broken(self: Any, session: Any, sequence: int, names: list[bytes], count: int, wait: bool) -> Result:
        free = sum(name not in self.table for name in names)
        if not wait and 0 < free < count:
            count = free
        return acquire(self, session, sequence, names, count, wait)

    with patched(MultiLocks, _acquire=broken):
        yield


@variant
def multilocks_of_the_dead_kept() -> Iterator[None]:
    """The MultiLocks of a session stay held when it ends."""
    with patched(MultiLocks, release=lambda self, sessions, holds: ()):
        yield


@variant
def reader_beside_writer() -> Iterator[None]:
    """A reader is let in beside the writer."""
    is_free_for = RWLock.is_free_for

    def broken(lock: Any, shared: bool) -> bool:
        return shared or is_free_for(lock, shared)

    with patched(RWLock, is_free_for=broken):
        yield


@variant
def readers_overtake_writers() -> Iterator[None]:
    """A reader does not stand in line behind a writer who waits while others read."""
    acquire = RWLocks._acquire

    def broken(self: Any, session: Any, sequence: int, name: bytes, shared: bool, wait: bool) -> Result:
        lock = self.table.get(name)
        if shared and lock is not None and lock.readers:
            self.context.touch(lock)
            return 0, self._grant(lock, session, shared)
        return acquire(self, session, sequence, name, shared, wait)

    with patched(RWLocks, _acquire=broken):
        yield


# Claims.


@variant
def claims_of_the_dead_lost() -> Iterator[None]:
    """Items that a session had claimed are gone when it ends."""
    end_claims = Queues._end_claims

    def broken(self: Any, holds: Any) -> Any:
        changed, back = end_claims(self, holds)
        return changed + [one.name for _, one, _ in back], []

    with patched(Queues, _end_claims=broken):
        yield


@variant
def claims_return_in_opposite_order() -> Iterator[None]:
    """Claims that end together go back in such an order that the last one taken is at the head."""
    end_claims = Queues._end_claims

    def broken(self: Any, holds: Any) -> Any:
        changed, back = end_claims(self, holds)
        return changed, [(-number, one, items) for number, one, items in back]

    with patched(Queues, _end_claims=broken):
        yield


@variant
def nack_puts_at_the_tail() -> Iterator[None]:
    """An item that is put back goes behind the others."""
    nack = Queues._nack

    def broken(self: Any, session: Any, sequence: int, name: bytes, fence: int) -> Result:
        lender = self.table.get(name)
        before = 0 if lender is None else len(lender.items)
        result = nack(self, session, sequence, name, fence)
        if lender is not None and len(lender.items) == before + 1:
            lender.items.rotate(-1)
        return result

    with patched(Queues, _nack=broken):
        yield


@variant
def cancelled_claim_counts_as_delivery() -> Iterator[None]:
    """An item that was claimed for somebody who had given up counts as delivered once more."""
    item = Claim.item
    with patched(Claim, item=lambda claim, deliveries: item(claim, claim.deliveries)):
        yield


@variant
def dead_letter_one_delivery_early() -> Iterator[None]:
    """An item is buried after one delivery less than it may have."""
    with patched(Claim, is_dead=property(lambda claim: 0 < claim.deliveries_max <= claim.deliveries + 1)):
        yield


@variant
def deliveries_not_in_snapshots() -> Iterator[None]:
    """A snapshot does not hold how often an item was delivered."""

    def broken(items: Any) -> list[Item]:
        return [value_of(item) for item in items]

    with patched(queue, encode_items=broken):
        yield


# Time.


def _local_ms() -> int:
    return int(asyncio.get_running_loop().time() * 1000)


@variant
def topic_age_by_local_clock() -> Iterator[None]:
    """Each replica takes the age of a topic's messages from its own clock."""
    publish = Topics._publish

    def broken(self: Any, *arguments: Any) -> Result:
        context: Context = self.context
        cluster_ms, context.now_ms = context.now_ms, _local_ms()
        try:
            return publish(self, *arguments)
        finally:
            context.now_ms = cluster_ms

    with patched(Topics, _publish=broken):
        yield


@variant
def ttl_by_local_clock() -> Iterator[None]:
    """Each replica counts the time that a variable has left from its own clock."""
    set_with = Variables._set_with

    def broken(self: Any, *arguments: Any) -> Result:
        context: Context = self.context
        cluster_ms, context.now_ms = context.now_ms, context.now_ms + _local_ms() % 20
        try:
            return set_with(self, *arguments)
        finally:
            context.now_ms = cluster_ms

    with patched(Variables, _set_with=broken):
        yield


@variant
def expired_by_local_clock() -> Iterator[None]:
    """What is due is expired a little early, by the clock of the replica that applies."""
    take_due = Deadlines.take_due
    with patched(Deadlines, take_due=lambda self, now_ms: take_due(self, now_ms + _local_ms() % 50)):
        yield


@variant
def ttl_outlives_its_value() -> Iterator[None]:
    """The time to live of a value goes on counting for the value that replaces it."""

    def broken(self: Any, variable: Any) -> None:
        if variable.owner:
            self.context.let_go(variable.owner, variable.revision)
            variable.owner = 0

    with patched(Variables, _make_plain=broken):
        yield


@variant
def ephemeral_kept() -> Iterator[None]:
    """An ephemeral variable stays set when the session that set it ends."""
    with patched(Variables, release=lambda self, sessions, holds: ()):
        yield
