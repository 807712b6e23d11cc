"""The asyncio client that users create; it makes a `Core` where and when it is first used.

Invariants:
  1. A client is used from one event loop at a time. In a forked child, and in a new loop after the old one
     was closed, it starts over with a session of its own.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from raftcoord.client import forking
from raftcoord.client.addresses import Addresses, address_from_environment, parse_addresses
from raftcoord.client.core import Core
from raftcoord.client.registry import Registry
from raftcoord.client.session_state import Session
from raftcoord.client.states import ClientState
from raftcoord.client.timeouts import Timeout, parse_duration, parse_timeout
from raftcoord.protocol.errors import ClientClosed
from raftcoord.protocol.operations import CLIENT_NAME_BYTES_MAX, SESSION_TTL_MS_MAX, SESSION_TTL_MS_MIN
from raftcoord.runtime import Runtime

if TYPE_CHECKING:
    from raftcoord.testing.local_cluster import LocalCluster

_log = logging.getLogger(__name__)

Listener = Callable[[ClientState], object]


class Client:
    """A session with a raftcoord cluster, for asyncio.

    Connects on first use, or with `connect` or `async with`. One connection carries any number of calls at a
    time; when a replica fails, the client finds the next leader and repeats what is unanswered, and every
    call takes effect once.

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
        runtime: Runtime | None = None,
    ) -> None:
        if address is None:
            address = address_from_environment()
        self._name = check_client_name(name)
        self._addresses = None if address is None else parse_addresses(address)
        self._ttl_s = parse_duration(session_ttl, what="session_ttl")
        if not SESSION_TTL_MS_MIN <= self._ttl_s * 1000 <= SESSION_TTL_MS_MAX:
            raise ValueError(
                f"session_ttl must be between {SESSION_TTL_MS_MIN} ms and {SESSION_TTL_MS_MAX // 1000} s"
            )
        self._timeout_s = parse_duration(timeout, what="timeout")
        self._runtime = runtime or Runtime()
        self._listeners: list[Listener] = []
        self._core: Core | None = None
        self._cluster: LocalCluster | None = None
        self._opening: asyncio.Lock | None = None
        self._closed = False
        self._generation = forking.generation
        if set_as_default:
            registry.set_default(self)

    def __repr__(self) -> str:
        where = ",".join(self._addresses or ("embedded",))
        return f"<aio.Client {self.name!r} {where} {'closed' if self._closed else self.state.value}>"

    @property
    def name(self) -> str:
        return self._name

    @property
    def addresses(self) -> Addresses | None:
        """The addresses of the replicas; None for an embedded cluster that is not started yet."""
        return self._addresses

    @property
    def address(self) -> str:
        """The addresses as one text, for another client.

        Raises:
            RuntimeError: the embedded cluster is not started yet; `connect` first.
        """
        if self._addresses is None:
            raise RuntimeError("the embedded cluster of this client is not started yet: connect first")
        return ",".join(self._addresses)

    @property
    def state(self) -> ClientState:
        if self._core is None or self._generation != forking.generation:
            return ClientState.LOST
        return self._core.state

    @property
    def session_id(self) -> int | None:
        """The number of the present session, or None when there is none."""
        if self._core is None or self._generation != forking.generation:
            return None
        return self._core.session.id or None

    @property
    def closed(self) -> bool:
        return self._closed

    def add_listener(self, listener: Listener) -> None:
        """Have `listener(state)` called on every change of state, from the event loop; it must not block."""
        self._listeners.append(listener)

    def remove_listener(self, listener: Listener) -> None:
        """Undo `add_listener`; an unknown listener is ignored."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    async def connect(self, timeout: Timeout = None) -> None:
        """Return once a session is open.

        Args:
            timeout: bound; None takes the client's own.

        Raises:
            NotConnected: no replica took the session in time.
            ClientClosed: the client is closed.
        """
        timeout_s = parse_timeout(timeout)
        core = await self._open()
        await core.connect(self._timeout_s if timeout_s is None else timeout_s)

    async def close(self) -> None:
        """End the session (its locks are released at once) and close the connection; at most about a second.

        Closing again does nothing. Calls under way fail.
        """
        if self._closed:
            return
        self._closed = True
        registry.forget(self)
        inherited = self._generation != forking.generation
        core, self._core = self._core, None
        cluster, self._cluster = self._cluster, None
        if inherited:
            forking.leak((core, cluster))
            return
        if core is not None and core.loop is asyncio.get_running_loop():
            await core.close()
        if cluster is not None:
            await asyncio.get_running_loop().run_in_executor(None, cluster.close)

    async def __aenter__(self) -> Client:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return client_for_address, (self.address,)

    # For the objects

    async def request(
        self,
        operation: int,
        arguments: tuple[Any, ...],
        timeout_s: float | None,
        *,
        wait: bool = False,
        session: Session | None = None,
    ) -> tuple[int, Any]:
        """Make one call of the protocol; see `Exchange.request`."""
        core = self._core
        if (
            core is None
            or self._generation != forking.generation
            or core.loop is not asyncio.get_running_loop()
        ):
            core = await self._open()
        return await core.exchange.request(operation, arguments, timeout_s, wait=wait, session=session)

    async def follow(self, name: bytes, offset: int, count_max: int) -> asyncio.Task[tuple[int, Any] | None]:
        """Begin to read a topic from whichever replica; see `FollowerReads.read`."""
        core = await self._open()
        core.start()
        return core.follower_reads.read(name, offset, count_max)

    @property
    def core(self) -> Core:
        """The running core; only after a call has been made."""
        assert self._core is not None
        return self._core

    async def _open(self) -> Core:
        """Return the core for this process and loop; make it, and the embedded cluster, when needed."""
        loop = asyncio.get_running_loop()
        if self._closed:
            raise ClientClosed("the client is closed")
        if self._generation != forking.generation:
            forking.leak((self._core, self._cluster, self._opening))
            self._core, self._cluster, self._opening = None, None, None
            self._generation = forking.generation
        if self._core is not None and self._core.loop is not loop:
            if not self._core.loop.is_closed():
                raise RuntimeError("this client belongs to another event loop that is still open")
            self._core, self._opening = None, None
        if self._addresses is None:
            self._opening = self._opening or asyncio.Lock()
            async with self._opening:
                if self._addresses is None:
                    await self._start_cluster(loop)
        if self._core is None:
            assert self._addresses is not None
            self._core = Core(
                self._addresses,
                name=self.name,
                ttl_s=self._ttl_s,
                timeout_s=self._timeout_s,
                runtime=self._runtime,
                on_state=self._tell,
            )
        return self._core

    async def _start_cluster(self, loop: asyncio.AbstractEventLoop) -> None:
        cluster = await loop.run_in_executor(None, start_embedded_cluster)
        if self._closed:
            await loop.run_in_executor(None, cluster.close)
            raise ClientClosed("the client is closed")
        self._cluster, self._addresses = cluster, parse_addresses(cluster.address)

    def _tell(self, state: ClientState) -> None:
        for listener in list(self._listeners):
            try:
                listener(state)
            except Exception:  # a listener's fault must not end the session
                _log.exception("listener_failed listener=%r state=%s", listener, state.value)


def check_client_name(name: str | None) -> str:
    """Return a client name that the protocol takes. Raises TypeError or ValueError."""
    if name is None:
        return f"client-{uuid.uuid4().hex[:8]}"
    if not isinstance(name, str):
        raise TypeError(f"a client's name is a str, not {type(name).__qualname__}")
    if len(name.encode("utf-8", "replace")) > CLIENT_NAME_BYTES_MAX:
        raise ValueError(f"a client's name is at most {CLIENT_NAME_BYTES_MAX} bytes long")
    return name


def start_embedded_cluster() -> LocalCluster:
    """Start three replicas on this machine; blocks until they serve."""
    from raftcoord.testing.local_cluster import LocalCluster

    return LocalCluster()


registry: Registry[Client] = Registry(lambda addresses: Client(addresses, set_as_default=False))


def get_client() -> Client:
    """Return the current asyncio client. Raises RuntimeError when there is none."""
    return registry.current()


def client_for_address(address: str) -> Client:
    """Return this process's asyncio client for an address (how clients and handles wake up)."""
    return registry.for_addresses(parse_addresses(address))
