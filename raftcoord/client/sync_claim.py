"""An item of a queue that somebody works on."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar

from raftcoord.client import aio_claim
from raftcoord.client.handle import Handle
from raftcoord.client.sync_client import Client
from raftcoord.client.sync_lease_handle import SyncLeaseHandle
from raftcoord.client.timeouts import Timeout
from raftcoord.protocol.values import Name


class Claim(SyncLeaseHandle[aio_claim.Claim]):
    """The first item of a queue, held until it is acknowledged or put back; see `Queue.claim`."""

    AIO: ClassVar[type[Handle]] = aio_claim.Claim

    def __init__(
        self,
        client: Client,
        name: Name,
        limits: tuple[int, list[Any]],
        timeout: Timeout,
        on_lost: Callable[[], object] | None,
    ) -> None:
        super().__init__(client, on_lost, name=name, limits=limits, timeout=timeout)
        self._client.run(self._aio._take())

    def __reduce__(self) -> tuple[Any, ...]:
        return self._aio.__reduce__()

    @property
    def value(self) -> Any:
        """The item."""
        return self._aio.value

    @property
    def deliveries(self) -> int:
        """How often the item has been handed out, this time included."""
        return self._aio.deliveries

    def ack(self, timeout: Timeout = None) -> None:
        """The item is done with: remove it for good. An `ack` that is not answered is repeated.

        Raises:
            NotHolder: the claim was settled before.
            LockLost: its session ended, and the item went to somebody else.
            QueueClosed: the queue was closed, and the item is gone with it.
            OutcomeUnknown: nobody answered in time.
        """
        self._client.run(self._aio.ack(timeout))

    def nack(self, timeout: Timeout = None) -> None:
        """Put the item back at the head of the queue, for the next one who asks. Raises: as `ack`."""
        self._client.run(self._aio.nack(timeout))

    def __enter__(self) -> Claim:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.run(self._aio.__aexit__(kind, error, trace))
