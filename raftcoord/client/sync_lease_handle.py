"""What the synchronous objects that hold something have in common."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, TypeVar

from raftcoord.client.lease_handle import LeaseBlock, LeaseHandle
from raftcoord.client.loop_thread import loop_thread
from raftcoord.client.ownership import on_behalf_of_this_thread
from raftcoord.client.sync_client import Client
from raftcoord.client.sync_handle import SyncHandle

_H = TypeVar("_H", bound=LeaseHandle)
_B = TypeVar("_B", bound=LeaseBlock)
_Self = TypeVar("_Self", bound="SyncLeaseBlock[Any]")


class SyncLeaseHandle(SyncHandle[_H], Generic[_H]):
    """A handle of something that is held for as long as the client's session lives.

    Args:
        client: the client to use; None takes the current one.
        on_lost: called, without arguments and on a thread of its own, when what is held is lost.
        options: the other arguments of the asyncio object.
    """

    def __init__(self, client: Client | None, on_lost: Callable[[], object] | None, **options: Any) -> None:
        self._on_lost = on_lost
        super().__init__(client, on_lost=self._lost, **options)

    @property
    def fence(self) -> int:
        """The number of the grant: larger than that of every earlier grant of anything in the store.

        It is that of this thread, and if it acquired several that of the last one. Hand it along with what is
        protected, so that a holder who does not know yet of its loss can be told by its smaller number.

        Raises:
            NotHolder: this thread holds nothing through this handle.
            LockLost: it did, and lost it.
        """
        with on_behalf_of_this_thread():
            return self._aio.fence

    def _lost(self) -> None:
        if self._on_lost is not None:
            loop_thread().call_back(self._on_lost)


class SyncLeaseBlock(SyncLeaseHandle[_B], Generic[_B]):
    """A handle that `with` acquires and releases."""

    def __enter__(self: _Self) -> _Self:
        self._client.run(self._aio.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.run(self._aio.__aexit__(kind, error, trace))
