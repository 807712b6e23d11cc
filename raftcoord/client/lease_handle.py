"""What the asyncio objects that hold something have in common: asking, giving back, fences, loss.

Invariants:
  1. A grant is remembered in the same step of the loop in which its caller learns of it, so that no
     cancellation comes between the two.
  2. Once a release was asked for, the handle does not hold what it gives back any more, whatever the answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

from raftcoord.client.aio_client import Client
from raftcoord.client.handle import Handle
from raftcoord.client.leases import Hold, Holdings, hold_of
from raftcoord.client.timeouts import Timeout, parse_timeout
from raftcoord.protocol.errors import CallTimeout, Code, RaftcoordError, SessionLost
from raftcoord.protocol.values import Name

_log = logging.getLogger(__name__)

_NOT_GRANTED: Final = frozenset({Code.HELD, Code.CANCELLED})


class LeaseHandle(Handle):
    """A handle of something that is held for as long as the client's session lives.

    Args:
        name: a str, int, bytes or tuple of these; None makes a random one.
        client: the client to use; None takes the current one.
        on_lost: called, without arguments, when what is held is lost; it must not block.
    """

    def __init__(
        self,
        name: Name | None = None,
        client: Client | None = None,
        *,
        on_lost: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(name, client)
        self._holdings = Holdings(self._what, on_lost)

    @property
    def fence(self) -> int:
        """The number of the grant: larger than that of every earlier grant of anything in the store.

        It is that of this task, and if it acquired several that of the last one. Hand it along with what is
        protected, so that a holder who does not know yet of its loss can be told by its smaller number.

        Raises:
            NotHolder: this task holds nothing through this handle.
            LockLost: it did, and lost it.
        """
        return self._holdings.current().fence

    async def _ask(self, operation: int, arguments: tuple[Any, ...], blocking: bool, timeout: Timeout) -> Any:
        """Ask for a grant; return what was answered, None when it was not to be had (in time).

        What is granted must be remembered with `_remember` before anything else is awaited.
        """
        timeout_s = parse_timeout(timeout)
        if not blocking and timeout_s is not None:
            raise ValueError("an acquire that does not block takes no timeout")
        wait = blocking and timeout_s != 0
        try:
            code, payload = await self._client.request(
                operation, (*arguments, wait), timeout_s if wait else None, wait=wait
            )
        except CallTimeout:
            if wait:
                return None
            raise
        if code in _NOT_GRANTED:
            return None
        if code:
            self._refuse(code, payload)
        return payload

    def _remember(self, fence: int, detail: Any = None) -> Hold:
        return self._holdings.add(hold_of(self._client, fence, detail))

    async def _give_back(
        self, hold: Hold | None, operation: int, names: tuple[bytes, ...], timeout: Timeout
    ) -> None:
        """Take a hold, by default the present one, and tell the replicas that it is over."""
        timeout_s = parse_timeout(timeout) or None  # a wrong one must not cost the hold
        hold = self._holdings.take(hold)
        try:
            code, payload = await self._client.request(
                operation, (*names, hold.fence), timeout_s, session=hold.session
            )
        except SessionLost:
            raise self._holdings.lost_error(hold) from None
        if code:
            self._refuse(code, payload)

    async def _leave(self, hold: Hold | None, error: BaseException | None) -> None:
        """Give a hold back at the end of a block; a failure must not hide the exception that ended it."""
        try:
            await self._release_after(hold, error)
        except RaftcoordError as failure:
            if error is None:
                raise
            _log.warning("release_failed object=%s error=%r", self._what, failure)

    async def _release_after(self, hold: Hold | None, error: BaseException | None) -> None:
        await self._release(hold, None)

    async def _release(self, hold: Hold | None, timeout: Timeout) -> None:
        """Give back a hold, or the one that a use of the handle is about."""
        raise NotImplementedError


_H = TypeVar("_H", bound=LeaseHandle)
_L = TypeVar("_L", bound="LeaseBlock")


class LeaseBlock(LeaseHandle):
    """A handle that `async with` acquires and releases."""

    async def _acquire_until(self, timeout: Timeout) -> bool:
        """Acquire what a block needs; tell whether that worked in time."""
        raise NotImplementedError

    async def _enter(self, timeout: Timeout) -> None:
        if not await self._acquire_until(timeout):
            raise CallTimeout(f"{self._what}: it was not to be had in time")

    async def _enter_held(self, timeout: Timeout) -> Hold:
        await self._enter(timeout)
        hold = self._holdings.newest()
        assert hold is not None
        return hold

    async def __aenter__(self: _L) -> _L:
        await self._enter(None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave(None, error)

    def guard(self: _L, timeout: Timeout = None) -> Guard[_L]:
        """Return what `async with` takes to hold this, and to stop as soon as it is lost.

        The task inside the block is cancelled at the moment of the loss, and the block then raises
        `LockLost`. A block of plain `async with` goes on to its end, and raises `LockLost` there.

        Args:
            timeout: how long to wait for it; the block then raises `CallTimeout`.
        """
        return Guard(self, lambda: self._enter_held(timeout))


class Guard(Generic[_H]):
    """Holds something for a block of one task, which is cancelled when it is lost; see `LeaseBlock.guard`.

    Args:
        enter: acquires it, and returns the hold.
    """

    def __init__(self, handle: _H, enter: Callable[[], Coroutine[Any, Any, Hold]]) -> None:
        self._handle = handle
        self._enter = enter
        self._hold: Hold | None = None
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._cancelled = False

    def __repr__(self) -> str:
        return f"<Guard of {self._handle!r}>"

    async def __aenter__(self) -> _H:
        if self._task is not None:
            raise RuntimeError("a guard is for one block")
        self._task = task = asyncio.current_task()
        assert task is not None
        self._hold = hold = await self._enter()
        self._cancelling = task.cancelling()
        if not hold.is_alive():
            await self._handle._leave(hold, None)
        hold.core.call_when_lost(self, self._on_lost)
        return self._handle

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._hold is not None
        assert self._task is not None
        self._hold.core.forget(self)
        # As in asyncio.timeout: what was cancelled from elsewhere as well stays cancelled.
        is_ours = self._cancelled and self._task.uncancel() <= self._cancelling
        await self._handle._leave(self._hold, error)
        if is_ours and kind is asyncio.CancelledError:
            raise self._handle._holdings.lost_error(self._hold) from error

    def _on_lost(self) -> None:
        assert self._task is not None
        if self._task is asyncio.current_task():
            return  # it closes its client itself, and must come to the end of that
        if self._hold not in tuple(self._handle._holdings):
            return  # it was given back inside the block
        self._cancelled = True
        self._task.cancel()
