"""Dask's Semaphore."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any, ClassVar

from distributed import Client

from raftcoord import aio
from raftcoord.client.aio_semaphore import check_max_leases
from raftcoord.client.errors import InconsistentMaxLeases
from raftcoord.client.sync_client import Client as StoreClient
from raftcoord.client.timeouts import Timeout
from raftcoord.dask import bridge
from raftcoord.dask.leases import DaskLease
from raftcoord.dask.names import seconds
from raftcoord.protocol.errors import OutcomeUnknown


class Semaphore(DaskLease[aio.Semaphore]):
    """A semaphore of which at most `max_leases` leases are held at a time, by all processes together.

    It is never overbooked: leases live as long as the session of their process, and who loses one learns of
    that no later than it is handed on.

    Args:
        max_leases: how many leases there are. The first to register or acquire decides.
        name: None makes a random one.
        scheduler_rpc: taken for Dask's sake.
        loop: taken for Dask's sake.
        client: a Dask client; None takes that of the task or process.
        address: of the replicas; None takes what plugin or configuration say.
    """

    KIND: ClassVar[str] = "semaphore"

    def __init__(
        self,
        max_leases: int = 1,
        name: Any = None,
        scheduler_rpc: Any = None,
        loop: Any = None,
        *,
        client: Client | None = None,
        address: str | Iterable[str] | None = None,
    ) -> None:
        self.max_leases = check_max_leases(max_leases)
        if client is None and isinstance(scheduler_rpc, Client):
            client = scheduler_rpc
        super().__init__(name, client, address)

    def _options(self) -> dict[str, Any]:
        return {"name": self.name, "max_leases": self.max_leases}

    def _make(self, client: StoreClient) -> aio.Semaphore:
        return aio.Semaphore(self.max_leases, self._store_name, client.aio)

    def __await__(self) -> Generator[Any, None, Semaphore]:
        yield from bridge.call_async(_register(self._object)).__await__()
        return self

    def register(self, **kwargs: Any) -> Any:
        """Have the semaphore exist, with its `max_leases`. The first acquire does that as well.

        Raises:
            InconsistentMaxLeases: it exists with another number (a ValueError).
        """
        return self._run(_register(self._object))

    def acquire(self, timeout: Timeout = None) -> Any:
        """Take a lease; return True, or False when there was none in time.

        Args:
            timeout: seconds, "200ms" or a timedelta; None waits for ever.

        Raises:
            InconsistentMaxLeases: the semaphore exists with another `max_leases` (a ValueError).
            SemaphoreClosed: it was closed, by this handle or while the call waited (a RuntimeError).
            TimeoutError: a call that does not wait was not answered within the bound `raftcoord.timeout`.
        """
        return self._ask(self._object.acquire, seconds(timeout))

    def release(self) -> Any:
        """Give a lease back; return True, or False when no replica answered and it is repeated by itself.

        Raises:
            NotAcquired: this handle holds no lease (a RuntimeError and ValueError).
            LockLost: it held one, and lost it with its session.
            SemaphoreClosed: somebody else closed the semaphore (a RuntimeError).
        """
        return self._release()

    async def _released(self) -> bool:
        try:
            return await super()._released()
        except OutcomeUnknown:
            return False

    def get_value(self) -> Any:
        """Return how many leases are held, by all together."""
        return self._run(self._object.get_value())

    def close(self) -> Any:
        """Remove the semaphore. Its leases are void, and who waits for one gets `SemaphoreClosed`."""
        return self._run(self._object.close())


async def _register(semaphore: aio.Semaphore) -> None:
    status = await semaphore.status()
    if status is None:
        if await semaphore.acquire(0):
            await semaphore.release()
    elif status.max_leases != semaphore.max_leases:
        raise InconsistentMaxLeases(
            f"semaphore {semaphore.name!r} has {status.max_leases} leases, not {semaphore.max_leases}"
        )
