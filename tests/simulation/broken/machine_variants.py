"""Broken variants of the state machine: sessions, waits, locks, queues and their loans."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from broken.registry import patched, variant
from raftcoord.machine.lock import Locks
from raftcoord.machine.machine import Machine
from raftcoord.machine.outcome import CANCELLED, OK, WAITING, Applied, Result
from raftcoord.machine.queue import Queues
from raftcoord.machine.session import Session
from raftcoord.machine.variable import Variables

# Sessions.


@variant
def no_dedupe() -> Iterator[None]:
    """A repeated request is applied again."""

    def broken(session: Session, sequence: int) -> Result | None:
        return WAITING if sequence in session.waits else None

    with patched(Machine, _known=staticmethod(broken)):
        yield


@variant
def session_opened_twice() -> Iterator[None]:
    """A repeated hello opens another session."""
    open_session = Machine._open_session

    def broken(machine: Any, nonce: bytes, ttl_ms: int, client_name: str) -> Result:
        machine._by_nonce.pop(nonce, None)
        return open_session(machine, nonce, ttl_ms, client_name)

    with patched(Machine, _open_session=broken):
        yield


@variant
def expiry_by_local_clock() -> Iterator[None]:
    """Each replica ends, by its own clock, the sessions whose commands it has not seen for long."""
    apply = Machine.apply

    def broken(machine: Any, now_ms: int, commands: list[Any]) -> Applied:
        local_ms = asyncio.get_running_loop().time() * 1000
        heard_ms = machine.__dict__.setdefault("heard_ms", {})
        heard_ms.update({command[0]: local_ms for command in commands})
        applied = apply(machine, now_ms, commands)
        sessions = machine._context.sessions.values()
        machine._end([s for s in sessions if local_ms - heard_ms.setdefault(s.id, local_ms) > s.ttl_ms])
        return applied

    with patched(Machine, apply=broken):
        yield


@variant
def stamped_by_local_clock() -> Iterator[None]:
    """Each replica takes the time of a batch from its own clock."""
    apply = Machine.apply

    def broken(machine: Any, now_ms: int, commands: list[Any]) -> Applied:
        return apply(machine, int(asyncio.get_running_loop().time() * 1000), commands)

    with patched(Machine, apply=broken):
        yield


@variant
def floor_drops_answered_waits() -> Iterator[None]:
    """The floor drops the answers of waits as well, which their client may not have got."""
    confirm = Session.confirm

    def broken(session: Any, acked: Any) -> Any:
        session.registered.clear()
        return confirm(session, acked)

    with patched(Session, confirm=broken):
        yield


@variant
def cancel_forgets_grant() -> Iterator[None]:
    """A CANCEL that comes after the grant is told that nothing was granted."""
    cancel = Machine._cancel

    def broken(machine: Any, session: Any, sequence: int, target: int) -> Result:
        if target in session.answers:
            return OK, list(CANCELLED)
        return cancel(machine, session, sequence, target)

    with patched(Machine, _cancel=broken):
        yield


@variant
def cancelled_wait_stays_in_line() -> Iterator[None]:
    """A wait that was cancelled is served nevertheless."""
    cancel = Machine._cancel

    def broken(machine: Any, session: Any, sequence: int, target: int) -> Result:
        if target in session.waits:
            return OK, list(CANCELLED)
        return cancel(machine, session, sequence, target)

    with patched(Machine, _cancel=broken):
        yield


@variant
def waits_of_the_dead_served() -> Iterator[None]:
    """The waits of a session stay in line when it ends."""
    end = Machine._end

    def broken(machine: Any, sessions: list[Any]) -> None:
        waits = [dict(session.waits) for session in sessions]
        for session in sessions:
            session.waits.clear()
        end(machine, sessions)
        for session, left in zip(sessions, waits, strict=True):
            session.waits.update(left)

    with patched(Machine, _end=broken):
        yield


# Locks.


@variant
def lock_released_twice() -> Iterator[None]:
    """A release passes the lock on twice: the first who gets it is overtaken by the second."""
    release = Locks._release

    def broken(self: Any, session: Any, sequence: int, name: bytes, fence: int) -> Result:
        result = release(self, session, sequence, name, fence)
        lock = self.table.get(name)
        if result[0] == OK and lock is not None:
            lock.holder = 0
            self.settle(name)
        return result

    with patched(Locks, _release=broken):
        yield


@variant
def locks_of_the_dead_kept() -> Iterator[None]:
    """The locks of a session stay held when it ends."""
    with patched(Locks, release=lambda self, sessions, holds: ()):
        yield


@variant
def fences_count_per_lock() -> Iterator[None]:
    """A fence counts the grants since its lock was last free, so that it comes again."""

    def broken(self: Any, lock: Any, session: Any) -> int:
        lock.holder, lock.fence = session.id, lock.fence + 1
        session.holds[lock.fence] = (self, lock.name)
        return int(lock.fence)

    with patched(Locks, _grant=broken):
        yield


@variant
def youngest_waiter_gets_lock() -> Iterator[None]:
    """A lock goes to whoever began to wait last."""
    settle = Locks.settle

    def broken(self: Any, name: bytes) -> None:
        lock = self.table.get(name)
        if lock is not None and lock.waiters and not lock.holder:
            lock.waiters.move_to_end(next(reversed(lock.waiters)), last=False)
        settle(self, name)

    with patched(Locks, settle=broken):
        yield


# Queues.


@variant
def items_of_the_dead_lost() -> Iterator[None]:
    """Items that a session was handed and did not confirm are gone when it ends."""
    with patched(Queues, release=lambda self, sessions, holds: ()):
        yield


@variant
def items_return_to_tail() -> Iterator[None]:
    """Items that come back go behind those that were put later."""
    release = Queues.release

    def broken(self: Any, sessions: Any, holds: Any) -> Any:
        before = {name: len(queue.items) for name, queue in self.table.items()}
        names = release(self, sessions, holds)
        for name, count in before.items():
            queue = self.table.get(name)
            if queue is not None:
                queue.items.rotate(count - len(queue.items))
        return names

    with patched(Queues, release=broken):
        yield


@variant
def getters_overtake() -> Iterator[None]:
    """A getter that finds enough items does not stand in line behind those who wait for more."""
    get = Queues._get_from

    def broken(self: Any, queue: Any, session: Any, sequence: int, count: int, wait: bool) -> Result:
        if 0 < count <= len(queue.items):
            return OK, self._lend(queue, session, sequence, count)
        return get(self, queue, session, sequence, count, wait)

    with patched(Queues, _get_from=broken):
        yield


# Variables.


@variant
def watchers_not_told_of_deletion() -> Iterator[None]:
    """Deleting a variable serves nobody who waits for it to change."""
    delete = Variables._delete

    def broken(self: Any, session: Any, sequence: int, name: bytes) -> Result:
        with patched(Variables, _serve=lambda self, variable: None):
            return delete(self, session, sequence, name)

    with patched(Variables, _delete=broken):
        yield
