"""A lock among all clients, for asyncio.

Invariants:
  1. A handle that says it holds the lock has a session whose time to live has not run out on this side.
  2. A loss is told once through `on_lost`, and raises `LockLost` on the next use of the handle.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar, Final

from raftcoord.client import forking
from raftcoord.client.aio_client import Client
from raftcoord.client.core import Core
from raftcoord.client.handle import Handle
from raftcoord.client.session_state import Session
from raftcoord.client.timeouts import Timeout, parse_timeout
from raftcoord.protocol.errors import (
    CallTimeout,
    Code,
    LockLost,
    NotHolder,
    RaftcoordError,
    SessionLost,
)
from raftcoord.protocol.operations import Operation
from raftcoord.protocol.values import Name

_log = logging.getLogger(__name__)

_ACQUIRE: Final = int(Operation.LOCK_ACQUIRE)
_RELEASE: Final = int(Operation.LOCK_RELEASE)
_STATUS: Final = int(Operation.LOCK_STATUS)
_NOT_GRANTED: Final = frozenset({Code.HELD, Code.CANCELLED})


@dataclass(frozen=True, slots=True, eq=False)
class _Hold:
    """One grant of the lock: good for as long as its session lives, and only in this process."""

    fence: int
    session: Session
    core: Core
    generation: int

    def is_alive(self) -> bool:
        return self.generation == forking.generation and self.core.is_alive(self.session)


class Lock(Handle):
    """A lock that one client at a time holds. Waiters are served in the order of their calls.

    The lock is tied to the client's session: when the client dies or is cut off for longer than the
    session's time to live, the lock passes on, and this side knows of it no later (`on_lost`, `LockLost`).
    Not re-entrant, and handles of one client exclude each other like those of different clients.

    Args:
        name: a str, int, bytes or tuple of these; None makes a random one.
        client: the client to use; None takes the current one.
        on_lost: called, without arguments, when the lock is lost while it is held; it must not block.
    """

    KIND: ClassVar[str] = "lock"

    def __init__(
        self,
        name: Name | None = None,
        client: Client | None = None,
        *,
        on_lost: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(name, client)
        self._on_lost = on_lost
        self._hold: _Hold | None = None

    async def acquire(self, blocking: bool = True, timeout: Timeout = None) -> bool:
        """Take the lock; tell whether that worked.

        Args:
            blocking: False does not wait.
            timeout: None waits for ever, 0 does not wait.

        Raises:
            SessionLost: the client's session ended while it waited.
            CallTimeout: a call that does not wait was not answered within the client's bound.
        """
        timeout_s = parse_timeout(timeout)
        if not blocking and timeout_s is not None:
            raise ValueError("an acquire that does not block takes no timeout")
        wait = blocking and timeout_s != 0
        try:
            code, payload = await self._client.request(
                _ACQUIRE, (self._key, wait), timeout_s if wait else None, wait=wait
            )
        except CallTimeout:
            if wait:
                return False
            raise
        if code in _NOT_GRANTED:
            return False
        if code:
            self._refuse(code, payload)
        core = self._client.core
        hold = self._hold = _Hold(payload, core.session, core, forking.generation)
        core.call_when_lost(hold, lambda: self._lost(hold))
        return True

    async def release(self, timeout: Timeout = None) -> None:
        """Give the lock up. Once this is called the handle does not hold the lock any more; a release that
        is not answered in time is repeated in the background.

        Raises:
            NotHolder: this handle does not hold the lock.
            LockLost: it held it, and lost it; somebody else may have had it since.
            OutcomeUnknown: nobody answered in time.
        """
        hold, self._hold = self._hold, None
        if hold is None:
            raise NotHolder(f"lock {self._name!r} is not held by this handle")
        if not hold.is_alive():
            raise self._lost_error(hold)
        hold.core.forget(hold)
        try:
            code, payload = await self._client.request(
                _RELEASE, (self._key, hold.fence), parse_timeout(timeout) or None, session=hold.session
            )
        except SessionLost:
            raise self._lost_error(hold) from None
        if code:
            self._refuse(code, payload)

    async def locked(self, timeout: Timeout = None) -> bool:
        """Tell whether anybody holds the lock."""
        return await self._call(_STATUS, timeout) is not None

    @property
    def fence(self) -> int:
        """The number of this grant: larger than that of every earlier holder of any lock.

        Hand it along with what the lock protects, so that a holder who does not know yet that it lost the
        lock can be told by its smaller number.

        Raises:
            NotHolder: this handle does not hold the lock.
            LockLost: it held it, and lost it.
        """
        hold = self._hold
        if hold is None:
            raise NotHolder(f"lock {self._name!r} is not held by this handle")
        if not hold.is_alive():
            raise self._lost_error(hold)
        return hold.fence

    async def __aenter__(self) -> Lock:
        await self.acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.release()
        except RaftcoordError as failure:
            if kind is None:
                raise
            _log.warning("release_failed lock=%r error=%r", self._name, failure)

    def _lost(self, hold: _Hold) -> None:
        if hold is not self._hold:
            return
        _log.warning("lock_lost lock=%r fence=%d", self._name, hold.fence)
        if self._on_lost is not None:
            try:
                self._on_lost()
            except Exception:  # the user's fault must not keep other locks from being told
                _log.exception("on_lost_failed lock=%r", self._name)

    def _lost_error(self, hold: _Hold) -> LockLost:
        return LockLost(f"lock {self._name!r} (fence {hold.fence}) is lost: its session ended")
