"""A lock among all clients."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType
from typing import ClassVar

from raftcoord.client import aio_lock
from raftcoord.client.handle import Handle
from raftcoord.client.loop_thread import loop_thread
from raftcoord.client.sync_client import Client
from raftcoord.client.sync_handle import SyncHandle
from raftcoord.client.timeouts import Timeout
from raftcoord.protocol.errors import RaftcoordError
from raftcoord.protocol.values import Name

_log = logging.getLogger(__name__)


class Lock(SyncHandle[aio_lock.Lock]):
    """A lock that one client at a time holds. Waiters are served in the order of their calls.

    The lock is tied to the client's session: when the client dies or is cut off for longer than the
    session's time to live, the lock passes on, and this side knows of it no later (`on_lost`, `LockLost`).
    Not re-entrant, and handles of one client exclude each other like those of different clients.

    Args:
        name: a str, int, bytes or tuple of these; None makes a random one.
        client: the client to use; None takes the current one.
        on_lost: called, without arguments and on a thread of its own, when the lock is lost while it is held.
    """

    AIO: ClassVar[type[Handle]] = aio_lock.Lock

    def __init__(
        self,
        name: Name | None = None,
        client: Client | None = None,
        *,
        on_lost: Callable[[], object] | None = None,
    ) -> None:
        self._on_lost = on_lost
        super().__init__(name, client, on_lost=self._lost)

    def acquire(self, blocking: bool = True, timeout: Timeout = None) -> bool:
        """Take the lock; tell whether that worked.

        Args:
            blocking: False does not wait.
            timeout: None waits for ever, 0 does not wait.

        Raises:
            SessionLost: the client's session ended while it waited.
            CallTimeout: a call that does not wait was not answered within the client's bound.
        """
        return self._client.run(self._aio.acquire(blocking, timeout))

    def release(self, timeout: Timeout = None) -> None:
        """Give the lock up. Once this is called the handle does not hold the lock any more; a release that
        is not answered in time is repeated in the background.

        Raises:
            NotHolder: this handle does not hold the lock.
            LockLost: it held it, and lost it; somebody else may have had it since.
            OutcomeUnknown: nobody answered in time.
        """
        self._client.run(self._aio.release(timeout))

    def locked(self, timeout: Timeout = None) -> bool:
        """Tell whether anybody holds the lock."""
        return self._client.run(self._aio.locked(timeout))

    @property
    def fence(self) -> int:
        """The number of this grant: larger than that of every earlier holder of any lock.

        Hand it along with what the lock protects, so that a holder who does not know yet that it lost the
        lock can be told by its smaller number.

        Raises:
            NotHolder: this handle does not hold the lock.
            LockLost: it held it, and lost it.
        """
        return self._aio.fence

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.release()
        except RaftcoordError as failure:
            if kind is None:
                raise
            _log.warning("release_failed lock=%r error=%r", self.name, failure)

    def _lost(self) -> None:
        if self._on_lost is not None:
            loop_thread().call_back(self._on_lost)
