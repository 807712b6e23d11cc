"""Dask's MultiLock."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, ClassVar

from distributed import Client

from raftcoord import aio
from raftcoord.client.aio_multilock import check_num_locks
from raftcoord.client.sync_client import Client as StoreClient
from raftcoord.client.timeouts import Timeout
from raftcoord.dask.leases import DaskLease, blocking_seconds
from raftcoord.dask.names import store_name


class MultiLock(DaskLease[aio.MultiLock]):
    """Locks that are taken together: all of them, or any `num_locks` of them, or none.

    Args:
        names: the locks; at least one is needed to acquire.
        client: a Dask client; None takes that of the task or process.
        address: of the replicas; None takes what plugin or configuration say.
    """

    KIND: ClassVar[str] = "multilock"

    def __init__(
        self,
        names: Sequence[Any] | None = None,
        client: Client | None = None,
        *,
        address: str | Iterable[str] | None = None,
    ) -> None:
        self.names = names or []
        if isinstance(self.names, str | bytes):
            raise TypeError("names are a list of names, and not one name")
        self._store_names = [store_name(name, self.KIND)[1] for name in self.names]
        self._begin(client, address)

    def __repr__(self) -> str:
        return f"<MultiLock {self.names!r}>"

    def _options(self) -> dict[str, Any]:
        return {"names": self.names}

    def _make(self, client: StoreClient) -> aio.MultiLock:
        return aio.MultiLock(self._store_names, client.aio)

    def acquire(self, blocking: bool = True, timeout: Timeout = None, num_locks: int | None = None) -> Any:
        """Take the locks; return True, or False when they were not to be had in time.

        Args:
            blocking: False does not wait, and takes no timeout.
            timeout: seconds, "200ms" or a timedelta; None waits for ever.
            num_locks: how many of the names are needed; None for all.

        Raises:
            ValueError: not blocking, with a timeout; or there are no names, or fewer than `num_locks`.
            TimeoutError: a call that does not wait was not answered within the bound `raftcoord.timeout`.
        """
        timeout_s = blocking_seconds(blocking, timeout)
        locks = self._object
        count = check_num_locks(num_locks or None, len(set(self._store_names)))
        return self._ask(lambda left_s: locks.acquire(timeout=left_s, num_locks=count), timeout_s)

    def _acquire_for_block(self) -> Callable[[], Coroutine[Any, Any, bool]]:
        return self._object.acquire

    def release(self) -> Any:
        """Give back what was acquired.

        Raises:
            NotAcquired: this handle holds nothing (a RuntimeError and ValueError).
            LockLost: it did, and lost it with its session: somebody else may have had it since.
        """
        self._check_held("not acquired")
        return self._run(self._release_all())

    async def _release_all(self) -> None:
        await self._released()

    def locked(self) -> bool:
        """Tell whether this handle holds its locks. Asks nobody."""
        return self._store is not None and self._store[1].locked()
