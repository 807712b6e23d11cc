"""Simulated TCP between hosts: what asyncio's transports do, and what sockets do when hosts and links fail.

    a link that is blocked    delays: what was sent arrives, in order, after the block has ended
    a process that is killed  its connections are closed, after what it had sent
    a host without power      its connections fall silent; who writes to it later is told to reset

Invariants:
  1. Each direction of a connection is a FIFO of bytes; bytes are lost only at the end of a connection.
  2. Nothing is delivered to a process that is dead, and nothing by one that was dead when it "sent".
  3. Connections are independent of each other: what a closed one still carries may arrive after the newer
     one's first bytes.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from raftcoord.runtime.network import ProtocolFactory
from raftcoord.testing.simulation.connection import SimTransport
from raftcoord.testing.simulation.link_rules import Direction, LinkRules
from raftcoord.testing.simulation.process import Process
from raftcoord.testing.simulation.scheduler import Scheduler

if TYPE_CHECKING:
    from raftcoord.testing.simulation.connection import Stream

SYN_RETRY_S: Final = 0.3
RETRANSMIT_S: Final = 0.2  # after a block has ended, what was held back starts within this time
RESET_S: Final = 0.3  # within this time after a host is up again, its peers learn that it was down


class SimListener:
    """A listening socket of one process."""

    def __init__(self, network: SimNetwork, process: Process, host: str, factory: ProtocolFactory) -> None:
        self._network = network
        self.process, self.host, self.factory = process, host, factory
        self.is_open = True

    def __repr__(self) -> str:
        return f"<SimListener of {self.process.name} open={self.is_open}>"

    def close(self) -> None:
        """Accept no more."""
        self.is_open = False


class SimNetwork:
    """All connections of a world."""

    def __init__(self, scheduler: Scheduler, rules: LinkRules, rng: random.Random) -> None:
        self.scheduler = scheduler
        self.rules = rules
        self.rng = rng
        self.down_hosts: dict[str, None] = {}
        self._listeners: dict[tuple[str, int], SimListener] = {}
        self._transports: dict[str, dict[SimTransport, None]] = {}  # by host
        self._held: dict[Direction, list[Stream]] = {}
        self._ports = 0
        rules.on_open = self._release

    def __repr__(self) -> str:
        return f"<SimNetwork hosts={sorted(self._transports)} down={sorted(self.down_hosts)}>"

    # Connections.

    def listen(self, process: Process, factory: ProtocolFactory, host: str, port: int) -> SimListener:
        """Listen at a host's port. Raises OSError when another process does."""
        older = self._listeners.get((host, port))
        if older is not None and older.is_open and older.process.is_alive:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        listener = self._listeners[host, port] = SimListener(self, process, host, factory)
        return listener

    async def connect(
        self, process: Process, source: str, factory: ProtocolFactory, host: str, port: int
    ) -> tuple[SimTransport, asyncio.BaseProtocol]:
        """Open a connection from a host. Waits for ever when nothing gets through."""
        opened: asyncio.Future[tuple[SimTransport, asyncio.BaseProtocol]] = process.loop.create_future()
        attempt = _Attempt(self, process, source, factory, (host, port), opened)
        attempt.send_syn(process.now)
        return await opened

    def accept(
        self, process: Process, source: str, factory: ProtocolFactory, listener: SimListener
    ) -> SimTransport:
        """Make both ends of a connection; the accepting process is told, the other end is returned."""
        self._ports += 1
        near = SimTransport(self, process, source, (listener.host, 0))
        far = SimTransport(self, listener.process, listener.host, (source, 40_000 + self._ports))
        near.join(far)
        far.join(near)
        for transport in (near, far):
            self._transports.setdefault(transport.host, {})[transport] = None
        far.begin(listener.factory)
        return near

    def listener_at(self, address: tuple[str, int]) -> SimListener | None:
        """Return who listens at an address."""
        listener = self._listeners.get(address)
        return listener if listener is not None and listener.is_open and listener.process.is_alive else None

    def forget(self, transport: SimTransport) -> None:
        """A transport is gone for good."""
        self._transports.get(transport.host, {}).pop(transport, None)

    def hold(self, stream: Stream) -> None:
        """Keep what a stream carries until its direction is open again."""
        self._held.setdefault(stream.direction, []).append(stream)

    def _release(self, direction: Direction) -> None:
        for stream in self._held.pop(direction, []):
            self.scheduler.after(self.rng.random() * RETRANSMIT_S, stream.go_on)

    # What happens to hosts and links.

    def process_died(self, host: str) -> None:
        """The system closes the sockets of a process that ended."""
        for transport in list(self._transports.get(host, {})):
            transport.close_by_system()

    def power_lost(self, host: str) -> None:
        """A host is gone, without a word."""
        self.down_hosts[host] = None
        for transport in list(self._transports.get(host, {})):
            transport.vanish(lose_sent=self.rng.random() < 0.5)

    def power_back(self, host: str) -> None:
        """A host is up again, and knows nothing of the connections it had."""
        self.down_hosts.pop(host, None)
        for transport in list(self._transports.get(host, {})):
            self.scheduler.after(self.rng.random() * RESET_S, transport.reset_peer)

    def reset(self, one: str, other: str) -> None:
        """Break all connections between two hosts; both ends learn of it."""
        for transport in list(self._transports.get(one, {})):
            if transport.peer.host == other:
                transport.break_off()
                transport.peer.break_off()


class _Attempt:
    """One connect call until it is decided."""

    def __init__(
        self,
        network: SimNetwork,
        process: Process,
        source: str,
        factory: ProtocolFactory,
        address: tuple[str, int],
        opened: asyncio.Future[tuple[SimTransport, asyncio.BaseProtocol]],
    ) -> None:
        self._network, self._process, self._source = network, process, source
        self._factory, self._address, self._opened = factory, address, opened

    @property
    def _is_given_up(self) -> bool:
        return not self._process.is_alive or self._opened.done()

    def send_syn(self, now: float) -> None:
        """Send the first packet; again later if it does not get through."""
        target, rules = self._address[0], self._network.rules
        if rules.is_blocked(self._source, target) or target in self._network.down_hosts:
            self._network.scheduler.at(now + SYN_RETRY_S, self._again)
            return
        self._network.scheduler.at(now + rules.delay_s(self._source, target), self._arrive)

    def _again(self) -> None:
        if not self._is_given_up:
            self.send_syn(self._network.scheduler.now)

    def _arrive(self) -> None:
        network, target = self._network, self._address[0]
        if self._is_given_up:
            return
        if target in network.down_hosts:
            self._again()
            return
        listener = network.listener_at(self._address)
        if listener is None:
            self._answer(self._refuse)
            return
        transport = network.accept(self._process, self._source, self._factory, listener)
        self._answer(lambda: self._open(transport))

    def _answer(self, function: Callable[[], None]) -> None:
        network, target = self._network, self._address[0]
        if network.rules.is_blocked(target, self._source):
            network.scheduler.after(SYN_RETRY_S, self._answer, function)
        else:
            delay_s = network.rules.delay_s(target, self._source)
            network.scheduler.after(delay_s, self._in_process, function)

    def _in_process(self, function: Callable[[], None]) -> None:
        if self._process.is_alive:
            self._process.loop.call_soon(function)

    def _refuse(self) -> None:
        if not self._opened.done():
            self._opened.set_exception(
                ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
            )

    def _open(self, transport: SimTransport) -> None:
        if self._opened.done():  # the caller gave up
            transport.abandon()
            return
        if transport.is_closing():
            self._opened.set_exception(ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)))
            return
        protocol = self._factory()
        transport.begin_now(protocol)
        self._opened.set_result((transport, protocol))


class HostNetwork:
    """The network as one process on one host sees it: a `raftcoord.runtime.Network`."""

    def __init__(self, network: SimNetwork, process: Process, host: str) -> None:
        self._network, self._process, self._host = network, process, host

    def __repr__(self) -> str:
        return f"<HostNetwork of {self._host}>"

    async def listen(
        self, factory: ProtocolFactory, host: str, port: int, tls: ssl.SSLContext | None = None
    ) -> asyncio.AbstractServer:
        """See `Network.listen`."""
        listener = self._network.listen(self._process, factory, host, port)
        return cast(asyncio.AbstractServer, listener)

    async def connect(
        self, factory: ProtocolFactory, host: str, port: int, tls: ssl.SSLContext | None = None
    ) -> tuple[Any, Any]:
        """See `Network.connect`."""
        return await self._network.connect(self._process, self._host, factory, host, port)
