"""Whole engines on loopback sockets in one event loop, each on a disk of its own that can fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

from loopback import free_addresses, until
from ours import Values

from raftcoord.consensus.engine import RaftEngine
from raftcoord.consensus.interface import Committed, EngineConfig, Outcome
from raftcoord.runtime import Runtime
from raftcoord.testing.simulation.faulty_disk import FaultyDisk


class SlowValues(Values):
    """Values whose snapshots take many turns of the loop."""

    def begin_snapshot(self) -> Iterator[bytes]:
        frozen = list(self.applied)
        return (b"\x00" + value for value in frozen)


class Member:
    """One replica: its disk outlives its engine."""

    def __init__(self, name: str, peers: dict[str, str], **options: Any) -> None:
        self.name = name
        self.disk = FaultyDisk()
        self.values = SlowValues()
        self.failures: list[BaseException] = []
        self.events: list[str] = []
        self.engine: RaftEngine
        self._config = EngineConfig(
            name=name,
            data_dir="/data",
            peers=peers,
            client_address=f"client {name}",
            secret="secret",
            segment_bytes=1 << 16,
            **options,
        )

    def __repr__(self) -> str:
        return f"<Member {self.name} {self.engine.status()}>"

    def on_leader_ready(self, term: int) -> None:
        self.events.append(f"ready {term}")

    def on_leadership_lost(self) -> None:
        self.events.append("lost")

    def after_turn(self) -> None:
        pass

    def on_fatal(self, error: BaseException) -> None:
        self.failures.append(error)

    async def start(self) -> None:
        self.values = SlowValues()
        self.engine = RaftEngine(self._config, Runtime(disk=self.disk), self.values, self)
        await self.engine.start()

    async def kill(self) -> None:
        """End as SIGKILL does: files and sockets are gone, nobody is told."""
        self.disk.kill()
        await self.engine.stop(hand_over=False)

    async def propose(self, value: bytes) -> Outcome:
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.engine.propose(value, done.set_result)
        return await asyncio.wait_for(done, 10)

    async def barrier(self) -> bool:
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.engine.read_barrier(done.set_result)
        return await asyncio.wait_for(done, 10)


class Cluster:
    """Members by name."""

    def __init__(self, names: str, **options: Any) -> None:
        peers = dict(zip(names, free_addresses(len(names)), strict=True))
        self.members = {name: Member(name, peers, **options) for name in names}
        self.acked: list[bytes] = []

    def __getitem__(self, name: str) -> Member:
        return self.members[name]

    @property
    def running(self) -> list[Member]:
        return [member for member in self.members.values() if member.engine._running]

    async def leader(self) -> Member:
        """Return the ready leader, when there is one."""
        await until(lambda: any(member.engine.is_ready_leader for member in self.running))
        return next(member for member in self.running if member.engine.is_ready_leader)

    async def followers(self) -> list[Member]:
        leader = await self.leader()
        return [member for member in self.running if member is not leader]

    async def write(self, *values: bytes) -> None:
        """Have values acknowledged by whoever leads; all of them are on their way at once."""
        leader = await self.leader()
        outcomes = await asyncio.gather(*(leader.propose(value) for value in values))
        assert all(isinstance(outcome, Committed) for outcome in outcomes), outcomes
        self.acked += values

    async def agree(self) -> None:
        """Return when every running replica applied what was acknowledged, in the same order."""
        await until(
            lambda: (
                len({tuple(member.values.applied) for member in self.running}) == 1
                and set(self.acked) <= set(self.running[0].values.applied)
            )
        )


@asynccontextmanager
async def cluster(names: str = "abc", **options: Any) -> AsyncIterator[Cluster]:
    running = Cluster(names, **options)
    for member in running.members.values():
        await member.start()
    try:
        yield running
    finally:
        for member in running.members.values():
            await member.engine.stop(hand_over=False)


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test's coroutine; nothing in it may take a minute."""
    asyncio.run(asyncio.wait_for(work(), 60))
