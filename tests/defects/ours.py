"""The engine as a backend: all of it but the sockets, on a simulated disk and on the simulated links.

The engine runs on the world's event loop; its connections are replaced by the world's links right after
the start, everything else is what a replica process runs.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from world import Fate, Message, World, Write

from raftcoord.consensus import messages as m
from raftcoord.consensus.core import RaftCore
from raftcoord.consensus.engine import RaftEngine
from raftcoord.consensus.interface import Committed, EngineConfig, NotCommitted, Outcome, Role
from raftcoord.consensus.replica_parts import Parts
from raftcoord.consensus.transport import PeerTransport
from raftcoord.protocol.frames import FrameDecoder, encode_frame
from raftcoord.runtime import Runtime
from raftcoord.runtime.network import ProtocolFactory
from raftcoord.testing.simulation.faulty_disk import FaultyDisk

if TYPE_CHECKING:
    from _typeshed import SupportsLenAndGetItem

_T = TypeVar("_T")
_FRAME_BYTES_MAX = 1 << 30


class SeededRng:
    """Randomness that a test can repeat."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def random(self) -> float:
        return self._random.random()

    def token(self, size_bytes: int) -> bytes:
        return self._random.randbytes(size_bytes)


class WorstCase(random.Random):
    """Chance at its worst for a disk that loses power: nothing that was not synced survives."""

    def random(self) -> float:
        return 1.0

    def choice(self, seq: SupportsLenAndGetItem[_T]) -> _T:
        return seq[0]

    def randint(self, a: int, b: int) -> int:
        return a


class _NoServer:
    """A listener to which nobody comes."""

    def close(self) -> None:
        """Nothing is open."""


class NoNetwork:
    """A network on which nobody can be reached."""

    async def listen(
        self, factory: ProtocolFactory, host: str, port: int, tls: ssl.SSLContext | None = None
    ) -> asyncio.AbstractServer:
        return cast(asyncio.AbstractServer, _NoServer())

    async def connect(
        self, factory: ProtocolFactory, host: str, port: int, tls: ssl.SSLContext | None = None
    ) -> tuple[Any, Any]:
        raise ConnectionRefusedError("there is no network here")


class Values:
    """A state machine that is the list of values applied to it."""

    def __init__(self, world: World | None = None) -> None:
        self.applied: list[bytes] = []
        self.poison: bytes | None = None
        self._world = world

    def apply(self, index: int, payload: bytes) -> int:
        if self._world is not None:
            self._world.clock.time_s += self._world.slow_apply_s
        if payload == self.poison:
            self.applied.append(b"partial")
            raise RuntimeError("poison")
        self.applied.append(bytes(payload))
        return index

    def begin_snapshot(self) -> Iterator[bytes]:
        return iter([b"\x00" + value for value in self.applied])

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.applied = [bytes(chunk[1:]) for chunk in chunks]


class _Links:
    """Stands in for the connections: messages go to the world's links as the frames they would be."""

    def __init__(self, world: World, name: str) -> None:
        self._world, self._name = world, name
        self.client_addresses: dict[str, str] = {}
        self.refused_count = 0
        self.is_open = True

    def send(self, peer: str, envelope: m.Envelope) -> None:
        if self.is_open:
            frame = encode_frame(envelope)
            (message,) = FrameDecoder(_FRAME_BYTES_MAX).feed(frame)
            self._world.send(self._name, peer, cast(Message, message))

    def close_links(self, reason: str) -> None:
        self.is_open = False

    async def stop(self) -> None:
        self.is_open = False

    def last_problem(self, peer: str) -> str | None:
        return None


class OurReplica:
    """See `Replica`."""

    def __init__(self, world: World, name: str, **options: Any) -> None:
        self.name = name
        self.world = world
        self.disk = FaultyDisk()
        self._options = {"segment_bytes": 1 << 16, "trailing_log_bytes": 0, **options}
        self._starts = 0
        self.failures: list[BaseException] = []
        self.ready_terms: list[int] = []
        self.state_machine = Values(world)
        self.engine: RaftEngine

    def __repr__(self) -> str:
        return f"<OurReplica {self.core!r} failures={self.failures}>"

    @property
    def parts(self) -> Parts:
        return self.engine._parts

    @property
    def core(self) -> RaftCore:
        return self.parts.core

    # `EngineListener`

    def on_leader_ready(self, term: int) -> None:
        self.ready_terms.append(term)

    def on_leadership_lost(self) -> None:
        pass

    def after_turn(self) -> None:
        pass

    def on_fatal(self, error: BaseException) -> None:
        self.failures.append(error)

    # `Replica`

    def start(self) -> None:
        self._starts += 1
        self.state_machine = Values(self.world)
        config = EngineConfig(
            name=self.name,
            data_dir="/data",
            peers=dict.fromkeys(self.world.names, "127.0.0.1:1"),
            client_address=f"client of {self.name}",
            **self._options,
        )
        runtime = Runtime(
            clock=self.world.clock,
            rng=SeededRng(f"{self.name} {self._starts}"),
            network=NoNetwork(),
            disk=self.disk,
        )
        self.engine = RaftEngine(config, runtime, self.state_machine, self)
        self.world.loop.run_until_complete(self._start_without_sockets())
        self.world.drain()

    async def _start_without_sockets(self) -> None:
        await self.engine.start()
        await self.parts.transport.stop()
        links = cast(PeerTransport, _Links(self.world, self.name))
        self.engine._parts = replace(self.parts, transport=links)

    def crash(self) -> None:
        self.disk.kill()
        self.parts.transport.close_links("crashed")
        self.world.loop.run_until_complete(self.engine.stop(hand_over=False))

    def lose_power(self) -> None:
        self.disk.lose_power(WorstCase())
        self.crash()

    def disk_state(self) -> Any:
        return self.disk.contents()

    def set_disk_state(self, state: Any) -> None:
        self.disk.put(state)

    def want_tick(self) -> None:
        """Have the engine tick in its next turn, as any message does."""
        self.world.loop.call_soon(self.engine._wake_tick)

    def run(self) -> None:
        self.want_tick()
        self.world.drain()

    def receive(self, sender: str, message: Message) -> None:
        m.require_valid(message)
        self.world.loop.call_soon(self.engine.peer_message, sender, message)
        self.world.drain()

    def link_up(self, peer: str) -> None:
        other = self.world[peer]
        assert isinstance(other, OurReplica)
        self.parts.members.learn(peer, other.parts.folder.identity, {})
        self.world.loop.call_soon(self.engine.peer_up, peer, f"{peer} {other._starts}")
        self.world.drain()

    def link_down(self, peer: str) -> None:
        self.world.loop.call_soon(self.engine.peer_down, peer)
        self.world.drain()

    def propose(self, value: bytes, write: Write) -> None:
        fates = {NotCommitted.NOT_LEADER: Fate.REFUSED, NotCommitted.OUTCOME_UNKNOWN: Fate.UNKNOWN}

        def answered(outcome: Outcome) -> None:
            write.answers.append(Fate.ACKED if isinstance(outcome, Committed) else fates[outcome])

        self.world.loop.call_soon(self.engine.propose, value, answered)

    def begin_snapshot(self, turns: int) -> None:
        self.world.loop.call_soon(self.engine.spawn, self._snapshot())
        self.world.drain(turns)

    async def _snapshot(self) -> None:
        await self.engine.snapshot()

    def snapshot(self) -> None:
        self.world.loop.run_until_complete(self.engine.snapshot())
        self.world.drain()

    def set_election_deadline(self, at: float) -> None:
        self.core.election_deadline = at

    @property
    def is_leader(self) -> bool:
        return self.core.role is Role.LEADER

    @property
    def term(self) -> int:
        return self.core.term

    @property
    def commit_index(self) -> int:
        return self.core.commit_index

    @property
    def applied(self) -> list[bytes]:
        return self.state_machine.applied

    @property
    def log(self) -> list[tuple[bytes, int, int]]:
        return list(self.core.log[0:])

    def match_index(self, peer: str) -> int:
        return self.core.match_index(peer)

    def read(self) -> list[list[bytes]]:
        answers: list[list[bytes]] = []

        def answered(confirmed: bool) -> None:
            if confirmed:
                answers.append(list(self.applied))

        self.world.loop.call_soon(self.engine.read_barrier, answered)
        self.world.drain()
        return answers
