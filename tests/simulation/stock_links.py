"""Connections between replicas that run the stock library: plain frames, one FIFO per connection.

The library's own transport owns sockets and pickles; this one takes its place as the library allows. No
Raft, and nothing that makes the library safer, may live here.

Invariants:
  1. At most one connection per peer is up, dialled by the one whose name comes first; a newer one replaces
     an older one, whose messages are then dropped.
  2. Messages of one connection arrive complete and in order; what is sent while none is up is dropped.
  3. Every `link_up` is followed by exactly one `link_down` before the next `link_up` of that peer.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final, Protocol

from raftcoord.consensus.interface import EngineConfig
from raftcoord.consensus.transport import split_address
from raftcoord.protocol.frames import FrameDecoder, encode_frame
from raftcoord.runtime import Runtime

CONNECT_TIMEOUT_S: Final = 2.0
RETRY_S: Final = (0.02, 0.1)

Message = dict[str, Any]


class LinkOwner(Protocol):
    """What connections report to."""

    def link_up(self, peer: str) -> None: ...

    def link_down(self, peer: str) -> None: ...

    def link_message(self, peer: str, message: Message) -> None: ...


class _Link(asyncio.Protocol):
    """Either end of a connection; the first frame each way says who is there."""

    def __init__(self, links: Links, hello: list[str]) -> None:
        self._links, self._hello = links, hello
        self._decoder = FrameDecoder()
        self._transport: Any = None
        self.peer: str | None = None
        self.is_closed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<_Link peer={self.peer} closed={self.is_closed.is_set()}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.send(self._hello)

    def data_received(self, data: bytes) -> None:
        for frame in self._decoder.feed(data):
            if self.peer is None:
                self.peer, client_address = frame
                self._links.opened(self, client_address)
            else:
                self._links.arrived(self, frame)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_closed.set()
        self._links.closed(self)

    def send(self, message: Any) -> None:
        self._transport.write(encode_frame(message))

    def close(self) -> None:
        self._transport.close()


class Links:
    """The connections of one replica to all others."""

    def __init__(self, config: EngineConfig, runtime: Runtime, owner: LinkOwner) -> None:
        self._config, self._runtime, self._owner = config, runtime, owner
        self._up: dict[str, _Link] = {}
        self._all: dict[_Link, None] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._server: asyncio.AbstractServer | None = None
        self.client_addresses: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<Links of {self._config.name} up={sorted(self._up)}>"

    async def start(self) -> None:
        """Listen, and dial in the background. Raises OSError when the address is taken."""
        config = self._config
        host, port = split_address(config.listen or config.peers[config.name])
        self._server = await self._runtime.network.listen(self._new_link, host, port)
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._dial(peer)) for peer in sorted(config.peers) if config.name < peer
        ]

    async def stop(self) -> None:
        """Close everything; nothing is reported after this."""
        if self._server is not None:
            self._server.close()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._up.clear()
        for link in list(self._all):
            link.close()

    def send(self, peer: str, message: Message) -> bool:
        """Send a message; return whether there was a connection to put it on."""
        link = self._up.get(peer)
        if link is None:
            return False
        link.send(message)
        return True

    def is_up(self, peer: str) -> bool:
        """Return whether a peer is connected."""
        return peer in self._up

    def _new_link(self) -> _Link:
        link = _Link(self, [self._config.name, self._config.client_address])
        self._all[link] = None
        return link

    async def _dial(self, peer: str) -> None:
        host, port = split_address(self._config.peers[peer])
        while True:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    _, link = await self._runtime.network.connect(self._new_link, host, port)
                await link.is_closed.wait()
            low_s, high_s = RETRY_S
            await asyncio.sleep(low_s + (high_s - low_s) * self._runtime.rng.random())

    # Connections report here.

    def opened(self, link: _Link, client_address: str) -> None:
        """A connection's other end has said who it is."""
        assert link.peer is not None
        older = self._up.pop(link.peer, None)
        if older is not None:
            older.close()
            self._owner.link_down(link.peer)
        self._up[link.peer] = link
        self.client_addresses[link.peer] = client_address
        self._owner.link_up(link.peer)

    def arrived(self, link: _Link, message: Message) -> None:
        """A message came."""
        if link.peer is not None and self._up.get(link.peer) is link:
            self._owner.link_message(link.peer, message)

    def closed(self, link: _Link) -> None:
        """A connection is gone."""
        self._all.pop(link, None)
        if link.peer is not None and self._up.get(link.peer) is link:
            del self._up[link.peer]
            self._owner.link_down(link.peer)
