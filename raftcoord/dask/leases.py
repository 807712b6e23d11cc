"""What Dask's locks and semaphores have in common: waiting to be granted something, and `with`."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

from raftcoord.client.lease_handle import LeaseBlock
from raftcoord.client.ownership import for_its_caller
from raftcoord.client.timeouts import Timeout
from raftcoord.dask import bridge
from raftcoord.dask.handle import DaskHandle
from raftcoord.dask.names import seconds
from raftcoord.protocol.errors import CallTimeout, LockLost, NotHolder

_H = TypeVar("_H", bound=LeaseBlock)
_B = TypeVar("_B", bound="DaskLease[Any]")


class NotAcquired(NotHolder, ValueError):
    """A release of what this handle does not hold. Dask raises a RuntimeError or a ValueError for it."""


class DaskLease(DaskHandle[_H]):
    """Something that is acquired and released, by hand or with `with` and `async with`."""

    @functools.cached_property
    def id(self) -> str:
        """A text that no other handle has."""
        return uuid.uuid4().hex

    def _ask(
        self, acquire: Callable[[float | None], Coroutine[Any, Any, bool]], timeout_s: float | None
    ) -> Any:
        """Run `acquire(timeout_s)` on the loop thread; when that times out it was not granted."""
        attempt = bridge.bounded(timeout_s, repr(self), acquire)
        if self._asynchronous:
            return self._ask_async(attempt, timeout_s)
        try:
            return bridge.call(bridge.repeated(attempt))
        except CallTimeout:
            if timeout_s == 0:
                raise  # no replica answered at all: nobody knows whether it is free
            return False

    @for_its_caller
    async def _ask_async(
        self, attempt: Callable[[], Coroutine[Any, Any, bool]], timeout_s: float | None
    ) -> bool:
        try:
            return await bridge.call_undoable(lambda: bridge.repeated(attempt), self._released)
        except CallTimeout:
            if timeout_s == 0:
                raise
            return False

    def _acquire_for_block(self) -> Callable[[], Coroutine[Any, Any, bool]]:
        """Return what a block acquires with, on the loop thread."""
        return self._object.acquire  # type: ignore[attr-defined,no-any-return]

    def _release(self) -> Any:
        self._check_held("Released too often")
        return self._run(self._released())

    def _check_held(self, what: str) -> None:
        """Raise NotAcquired, at once also on an event loop, if this handle holds nothing."""
        if self._store is None or not tuple(self._object._holdings):
            raise NotAcquired(f"{what}: {self!r} holds nothing")

    async def _released(self) -> bool:
        """Release on the loop thread."""
        try:
            await self._object._release(None, None)
        except LockLost:
            raise
        except NotHolder as error:
            raise NotAcquired(*error.args) from None
        return True

    def __enter__(self: _B) -> _B:
        self._no_plain_with()
        bridge.call(bridge.repeated(self._acquire_for_block()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        bridge.call(self._object.__aexit__(kind, error, trace))

    async def __aenter__(self: _B) -> _B:
        acquire = self._acquire_for_block()
        await bridge.call_undoable(lambda: bridge.repeated(acquire), self._released)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await bridge.call_async(self._object.__aexit__(kind, error, trace))


def blocking_seconds(blocking: bool, timeout: Timeout) -> float | None:
    """Return the timeout of an `acquire(blocking, timeout)`. Raises ValueError: both are given."""
    timeout_s = seconds(timeout)
    if blocking:
        return timeout_s
    if timeout_s is not None:
        raise ValueError("an acquire that does not block takes no timeout")
    return 0.0
