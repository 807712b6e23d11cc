"""Calls on what is held: locks of all sorts, and semaphores.

A grant is recorded as a call whose result is its fence, and the call that gives it back has that fence as its
argument.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Final

from raftcoord import aio
from raftcoord.protocol.errors import NotHolder, OutcomeUnknown, RaftcoordError
from raftcoord.testing.simulation.caller import Caller, Work, seconds, took
from raftcoord.testing.simulation.records import Outcome, Record
from raftcoord.testing.simulation.scenario import Step


async def _hold(caller: Caller, step: Step, granted: Record, handle: Any, release: str) -> None:
    """Hold for a while what a call was granted, if it was, and give it back."""
    if took(granted) and granted.result:
        note_grant(granted, handle)
        await asyncio.sleep(step.hold_ms / 1000)
        ended = await caller.call(step, release, granted.result, _release(caller, handle))
        _check_end(caller, ended, handle)
    caller.objects.forget(handle)


def note_grant(granted: Record, handle: Any) -> None:
    """Make the fence the result of a call, and what else belongs to the grant."""
    try:
        granted.result = handle.fence
        if isinstance(handle, aio.MultiLock):
            granted.result = (handle.fence, handle.names_held)
    except RaftcoordError:  # lost before it could be looked at
        granted.outcome, granted.return_at = Outcome.UNKNOWN, float("inf")


async def _release(caller: Caller, handle: Any) -> None:
    try:
        released = await handle.release()
    except NotHolder as error:
        caller.fail("locks", f"a release of what is held: {error}")
        return
    if released is False:
        raise OutcomeUnknown("a release was not answered in time")


def _check_end(caller: Caller, ended: Record, handle: Any) -> None:
    if took(ended) and caller.objects.was_told_of_loss(handle):
        caller.fail("one holder", f"{ended} worked although the loss was told")


async def _ask(caller: Caller, step: Step, handle: Any, kind: str, work: Awaitable[Any]) -> None:
    """Make a call on a handle that holds nothing."""
    await caller.call(step, kind, None, work)
    caller.objects.forget(handle)


# Locks.


async def _lock(caller: Caller, step: Step, value: str) -> None:
    lock = caller.objects.lock(step.name)
    granted = await caller.call(step, "acquire", step.timeout_ms != 0, lock.acquire(timeout=seconds(step)))
    await _hold(caller, step, granted, lock, "release")


async def _rlock(caller: Caller, step: Step, value: str) -> None:
    """Take a lock, and take it again on the inner levels, of which the store knows nothing."""
    lock = caller.objects.rlock(step.name)
    work = lock.acquire(timeout=seconds(step))
    granted = await caller.call_here(step, "acquire", step.timeout_ms != 0, work)
    if took(granted) and granted.result:
        note_grant(granted, lock)
        inner = await _go_in(caller, step, lock, granted.result)
        await asyncio.sleep(step.hold_ms / 1000)
        await _go_out(caller, lock, inner)
        ended = await caller.call_here(step, "release", granted.result, _release(caller, lock))
        _check_end(caller, ended, lock)
    caller.objects.forget(lock)


async def _go_in(caller: Caller, step: Step, lock: aio.RLock, fence: int) -> int:
    """Acquire the lock as often as the step says; return on how many inner levels the caller is then."""
    for level in range(step.count):
        try:
            if not await lock.acquire(blocking=False) or lock.fence != fence:
                caller.fail("locks", f"an inner level of lock {step.name} does not have fence {fence}")
        except RaftcoordError:  # lost
            return level
    return step.count


async def _go_out(caller: Caller, lock: aio.RLock, inner: int) -> None:
    for _ in range(inner):
        try:
            await lock.release()
        except NotHolder as error:
            caller.fail("locks", f"a release of an inner level: {error}")
        except RaftcoordError:  # lost
            pass


async def _locked(caller: Caller, step: Step, value: str) -> None:
    lock = caller.objects.lock(step.name)
    await _ask(caller, step, lock, "locked", lock.locked())


async def _lock_holder(caller: Caller, step: Step, value: str) -> None:
    lock = caller.objects.lock(step.name)
    await _ask(caller, step, lock, "lock_holder", lock.holder())


async def _lock_waiters(caller: Caller, step: Step, value: str) -> None:
    lock = caller.objects.lock(step.name)
    await _ask(caller, step, lock, "lock_waiters", lock.waiters())


# Several at once, and read-write locks.


async def _multilock(caller: Caller, step: Step, value: str) -> None:
    lock = caller.objects.multilock(step.name)
    count = min(step.count, len(lock.names))
    work = lock.acquire(timeout=seconds(step), num_locks=count)
    granted = await caller.call(step, "acquire_many", count, work)
    await _hold(caller, step, granted, lock, "release_many")


async def _multilock_holders(caller: Caller, step: Step, value: str) -> None:
    lock = caller.objects.multilock(step.name)
    await _ask(caller, step, lock, "multilock_holders", lock.holders())


async def _read_lock(caller: Caller, step: Step, value: str) -> None:
    lock = caller.objects.rwlock(step.name)
    granted = await caller.call(step, "acquire_read", None, lock.acquire_read(timeout=seconds(step)))
    await _hold(caller, step, granted, lock, "release_read")


async def _write_lock(caller: Caller, step: Step, value: str) -> None:
    lock = caller.objects.rwlock(step.name)
    granted = await caller.call(step, "acquire_write", None, lock.acquire_write(timeout=seconds(step)))
    await _hold(caller, step, granted, lock, "release_write")


async def _rwlock_status(caller: Caller, step: Step, value: str) -> None:
    lock = caller.objects.rwlock(step.name)
    await _ask(caller, step, lock, "rwlock_status", lock.status())


# Semaphores.


async def _semaphore(caller: Caller, step: Step, value: str) -> None:
    semaphore = caller.objects.semaphore(step.name)
    granted = await caller.call(step, "acquire_lease", None, semaphore.acquire(seconds(step)))
    await _hold(caller, step, granted, semaphore, "release_lease")


async def _semaphore_value(caller: Caller, step: Step, value: str) -> None:
    semaphore = caller.objects.semaphore(step.name)
    await _ask(caller, step, semaphore, "semaphore_value", semaphore.get_value())


async def _close_semaphore(caller: Caller, step: Step, value: str) -> None:
    semaphore = caller.objects.semaphore(step.name)
    await _ask(caller, step, semaphore, "close_semaphore", semaphore.close())


WORK: Final[dict[str, Work]] = {
    "lock": _lock,
    "locked": _locked,
    "rlock": _rlock,
    "lock_holder": _lock_holder,
    "lock_waiters": _lock_waiters,
    "multilock": _multilock,
    "multilock_holders": _multilock_holders,
    "read_lock": _read_lock,
    "write_lock": _write_lock,
    "rwlock_status": _rwlock_status,
    "semaphore": _semaphore,
    "semaphore_value": _semaphore_value,
    "close_semaphore": _close_semaphore,
}
