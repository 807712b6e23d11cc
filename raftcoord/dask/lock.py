"""Dask's Lock."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from distributed import Client

from raftcoord import aio
from raftcoord.client.sync_client import Client as StoreClient
from raftcoord.client.timeouts import Timeout
from raftcoord.dask.leases import DaskLease, blocking_seconds


class Lock(DaskLease[aio.Lock]):
    """A lock that one handle at a time holds. Who asks first is served first.

    It is held for as long as the session of its process lives: if that dies, the lock is free within the time
    to live of the session, and the handle that lost it learns of that no later.

    Args:
        name: None makes a random one.
        scheduler_rpc: a Dask client, as older releases of Dask take it here, or None.
        loop: taken for Dask's sake.
        client: a Dask client; None takes that of the task or process.
        address: of the replicas; None takes what plugin or configuration say.
    """

    KIND: ClassVar[str] = "lock"

    def __init__(
        self,
        name: Any = None,
        scheduler_rpc: Any = None,
        loop: Any = None,
        *,
        client: Client | None = None,
        address: str | Iterable[str] | None = None,
    ) -> None:
        if client is None and isinstance(scheduler_rpc, Client):
            client = scheduler_rpc
        super().__init__(name, client, address)

    def _make(self, client: StoreClient) -> aio.Lock:
        return aio.Lock(self._store_name, client.aio)

    def acquire(self, blocking: bool = True, timeout: Timeout = None) -> Any:
        """Take the lock; return True, or False when it was not to be had in time.

        Args:
            blocking: False does not wait, and takes no timeout.
            timeout: seconds, "200ms" or a timedelta; None waits for ever.

        Raises:
            ValueError: not blocking, with a timeout.
            TimeoutError: a call that does not wait was not answered within the bound `raftcoord.timeout`.
        """
        timeout_s = blocking_seconds(blocking, timeout)
        lock = self._object
        return self._ask(lambda left_s: lock.acquire(timeout=left_s), timeout_s)

    def release(self) -> Any:
        """Give the lock back; return True.

        Raises:
            NotAcquired: this handle does not hold it (a RuntimeError and ValueError).
            LockLost: it did, and lost it with its session: somebody else may have had it since.
        """
        return self._release()

    def locked(self) -> Any:
        """Tell whether anybody holds the lock."""
        return self._run(self._object.locked())

    def register(self) -> Any:
        """Do nothing: a lock needs no registration here."""
        return self._run(_nothing())


async def _nothing() -> None:
    return None
