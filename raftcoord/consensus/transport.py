"""Connections to all other replicas: one per peer, dialled by the one whose name comes first.

Invariants:
  1. At most one link per peer is up; a newer one replaces it.
  2. Every `peer_up` is followed by exactly one `peer_down` before the next `peer_up` of that peer.
  3. A link on which nothing arrives for `SILENCE_S` is closed, as is a handshake that takes as long.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final, Protocol

from raftcoord.consensus import messages as m
from raftcoord.consensus.core import draw_timeout_s
from raftcoord.consensus.handshake import Handshake, Hello
from raftcoord.consensus.interface import FatalError
from raftcoord.consensus.peer_link import PeerLink
from raftcoord.runtime import Runtime

logger = logging.getLogger(__name__)

SILENCE_S: Final = 4.0
PING_PERIOD_S: Final = 1.0
CONNECT_TIMEOUT_S: Final = 2.0
RETRY_S: Final = (0.02, 0.5)
REFUSED_RETRY_S: Final = 1.0
STRANGERS_MAX: Final = 64


class PeerListener(Protocol):
    """What the engine wants to know of its peers."""

    def peer_up(self, peer: str, incarnation: str) -> None: ...

    def peer_down(self, peer: str) -> None: ...

    def peer_message(self, peer: str, envelope: m.Envelope) -> None: ...

    def fail(self, error: BaseException) -> None:
        """This replica cannot go on."""


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of "host:port" (IPv6 hosts in brackets)."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


class PeerTransport:
    """Listens for and dials the other replicas.

    Args:
        addresses: peer address of every other member, by name.
        listen: own peer address, "host:port".
    """

    def __init__(
        self,
        *,
        addresses: Mapping[str, str],
        listen: str,
        handshake: Handshake,
        runtime: Runtime,
        listener: PeerListener,
        frame_bytes_max: int,
    ) -> None:
        self._addresses = dict(addresses)
        self._listen = listen
        self._handshake = handshake
        self._runtime = runtime
        self._listener = listener
        self._frame_bytes_max = frame_bytes_max
        self._links: dict[str, PeerLink] = {}
        self._strangers: dict[PeerLink, float] = {}
        self._retries: dict[str, asyncio.Event] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._server: asyncio.AbstractServer | None = None
        self._last_reason: dict[str, str] = {}
        self.client_addresses: dict[str, str] = {}
        self.refused_count = 0

    def __repr__(self) -> str:
        return f"<PeerTransport listen={self._listen} up={sorted(self._links)}>"

    async def start(self) -> None:
        """Listen, and begin to dial. Raises OSError when the address cannot be listened on."""
        host, port = split_address(self._listen)
        self._server = await self._runtime.network.listen(lambda: self._new_link(None), host, port)
        for peer in sorted(self._addresses):
            if self._handshake.name < peer:
                self._retries[peer] = asyncio.Event()
                self._tasks.append(asyncio.create_task(self._dial(peer), name=f"dial {peer}"))
        self._tasks.append(asyncio.create_task(self._watch(), name="watch links"))

    async def stop(self) -> None:
        """Close everything; nothing is reported after this."""
        if self._server is not None:
            self._server.close()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.close_links("stopping")

    def close_links(self, reason: str) -> None:
        """Close every connection at once."""
        for link in [*self._links.values(), *self._strangers]:
            link.close(reason)

    def send(self, peer: str, envelope: m.Envelope) -> None:
        """Send one message; it is dropped when the peer is not connected."""
        link = self._links.get(peer)
        if link is not None:
            link.send(envelope)

    def last_problem(self, peer: str) -> str | None:
        """Return why the latest connection to a peer ended, or None while it is up."""
        return None if peer in self._links else self._last_reason.get(peer)

    # Links report here.

    def _new_link(self, dial: str | None) -> PeerLink:
        link = PeerLink(
            owner=self,
            handshake=self._handshake,
            dial=dial,
            frame_bytes_max=self._frame_bytes_max,
        )
        self._strangers[link] = self._runtime.clock.now()
        if len(self._strangers) > STRANGERS_MAX:
            oldest = next(iter(self._strangers))
            if oldest is not link:
                oldest.close("too many connections without a handshake")
        return link

    def link_up(self, link: PeerLink, hello: Hello) -> None:
        self._strangers.pop(link, None)
        older = self._links.get(link.peer)
        if older is not None:
            older.close("replaced by a newer connection")
        self._links[link.peer] = link
        self._last_reason.pop(link.peer, None)
        self.client_addresses[link.peer] = hello.client_address
        logger.info("peer_up peer=%s incarnation=%s", link.peer, hello.incarnation[:8])
        self._listener.peer_up(link.peer, hello.incarnation)

    def link_down(self, link: PeerLink, reason: str) -> None:
        self._strangers.pop(link, None)
        if self._links.get(link.peer) is link:
            del self._links[link.peer]
            logger.info("peer_down peer=%s reason=%s", link.peer, reason)
            self._listener.peer_down(link.peer)
        elif link.was_refused:
            self.refused_count += 1
            if self._last_reason.get(link.peer) != reason:
                logger.error("peer_refused peer=%s reason=%s", link.peer or "?", reason)
        if link.peer in self._addresses and link.peer not in self._links:
            self._last_reason[link.peer] = reason
        retry = self._retries.get(link.peer)
        if retry is not None:
            retry.set()

    def link_message(self, link: PeerLink, envelope: m.Envelope) -> None:
        if self._links.get(link.peer) is link:
            self._listener.peer_message(link.peer, envelope)

    def link_fatal(self, error: FatalError) -> None:
        self._listener.fail(error)

    # Background work.

    async def _dial(self, peer: str) -> None:
        delay_s = RETRY_S[0]
        retry = self._retries[peer]
        while True:
            retry.clear()
            link = await self._connect(peer)
            if link is not None and not link.is_closed:
                await retry.wait()
            if link is not None and link.was_up:
                delay_s = RETRY_S[0]
            elif link is not None and link.was_refused:
                delay_s = REFUSED_RETRY_S
            await asyncio.sleep(draw_timeout_s(self._runtime.rng, delay_s / 2, delay_s))
            delay_s = min(2 * delay_s, RETRY_S[1])

    async def _connect(self, peer: str) -> PeerLink | None:
        host, port = split_address(self._addresses[peer])
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, link = await self._runtime.network.connect(lambda: self._new_link(peer), host, port)
        except (OSError, TimeoutError) as error:
            self._last_reason[peer] = f"{type(error).__name__}: {error}"
            for stranger in [link for link in self._strangers if link.peer == peer and link.is_unused]:
                del self._strangers[stranger]
            return None
        connected: PeerLink = link
        return connected

    async def _watch(self) -> None:
        checks_of_silence = round(SILENCE_S / PING_PERIOD_S)
        silent: dict[PeerLink, int] = {}
        while True:
            await asyncio.sleep(PING_PERIOD_S)
            now = self._runtime.clock.now()
            for link, since in list(self._strangers.items()):
                if now - since > SILENCE_S and not link.is_unused:
                    link.close("handshake took too long")
            counts = {
                link: 0 if link.received_since_check else silent.get(link, 0) + 1
                for link in self._links.values()
            }
            silent = counts
            for link, count in counts.items():
                link.received_since_check = False
                if count >= checks_of_silence:
                    link.close("silent for too long")
                else:
                    link.send({"term": 0, "number": 0, "echo": None, "body": {"type": m.PING}})
