"""What the objects have in common: a name, a Dask client, pickling, and the object in the store behind them.

Invariants:
  1. Making, pickling and waking up a handle asks nobody: neither the Dask scheduler nor a replica.
  2. A handle has one object in the store behind it, which knows what the handle holds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Generator, Iterable
from typing import Any, ClassVar, Generic, TypeVar

from distributed import Client

from raftcoord.client.addresses import Addresses, parse_addresses
from raftcoord.client.handle import Handle
from raftcoord.client.sync_client import Client as StoreClient
from raftcoord.dask import bridge
from raftcoord.dask.connections import connections
from raftcoord.dask.names import store_name

_H = TypeVar("_H", bound=Handle)
_S = TypeVar("_S", bound="DaskHandle[Any]")
_T = TypeVar("_T")

_opening = threading.Lock()


class DaskHandle(Generic[_H]):
    """One named object. Its methods block, or return awaitables where those of Dask's objects do.

    Args:
        name: a str, number, bytes, or tuple or list of these; None makes a random one.
        client: a Dask client; None takes that of the task or process, where one is needed.
        address: "host:port,host:port,…" of the replicas; None takes what plugin or configuration say.
    """

    KIND: ClassVar[str] = "object"

    def __init__(
        self, name: Any = None, client: Client | None = None, address: str | Iterable[str] | None = None
    ) -> None:
        self.name, self._store_name = store_name(name, self.KIND)
        self._begin(client, address)

    def _begin(self, client: Client | None, address: str | Iterable[str] | None) -> None:
        self._dask_client = client
        self._address = None if address is None else parse_addresses(address)
        self._carried: Addresses | None = None
        self._store: tuple[StoreClient, _H] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    @property
    def client(self) -> Client | None:
        """The Dask client that this works with; None when there is none."""
        try:
            self._dask_client = bridge.dask_client(self._dask_client)
        except ValueError:
            return None
        return self._dask_client

    def __await__(self: _S) -> Generator[Any, None, _S]:
        async def itself() -> _S:
            return self

        return itself().__await__()

    # Pickling

    def __reduce__(self) -> tuple[Any, ...]:
        return _wake, (type(self), self._options(), self._address, self._known_addresses())

    def _options(self) -> dict[str, Any]:
        """Return the arguments, besides client and address, that make an equal handle."""
        return {"name": self.name}

    def _known_addresses(self) -> Addresses | None:
        if self._address is not None:
            return self._address
        try:
            return connections.addresses(None, self._carried)
        except RuntimeError:
            return None

    # The store

    def _make(self, client: StoreClient) -> _H:
        """Make the object in the store."""
        raise NotImplementedError

    @property
    def _object(self) -> _H:
        """The object in the store; to be used on the loop thread only.

        Raises:
            RuntimeError: nobody knows an address of a replica.
        """
        store = self._store
        if store is None or store[0].closed:
            with _opening:
                store = self._store
                if store is None or store[0].closed:
                    addresses = connections.addresses(self._address, self._carried)
                    client = connections.client(addresses, outside=bridge.current_worker() is None)
                    store = self._store = client, self._make(client)
        return store[1]

    @property
    def _asynchronous(self) -> bool:
        return bridge.is_asynchronous(self._dask_client)

    def _run(self, coroutine: Coroutine[Any, Any, _T], asynchronous: bool | None = None) -> Any:
        """Run a coroutine of the store, here or, where that is how it is called, as an awaitable."""
        if self._asynchronous if asynchronous is None else asynchronous:
            return bridge.call_async(coroutine)
        return bridge.call(coroutine)

    def _no_plain_with(self) -> None:
        if self._asynchronous:
            raise RuntimeError(f"{self!r} is used on an event loop: write `async with`")


def _wake(
    kind: Callable[..., DaskHandle[Any]],
    options: dict[str, Any],
    address: Addresses | None,
    carried: Addresses | None,
) -> DaskHandle[Any]:
    handle = kind(**options, address=address)
    handle._carried = carried
    return handle
