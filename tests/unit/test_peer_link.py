"""Connections between replicas over real loopback sockets: who gets in, and what ends a connection."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable, Coroutine
from typing import Any

import msgpack
import pytest
from loopback import free_addresses, until
from ours import SeededRng

from raftcoord.consensus import messages as m
from raftcoord.consensus import transport as transport_module
from raftcoord.consensus.handshake import Handshake
from raftcoord.consensus.identity import DataFolder
from raftcoord.consensus.members import Members
from raftcoord.consensus.peer_link import HELLO_BYTES_MAX
from raftcoord.consensus.transport import STRANGERS_MAX, PeerTransport, split_address
from raftcoord.protocol.frames import FrameDecoder, encode_frame
from raftcoord.runtime import Runtime
from raftcoord.testing.simulation.faulty_disk import FaultyDisk

FRAME_BYTES_MAX = 256 * 1024


class Node:
    """One replica's connections, and what they reported."""

    def __init__(
        self, name: str, addresses: dict[str, str], *, secret: str = "secret", seed: str = ""
    ) -> None:
        disk = FaultyDisk()
        rng = SeededRng(f"{name}{seed}")
        folder = DataFolder.open(disk=disk, rng=rng, path="/data", name=name)
        self.name = name
        self.up: list[str] = []
        self.events: list[str] = []
        self.received: list[m.Envelope] = []
        self.handshake = Handshake(
            name=name,
            names=sorted(addresses),
            identity=folder.identity,
            client_address=f"client {name}",
            secret=secret,
            members=Members(folder, name, sorted(addresses)),
            rng=rng,
        )
        self.transport = PeerTransport(
            addresses={peer: address for peer, address in addresses.items() if peer != name},
            listen=addresses[name],
            handshake=self.handshake,
            runtime=Runtime(rng=rng),
            listener=self,
            frame_bytes_max=FRAME_BYTES_MAX,
        )

    def peer_up(self, peer: str, incarnation: str) -> None:
        assert peer not in self.up, "up twice"
        self.up.append(peer)
        self.events.append(f"up {peer}")

    def peer_down(self, peer: str) -> None:
        self.up.remove(peer)
        self.events.append(f"down {peer}")

    def fail(self, error: BaseException) -> None:
        self.events.append(f"failed {type(error).__name__}")

    def peer_message(self, peer: str, envelope: m.Envelope) -> None:
        assert peer in self.up
        if envelope["body"]["type"] != m.PING:
            self.received.append(envelope)


def run(work: Callable[[dict[str, str]], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(work(dict(zip("ab", free_addresses(2), strict=True))))


def stale(number: int = 1) -> m.Envelope:
    return {"term": 1, "number": number, "echo": None, "body": {"type": m.STALE}}


async def open_to(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


class RawPeer:
    """A hand-made other end that knows the secret: it does the handshake, then what the test wants."""

    def __init__(self, name: str, addresses: dict[str, str]) -> None:
        self.node = Node(name, addresses)
        self._decoder = FrameDecoder(1 << 20)
        self._frames: list[Any] = []
        self.epoch = 0

    async def connect(self, address: str, *, stop_after_hello: bool = False) -> None:
        self.reader, self.writer = await open_to(address)
        handshake = self.node.handshake
        hello, self.epoch = handshake.make_hello("a" if self.node.name == "b" else "b")
        self.writer.write(encode_frame([hello]))
        if stop_after_hello:
            return
        theirs, _ = await self.frame()
        self.writer.write(encode_frame([handshake.proof(b"dialer", hello, theirs)]))
        assert await self.frame() == ["welcome"]

    async def frame(self) -> Any:
        while not self._frames:
            data = await asyncio.wait_for(self.reader.read(65536), 5)
            assert data, "closed"
            self._frames += self._decoder.feed(data)
        return self._frames.pop(0)

    async def closed(self) -> None:
        """Return when the other side has closed the connection."""
        try:
            while await asyncio.wait_for(self.reader.read(65536), 5):
                continue
        except ConnectionError:
            return
        finally:
            self.writer.close()


def test_two_replicas_meet_and_talk_both_ways() -> None:
    async def work(addresses: dict[str, str]) -> None:
        a, b = Node("a", addresses), Node("b", addresses)
        await b.transport.start()
        await a.transport.start()
        await until(lambda: a.up and b.up)
        a.transport.send("b", stale(1))
        b.transport.send("a", stale(2))
        await until(lambda: a.received and b.received)
        assert [each["number"] for each in (*b.received, *a.received)] == [1, 2]
        assert a.transport.client_addresses == {"b": "client b"}
        await a.transport.stop()
        await until(lambda: not b.up)
        await b.transport.stop()
        assert b.events == ["up a", "down a"]

    run(work)


def test_the_dialer_comes_back_by_itself() -> None:
    async def work(addresses: dict[str, str]) -> None:
        a, b = Node("a", addresses), Node("b", addresses)
        await a.transport.start()
        await until(lambda: a.transport.last_problem("b"))
        await b.transport.start()
        await until(lambda: a.up and b.up)
        b.transport.close_links("test")
        await until(lambda: a.events == ["up b", "down b", "up b"])
        await a.transport.stop()
        await b.transport.stop()

    run(work)


def test_another_secret_never_comes_up_and_says_why() -> None:
    async def work(addresses: dict[str, str]) -> None:
        a, b = Node("a", addresses), Node("b", addresses, secret="another")
        await a.transport.start()
        await b.transport.start()
        await until(lambda: "secrets" in (a.transport.last_problem("b") or ""))
        assert not a.events
        assert not b.events
        assert a.transport.refused_count + b.transport.refused_count > 0
        await a.transport.stop()
        await b.transport.stop()

    run(work)


HANDSHAKE_JUNK = {
    "random bytes": bytes(range(256)) * 4,
    "an oversized frame": struct.pack(">I", HELLO_BYTES_MAX + 1),
    "the largest frame": b"\xff\xff\xff\xff",
    "http": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "not a list": encode_frame({"a": 1}),
    "not a hello": encode_frame([b"hello"]),
    "a message": encode_frame({"term": 1, "epoch": 1, "number": 1, "echo": None, "body": {"type": "stale"}}),
    "deep nesting": struct.pack(">I", 50_000) + b"\x91" * 50_000,
}


@pytest.mark.parametrize("junk", HANDSHAKE_JUNK.values(), ids=HANDSHAKE_JUNK)
def test_junk_before_the_handshake_closes_the_connection_and_nothing_else(junk: bytes) -> None:
    async def work(addresses: dict[str, str]) -> None:
        b = Node("b", addresses)
        await b.transport.start()
        good = RawPeer("a", addresses)
        await good.connect(addresses["b"])
        reader, writer = await open_to(addresses["b"])
        writer.write(junk)
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), 5)
        writer.close()
        assert b.events == ["up a"]
        good.writer.close()
        await b.transport.stop()

    run(work)


MESSAGE_JUNK = {
    "another connection's epoch": {**stale(), "epoch": 10**6},
    "an unknown type": {**stale(), "epoch": 1, "body": {"type": "apply_command", "command": b"x"}},
    "no envelope": [1, 2, 3],
    "an entry out of order": {
        **stale(),
        "epoch": 1,
        "body": {
            "type": m.APPEND,
            "term": 1,
            "commit_index": 1,
            "prevLogIdx": 1,
            "prevLogTerm": 0,
            "entries": [[b"\x00x", 9, 1]],
        },
    },
}


@pytest.mark.parametrize("junk", MESSAGE_JUNK.values(), ids=MESSAGE_JUNK)
def test_a_wrong_message_closes_the_connection(junk: Any) -> None:
    async def work(addresses: dict[str, str]) -> None:
        b = Node("b", addresses)
        await b.transport.start()
        peer = RawPeer("a", addresses)
        await peer.connect(addresses["b"])
        peer.writer.write(encode_frame({**stale(7), "epoch": peer.epoch}))
        await until(lambda: b.received)
        peer.writer.write(encode_frame(junk))
        await peer.closed()
        assert b.events == ["up a", "down a"]
        assert len(b.received) == 1
        assert b.transport.last_problem("a")
        await b.transport.stop()

    run(work)


def test_an_oversized_message_closes_at_its_announcement() -> None:
    async def work(addresses: dict[str, str]) -> None:
        b = Node("b", addresses)
        await b.transport.start()
        peer = RawPeer("a", addresses)
        await peer.connect(addresses["b"])
        peer.writer.write(struct.pack(">I", FRAME_BYTES_MAX + 1))
        await peer.closed()
        assert b.events == ["up a", "down a"]
        await b.transport.stop()

    run(work)


def test_a_newer_connection_replaces_the_older_one() -> None:
    async def work(addresses: dict[str, str]) -> None:
        b = Node("b", addresses)
        await b.transport.start()
        peer = RawPeer("a", addresses)
        await peer.connect(addresses["b"])
        old_reader, old_writer, old_epoch = peer.reader, peer.writer, peer.epoch
        await peer.connect(addresses["b"])
        await until(lambda: b.events == ["up a", "down a", "up a"])
        old_writer.write(encode_frame({**stale(1), "epoch": old_epoch}))
        peer.writer.write(encode_frame({**stale(2), "epoch": peer.epoch}))
        await until(lambda: b.received)
        assert [each["number"] for each in b.received] == [2]
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(old_reader.read(), 5) is not None
        old_writer.close()
        peer.writer.close()
        await b.transport.stop()

    run(work)


@pytest.mark.parametrize("part", ["nothing", "half a frame", "a hello and no proof"])
def test_half_a_handshake_and_silence_is_closed(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_module, "SILENCE_S", 0.2)
    monkeypatch.setattr(transport_module, "PING_PERIOD_S", 0.05)

    async def work(addresses: dict[str, str]) -> None:
        b = Node("b", addresses)
        await b.transport.start()
        peer = RawPeer("a", addresses)
        if part == "a hello and no proof":
            await peer.connect(addresses["b"], stop_after_hello=True)
        else:
            peer.reader, peer.writer = await open_to(addresses["b"])
            peer.writer.write(b"" if part == "nothing" else struct.pack(">I", 100) + b"\x91")
        await peer.closed()
        assert not b.events
        await b.transport.stop()

    run(work)


def test_a_peer_that_falls_silent_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport_module, "SILENCE_S", 0.3)
    monkeypatch.setattr(transport_module, "PING_PERIOD_S", 0.05)

    async def work(addresses: dict[str, str]) -> None:
        b = Node("b", addresses)
        await b.transport.start()
        peer = RawPeer("a", addresses)
        await peer.connect(addresses["b"])
        ping = await peer.frame()
        assert ping["body"] == {"type": m.PING}
        peer.writer.write(struct.pack(">I", 1000) + b"\x85")  # half a frame, then nothing
        await peer.closed()
        assert b.events == ["up a", "down a"]
        assert b.transport.last_problem("a") == "silent for too long"
        a = Node("a", addresses)
        await b.transport.stop()
        assert not a.events

    run(work)


def test_connections_without_a_handshake_are_bounded() -> None:
    async def work(addresses: dict[str, str]) -> None:
        b = Node("b", addresses)
        await b.transport.start()
        pairs = [await open_to(addresses["b"]) for _ in range(STRANGERS_MAX + 5)]
        for reader, _ in pairs[:5]:
            assert await asyncio.wait_for(reader.read(), 5) == b""
        peer = RawPeer("a", addresses)
        await peer.connect(addresses["b"])
        await until(lambda: b.up)
        for _, writer in pairs:
            writer.close()
        peer.writer.close()
        await b.transport.stop()

    run(work)


def test_a_refusal_is_told_to_who_dialled() -> None:
    async def work(addresses: dict[str, str]) -> None:
        b = Node("b", addresses)
        await b.transport.start()
        reader, writer = await open_to(addresses["b"])
        fields = msgpack.unpackb(Node("a", addresses).handshake.make_hello("b")[0])
        writer.write(encode_frame([msgpack.packb({**fields, "names": ["a", "b", "z"]})]))
        answer = await asyncio.wait_for(reader.read(), 5)
        ((kind, reason),) = FrameDecoder(1 << 20).feed(answer)
        assert kind == "refused"
        assert "peer lists disagree" in reason
        writer.close()
        await b.transport.stop()

    run(work)


def test_a_port_in_use_is_an_error_at_the_start() -> None:
    async def work(addresses: dict[str, str]) -> None:
        b, twin = Node("b", addresses), Node("b", addresses)
        await b.transport.start()
        with pytest.raises(OSError):
            await twin.transport.start()
        await twin.transport.stop()
        await b.transport.stop()

    run(work)


def test_a_connection_that_is_given_up_before_it_was_made_is_closed() -> None:
    async def work(addresses: dict[str, str]) -> None:
        node = Node("a", addresses)
        link = node.transport._new_link("b")
        node.transport.close_links("stopping")
        assert link.is_closed
        loop, address = asyncio.get_running_loop(), split_address(addresses["b"])
        taken: asyncio.Future[None] = loop.create_future()

        class Taker(asyncio.Protocol):
            def connection_lost(self, error: Exception | None) -> None:
                taken.set_result(None)

        async with await loop.create_server(Taker, *address):
            made, _ = await loop.create_connection(lambda: link, *address)
            assert made.is_closing()
            await asyncio.wait_for(taken, 5)

    run(work)
