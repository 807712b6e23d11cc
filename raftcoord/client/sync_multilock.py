"""Several locks at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

from raftcoord.client import aio_multilock
from raftcoord.client.client_info import ClientInfo
from raftcoord.client.handle import Handle
from raftcoord.client.ownership import on_behalf_of_this_thread
from raftcoord.client.sync_client import Client
from raftcoord.client.sync_lease_handle import SyncLeaseBlock
from raftcoord.client.timeouts import Timeout
from raftcoord.protocol.values import Name


class MultiLock(SyncLeaseBlock[aio_multilock.MultiLock]):
    """Locks that are taken together: all of them, or any `num_locks` of them, or none.

    Nobody can come to a deadlock over them, and nobody is overtaken: of two who want the same name, the one
    who asked first is served first. Names of a MultiLock have nothing to do with those of a `Lock`.

    Args:
        names: the locks, at most 1000; each a str, int, bytes or tuple of these. Doubles count once.
        client: the client to use; None takes the current one.
        on_lost: called, without arguments and on a thread of its own, when locks are lost while they are
            held.
    """

    AIO: ClassVar[type[Handle]] = aio_multilock.MultiLock

    def __init__(
        self,
        names: Iterable[Name],
        client: Client | None = None,
        *,
        on_lost: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(client, on_lost, names=names)

    @property
    def names(self) -> tuple[Name, ...]:
        """All the names, each once."""
        return self._aio.names

    @property
    def names_held(self) -> tuple[Name, ...]:
        """The names that this thread holds through this handle.

        Raises:
            NotHolder: this thread holds nothing through this handle.
            LockLost: it did, and lost it.
        """
        with on_behalf_of_this_thread():
            return self._aio.names_held

    def acquire(self, blocking: bool = True, timeout: Timeout = None, num_locks: int | None = None) -> bool:
        """Take the locks; tell whether that worked.

        Args:
            blocking: False does not wait.
            timeout: None waits for ever, 0 does not wait.
            num_locks: how many of the names are needed, in the order of `names` as they are free; None for
                all of them.

        Raises:
            SessionLost: the client's session ended while it waited.
            CallTimeout: a call that does not wait was not answered within the client's bound.
        """
        return self._client.run(self._aio.acquire(blocking, timeout, num_locks))

    def release(self, timeout: Timeout = None) -> None:
        """Give back all that the last `acquire` of this thread took.

        Raises:
            NotHolder: this thread holds nothing through this handle.
            LockLost: it did, and lost it; somebody else may have had it since.
            OutcomeUnknown: nobody answered in time; it is repeated in the background.
        """
        self._client.run(self._aio.release(timeout))

    def locked(self) -> bool:
        """Tell whether this handle holds its locks (or as many of them as it asked for). Asks nobody."""
        return self._aio.locked()

    def holders(self, timeout: Timeout = None) -> dict[Name, ClientInfo]:
        """Return who holds which of the names; a name that is free is missing."""
        return self._client.run(self._aio.holders(timeout))
