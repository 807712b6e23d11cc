"""Broken variants of the client's handles: what they remember, and where they go on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from broken.registry import patched, variant
from raftcoord.client import aio_variable
from raftcoord.client.aio_rlock import RLock
from raftcoord.client.aio_topic import Sub


@variant
def subscription_skips_one_after_a_session() -> Iterator[None]:
    """A subscription whose session was lost goes on one message too far."""
    fetch = Sub._fetch

    async def broken(self: Any, timeout: Any) -> None:
        session = self._client.session_id
        await fetch(self, timeout)
        if not self._messages and session is not None:
            self._offset += 1

    with patched(Sub, _fetch=broken):
        yield


@variant
def missed_messages_not_told() -> Iterator[None]:
    """A subscription does not say how many messages were dropped before it came to read them."""
    with patched(Sub, _tell_missed=lambda self, count: None):
        yield


@variant
def answer_from_an_earlier_place_taken() -> Iterator[None]:
    """A subscription takes what a follower answered to a read from where it stood before."""
    follow = Sub._follow

    async def broken(self: Any, offset: int, timeout_s: float | None) -> Any:
        return await follow(self, offset if self._following is None else self._following.offset, timeout_s)

    with patched(Sub, _follow=broken):
        yield


@variant
def offset_moves_before_the_message() -> Iterator[None]:
    """A subscription moves on when it asks, and not when it has a message."""
    get = Sub.get

    async def broken(self: Any, timeout: Any = None) -> Any:
        if self._offset is None:
            await self.subscribe(timeout)
        before = self._offset
        self._offset += not self._messages
        value = await get(self, timeout)
        self._offset = max(self._offset - 1, before + 1)
        return value

    with patched(Sub, get=broken):
        yield


@variant
def rlock_given_up_by_inner_release() -> Iterator[None]:
    """A re-entrant lock is free after the first release."""
    release = RLock._release

    async def broken(self: Any, hold: Any, timeout: Any) -> None:
        own = self._own_hold()
        depth = self._depth_by_hold[own]
        self._depth_by_hold[own] = 1
        await release(self, hold, timeout)
        if depth > 1:
            self._holdings.add(own)
            self._depth_by_hold[own] = depth - 1

    with patched(RLock, _release=broken):
        yield


@variant
def update_without_condition() -> Iterator[None]:
    """An update sets its value whatever the variable has become meanwhile."""

    async def broken(variable: Any, present: Any, value: Any, default: Any, timeout: Any) -> None:
        await variable.set(value, timeout)

    with patched(aio_variable, try_update=broken):
        yield
