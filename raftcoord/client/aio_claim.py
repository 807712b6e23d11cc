"""An item of a queue that somebody works on, for asyncio.

Invariants:
  1. A claim takes one item at most, and settles it once: acknowledged, put back, or lost with its session.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, ClassVar, Final

from raftcoord.client.aio_client import Client
from raftcoord.client.handle import Errors
from raftcoord.client.lease_handle import Guard, LeaseHandle
from raftcoord.client.leases import Hold
from raftcoord.client.timeouts import Timeout
from raftcoord.protocol.errors import Code, QueueClosed
from raftcoord.protocol.operations import Operation
from raftcoord.protocol.values import Name, unpack_value

_CLAIM: Final = int(Operation.QUEUE_CLAIM)
_ACK: Final = int(Operation.QUEUE_ACK)
_NACK: Final = int(Operation.QUEUE_NACK)


class Claim(LeaseHandle):
    """The first item of a queue, held until it is acknowledged or put back; see `Queue.claim`."""

    KIND: ClassVar[str] = "queue"
    ERRORS: ClassVar[Errors] = {Code.NOT_HOLDER: (QueueClosed, "it was closed, and its claims are void")}

    def __init__(
        self,
        client: Client,
        name: Name,
        limits: tuple[int, list[Any]],
        timeout: Timeout,
        on_lost: Callable[[], object] | None,
    ) -> None:
        super().__init__(name, client, on_lost=on_lost)
        self._limits = limits
        self._timeout = timeout
        self._item: tuple[bytes, int] | None = None
        self._hold: Hold | None = None
        self._is_taking = False

    def __repr__(self) -> str:
        state = "not taken" if self._hold is None else f"fence={self._hold.fence}"
        return f"<aio.Claim {self._name!r} {state}>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a claim belongs to the client that took it, and cannot be pickled")

    @property
    def fence(self) -> int:
        """The number of the claim: larger than that of every earlier grant of anything in the store.

        Raises:
            NotHolder: the claim is not taken yet, or was settled.
            LockLost: it is lost.
        """
        return self._holdings.current(self._hold).fence

    @property
    def value(self) -> Any:
        """The item."""
        return unpack_value(self._taken()[0])

    @property
    def deliveries(self) -> int:
        """How often the item has been handed out, this time included."""
        return self._taken()[1]

    async def ack(self, timeout: Timeout = None) -> None:
        """The item is done with: remove it for good. An `ack` that is not answered is repeated.

        Raises:
            NotHolder: the claim was settled before.
            LockLost: its session ended, and the item went to somebody else.
            QueueClosed: the queue was closed, and the item is gone with it.
            OutcomeUnknown: nobody answered in time.
        """
        await self._settle(_ACK, timeout)

    async def nack(self, timeout: Timeout = None) -> None:
        """Put the item back at the head of the queue, for the next one who asks. Raises: as `ack`."""
        await self._settle(_NACK, timeout)

    def __await__(self) -> Generator[Any, None, Claim]:
        yield from self._take().__await__()
        return self

    async def __aenter__(self) -> Claim:
        await self._enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave(self._hold, error)

    def guard(self) -> Guard[Claim]:
        """Return what `async with` takes to work on the item, and to stop as soon as the claim is lost.

        The task inside the block is cancelled at the moment of the loss; the block then raises `LockLost`.
        """
        return Guard(self, self._enter)

    async def _enter(self) -> Hold:
        await self._take()
        assert self._hold is not None
        return self._hold

    async def _leave(self, hold: Hold | None, error: BaseException | None) -> None:
        if hold in tuple(self._holdings):  # else it was settled inside the block
            await super()._leave(hold, error)

    def _taken(self) -> tuple[bytes, int]:
        if self._item is None:
            raise RuntimeError("the claim is not taken yet: await it, or enter it with `async with`")
        return self._item

    async def _take(self) -> None:
        if self._item is not None:
            return
        if self._is_taking:
            raise RuntimeError("the claim is being taken already: each claim takes one item, for one task")
        self._is_taking = True
        try:
            fence, blob, deliveries = await self._wait(_CLAIM, self._timeout, *self._limits)
            self._item = blob, deliveries
            self._hold = self._remember(fence)
        finally:
            self._is_taking = False

    async def _settle(self, operation: int, timeout: Timeout) -> None:
        self._taken()
        assert self._hold is not None
        await self._give_back(self._hold, operation, (self._key,), timeout)

    async def _release_after(self, hold: Hold | None, error: BaseException | None) -> None:
        await self._settle(_ACK if error is None else _NACK, None)
