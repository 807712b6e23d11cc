"""Dask's Variable."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, ClassVar, Final, NamedTuple
from weakref import WeakKeyDictionary

from distributed import Client, Future

from raftcoord import aio
from raftcoord.client.deadline import Deadline
from raftcoord.client.sync_client import Client as StoreClient
from raftcoord.client.timeouts import Timeout
from raftcoord.dask import bridge, futures
from raftcoord.dask.handle import DaskHandle
from raftcoord.dask.names import seconds, shorter
from raftcoord.dask.records import Record, decode, encode
from raftcoord.protocol.errors import CallTimeout, Code, SessionLost
from raftcoord.protocol.operations import Operation

_GET: Final = int(Operation.VARIABLE_GET)
_COMPARE_AND_SET: Final = int(Operation.VARIABLE_COMPARE_AND_SET)


class _Seen(NamedTuple):
    """What a variable held when it was last seen: its revision (0: nothing), and the Future if it was one."""

    revision: int
    record: Record | None


_UNSET: Final = _Seen(0, None)

# What this process saw last, through whatever handle: tasks make a new one each time. It may be out of date,
# which costs a call. On the loop thread only.
_seen_by_client: Final[WeakKeyDictionary[aio.Client, dict[bytes, _Seen]]] = WeakKeyDictionary()
SEEN_MAX: Final = 10_000  # variables of a client


class StoredVariable(aio.Variable):
    """A variable that knows what it replaces, so that the Dask scheduler can be told to let go of it."""

    _removing: asyncio.Task[Any] | None = None  # which may not have been awaited, as in Dask

    async def swap(self, blob: bytes, record: Record | None, timeout: Timeout) -> Record | None:
        """Set the value; return the Future that it replaced, if it was one.

        It supposes what was seen last, which mostly is right, so that one call does.

        Args:
            record: what the blob is, if that is a Future.
        """
        deadline = Deadline(timeout, asyncio.get_running_loop().time, self._what)
        await self._removed(deadline)
        seen = self._table.get(self._key)
        if seen is None:
            seen = await self._look(deadline.left_s() or None)  # for less than what a refused write costs
        while True:
            condition = [seen.revision] if seen.revision else []
            code, payload = await self._client.request(
                _COMPARE_AND_SET, (self._key, condition, blob), deadline.left_s() or None
            )
            if code == Code.CONFLICT:
                seen = _UNSET if payload is None else _seen_in(payload)
                continue
            if code:
                self._refuse(code, payload)
            self._remember(_Seen(payload, record))
            return seen.record

    async def read(self, timeout: Timeout) -> Any:
        """Return the value, or a `Record`; wait until there is one."""
        deadline = Deadline(timeout, asyncio.get_running_loop().time, self._what)
        await self._removed(deadline)
        while True:
            try:
                blob, revision = await self._wait(_GET, deadline.left_s())
            except SessionLost:
                if self._client.closed:
                    raise
                continue  # reading takes nothing, so it simply goes on in the next session
            value = decode(blob)
            self._remember(_Seen(revision, value if isinstance(value, Record) else None))
            return value

    async def remove(self) -> Record | None:
        """Make the variable unset; return the Future that it held, if it was one."""
        self._removing = asyncio.current_task()
        seen = await self._look(None)
        await self.delete()
        self._remember(_UNSET)
        return seen.record

    async def _removed(self, deadline: Deadline) -> None:
        if self._removing is not None and not self._removing.done():
            await asyncio.wait([self._removing], timeout=deadline.left_s() or None)

    async def _look(self, timeout_s: float | None) -> _Seen:
        code, payload = await self._client.request(_GET, (self._key, False), timeout_s)
        if code == Code.UNSET:
            return _UNSET
        if code:
            self._refuse(code, payload)
        return _seen_in(payload)

    @property
    def _table(self) -> dict[bytes, _Seen]:
        table = _seen_by_client.get(self._client)
        if table is None:
            table = _seen_by_client[self._client] = {}
        return table

    def _remember(self, seen: _Seen) -> None:
        table = self._table
        table.pop(self._key, None)  # so that the oldest is the first
        table[self._key] = seen
        if len(table) > SEEN_MAX:
            del table[next(iter(table))]


def _seen_in(payload: Any) -> _Seen:
    blob, revision = payload
    value = decode(blob)
    return _Seen(revision, value if isinstance(value, Record) else None)


class Variable(DaskHandle[StoredVariable]):
    """A global value: plain data, or a Future whose result stays on the Dask cluster while it is set.

    Args:
        name: None makes a random one.
        client: a Dask client; None takes that of the task or process, where a Future needs one.
        address: of the replicas; None takes what plugin or configuration say.
    """

    KIND: ClassVar[str] = "variable"

    def _make(self, client: StoreClient) -> StoredVariable:
        return StoredVariable(self._store_name, client.aio)

    def set(
        self,
        value: Any,
        timeout: Timeout = "30 s",
        *,
        asynchronous: bool | None = None,
        callback_timeout: Timeout = None,
    ) -> Any:
        """Set the value.

        Args:
            value: a Future, or plain data: None, bool, int, float, str, bytes, list, dict, tuple, datetime or
                timedelta, up to 1 MiB packed.
            timeout: seconds, "200ms" or a timedelta.

        Raises:
            TypeError, ValueError: such a value cannot be stored.
            TimeoutError: no replica answered in time, or the Dask scheduler does not know the Future.
        """
        timeout_s = shorter(seconds(timeout), seconds(callback_timeout))
        is_async = self._asynchronous if asynchronous is None else asynchronous
        if isinstance(value, Future):
            client = value.client or bridge.dask_client(self._dask_client)
            if is_async:
                return self._set_future(client, value, timeout_s)
            return client.sync(self._set_future, client, value, timeout_s)
        blob = encode(value)
        if is_async:
            return self._set_plain(blob, timeout_s)
        futures.let_go(self._dask_client, bridge.call(self._object.swap(blob, None, timeout_s)))
        return None

    async def _set_plain(self, blob: bytes, timeout_s: float | None) -> None:
        futures.let_go(self._dask_client, await bridge.call_async(self._object.swap(blob, None, timeout_s)))

    async def _set_future(self, client: Client, future: Future, timeout_s: float | None) -> None:
        variable = self._object
        async with futures.held(client, future, timeout_s) as (record, left_s):
            replaced = await bridge.call_async(variable.swap(encode(record), record, left_s))
        futures.let_go(client, replaced)

    def get(
        self,
        timeout: Timeout = None,
        *,
        asynchronous: bool | None = None,
        callback_timeout: Timeout = None,
    ) -> Any:
        """Return the value; wait until there is one.

        Args:
            timeout: seconds, "200ms" or a timedelta; None waits for ever, 0 does not wait.

        Raises:
            TimeoutError: it was unset for that long.
            RuntimeError: it is a Future, and there is no Dask client here to make one with.
        """
        read = self._object.read(shorter(seconds(timeout), seconds(callback_timeout)))
        if self._asynchronous if asynchronous is None else asynchronous:
            return self._get_async(read)
        value = bridge.call(read)
        if not isinstance(value, Record):
            return value
        client = futures.client_for_future(self._dask_client, repr(self))
        return client.sync(self._live, client, value)

    async def _get_async(self, read: Coroutine[Any, Any, Any]) -> Any:
        value = await bridge.call_async(read)
        if not isinstance(value, Record):
            return value
        return await self._live(futures.client_for_future(self._dask_client, repr(self)), value)

    async def _live(self, client: Client, record: Record) -> Any:
        """Return the Future of a record; when it was let go of because it was replaced, what is newer."""
        while True:
            future = await futures.receive(client, record)
            if future is not None:
                return future
            try:
                newer = await bridge.call_async(self._object.read(0))
            except CallTimeout:
                newer = record  # it was deleted meanwhile
            if isinstance(newer, Record) and newer == record:
                return futures.lost(client, record)
            if not isinstance(newer, Record):
                return newer
            record = newer

    def delete(self) -> Any:
        """Make the variable unset, for everybody. On an event loop it need not be awaited.

        Raises:
            TimeoutError: no replica answered within the bound `raftcoord.timeout`.
        """
        removing = bridge.start_now(self._object.remove(), self._asynchronous)
        if isinstance(removing, asyncio.Future):
            return asyncio.ensure_future(self._let_go_after(removing))
        futures.let_go(self._dask_client, removing)
        return None

    async def _let_go_after(self, removing: asyncio.Future[Record | None]) -> None:
        futures.let_go(self._dask_client, await removing)
