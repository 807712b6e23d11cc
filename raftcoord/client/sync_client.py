"""The synchronous client: a facade over the asyncio one, which runs on the process's loop thread.

Invariants:
  1. Every method can be called from any thread, and in a forked child: there the client goes on with a new
     session and never touches its parent's connection.
"""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from raftcoord.client import aio_client, forking
from raftcoord.client.addresses import Addresses, address_from_environment, parse_addresses
from raftcoord.client.loop_thread import call, loop_thread
from raftcoord.client.registry import Registry
from raftcoord.client.states import ClientState
from raftcoord.client.timeouts import Timeout

if TYPE_CHECKING:
    from raftcoord.testing.local_cluster import LocalCluster

_T = TypeVar("_T")
Listener = Callable[[ClientState], object]


class Client:
    """A session with a raftcoord cluster.

    Connects on first use, or with `connect` or `with`. It can be shared by any number of threads; when a
    replica fails, it finds the next leader and repeats what is unanswered, and every call takes effect once.

    Args:
        address: "host:port,host:port,…" (or an iterable of "host:port"). None takes RAFTCOORD_ADDRESS, or
            else starts a cluster of three replicas on this machine that ends with the client.
        name: free text that `raftcoord status` and logs show.
        session_ttl: how long the session, and with it its locks, outlives the last sign of life.
            Between 500 ms and one hour.
        timeout: bound on calls that do not wait and have no timeout of their own.
        set_as_default: whether objects without a client of their own use this one from now on.
    """

    def __init__(
        self,
        address: str | Iterable[str] | None = None,
        *,
        name: str | None = None,
        session_ttl: Timeout = "10s",
        timeout: Timeout = "30s",
        set_as_default: bool = True,
    ) -> None:
        if address is None:
            address = address_from_environment()
        self._cluster: LocalCluster | None = None
        self._generation = forking.generation
        addresses: Iterable[str] = ("127.0.0.1",) if address is None else parse_addresses(address)

        def make(where: Iterable[str]) -> aio_client.Client:
            return aio_client.Client(
                where, name=name, session_ttl=session_ttl, timeout=timeout, set_as_default=False
            )

        self._aio = make(addresses)  # before a cluster is started: it checks the other arguments
        if address is None:
            self._cluster = aio_client.start_embedded_cluster()
            self._aio = make(parse_addresses(self._cluster.address))
        self._listeners: dict[Listener, aio_client.Listener] = {}
        _open_clients.add(self)
        if set_as_default:
            registry.set_default(self)

    def __repr__(self) -> str:
        where = "closed" if self.closed else self.state.value
        return f"<Client {self.name!r} {self.address} {where}>"

    @property
    def name(self) -> str:
        return self._aio.name

    @property
    def addresses(self) -> Addresses | None:
        """The addresses of the replicas."""
        return self._aio.addresses

    @property
    def address(self) -> str:
        """The addresses as one text, for another client."""
        return self._aio.address

    @property
    def state(self) -> ClientState:
        return self._aio.state

    @property
    def session_id(self) -> int | None:
        """The number of the present session, or None when there is none."""
        return self._aio.session_id

    @property
    def closed(self) -> bool:
        return self._aio.closed

    @property
    def aio(self) -> aio_client.Client:
        """The asyncio client behind this one; it runs on the loop thread only."""
        return self._aio

    def add_listener(self, listener: Listener) -> None:
        """Have `listener(state)` called on every change of state, in order, on a thread of its own."""

        def tell(state: ClientState) -> None:
            loop_thread().call_back(lambda: listener(state))

        if listener not in self._listeners:
            self._listeners[listener] = tell
            self._aio.add_listener(tell)

    def remove_listener(self, listener: Listener) -> None:
        """Undo `add_listener`; an unknown listener is ignored."""
        tell = self._listeners.pop(listener, None)
        if tell is not None:
            self._aio.remove_listener(tell)

    def connect(self, timeout: Timeout = None) -> None:
        """Return once a session is open.

        Args:
            timeout: bound; None takes the client's own.

        Raises:
            NotConnected: no replica took the session in time.
            ClientClosed: the client is closed.
        """
        self.run(self._aio.connect(timeout))

    def close(self) -> None:
        """End the session (its locks are released at once) and close the connection; at most about a second.

        Closing again does nothing. Calls under way fail. An embedded cluster ends as well.
        """
        if self.closed:
            return
        _open_clients.discard(self)
        registry.forget(self)
        self.run(self._aio.close())
        cluster, self._cluster = self._cluster, None
        if cluster is not None and self._generation == forking.generation:
            cluster.close()

    def __enter__(self) -> Client:
        try:
            self.connect()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return client_for_address, (self.address,)

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine of the asyncio objects on the loop thread and return its result."""
        return call(coroutine)


_open_clients: weakref.WeakSet[Client] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """End the sessions of a process that ends, so that its locks need not wait for their time to live."""
    for client in list(_open_clients):
        if client._generation == forking.generation or client.state is not ClientState.LOST:
            client.close()


registry: Registry[Client] = Registry(lambda addresses: Client(addresses, set_as_default=False))


def get_client() -> Client:
    """Return the current client of this process. Raises RuntimeError when there is none."""
    return registry.current()


def client_for_address(address: str) -> Client:
    """Return this process's client for an address (how clients and handles wake up)."""
    return registry.for_addresses(parse_addresses(address))
