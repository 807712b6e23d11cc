"""How long a writing client has to wait when the leader goes.

One client writes without pause. Once per repetition the leader is killed (or asked to stop), and the longest
time between two answers around that moment is what the client saw. Then the replica is started again, so
that three run before the next one.

Invariants:
  1. The pause counts from the last answer before the signal, so that nothing is hidden between them.
  2. A repetition counts only if the term rose: the replica that was ended did lead.
  3. No acknowledged write may be lost: the number that was written last must be there at the end.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import uvloop

from benchmarks.clusters import RaftcoordCluster, raftcoord_cluster
from benchmarks.figures import Figure
from raftcoord import aio
from raftcoord.testing.local_cluster import LocalCluster

REPETITIONS: Final = 20
WATCH_S: Final = 1.0  # how long the client is watched after the replica has ended
SETTLE_S: Final = 0.5
RECOVERY_TIMEOUT_S: Final = 30.0

SIGNALS: Final[dict[str, tuple[str, Callable[[LocalCluster, int], None]]]] = {
    "failover": ("longest pause of a writer after SIGKILL of the leader", LocalCluster.kill),
    "handover": ("longest pause of a writer after SIGTERM of the leader", LocalCluster.stop),
}


@dataclass(slots=True)
class Writer:
    """A client that counts upwards in a variable, and remembers when each answer came."""

    variable: aio.Variable
    written: int = 0
    answered_at: list[float] = field(default_factory=list)
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        while True:
            await self.variable.set(self.written + 1)
            self.written += 1
            self.answered_at.append(time.perf_counter())
            self.answered.set()

    async def wait_answered_since(self, moment: float) -> None:
        while not self.answered_at or self.answered_at[-1] < moment:
            self.answered.clear()
            await self.answered.wait()

    async def check(self) -> None:
        """Raise AssertionError when the last acknowledged write is not there.

        The write that was under way when `run` was cancelled may or may not have been applied.
        """
        found = await self.variable.get()
        if found not in (self.written, self.written + 1):
            raise AssertionError(f"acknowledged {self.written}, found {found!r}")


def longest_pause_s(answered_at: list[float], since: float) -> float:
    """Return the longest time between two neighbouring answers of which the later came after `since`."""
    pairs = itertools.pairwise(answered_at)
    return max((later - earlier for earlier, later in pairs if later > since), default=0.0)


def _term(cluster: LocalCluster, index: int) -> int:
    term = cluster.status(index)["term"]
    assert isinstance(term, int)
    return term


async def _one_change(
    cluster: LocalCluster, writer: Writer, end_replica: Callable[[LocalCluster, int], None]
) -> float:
    writer.answered_at.clear()
    await asyncio.sleep(SETTLE_S)
    leader = await asyncio.to_thread(cluster.leader)
    term = await asyncio.to_thread(_term, cluster, leader)
    since = time.perf_counter()
    await asyncio.to_thread(end_replica, cluster, leader)
    ended = time.perf_counter()
    await asyncio.sleep(WATCH_S)
    async with asyncio.timeout(RECOVERY_TIMEOUT_S):
        await writer.wait_answered_since(ended + WATCH_S)
    pause_s = longest_pause_s(writer.answered_at, since)
    successor = await asyncio.to_thread(cluster.leader)
    if await asyncio.to_thread(_term, cluster, successor) <= term:
        raise AssertionError(f"replica {leader} did not lead when it was ended, so nothing was measured")
    await asyncio.to_thread(cluster.restart, leader)
    await asyncio.to_thread(cluster.wait_ready)
    return pause_s


async def _pauses_s(cluster: RaftcoordCluster, section: str, repetitions: int) -> list[float]:
    _, end_replica = SIGNALS[section]
    async with aio.Client(cluster.address) as client:
        writer = Writer(aio.Variable("failover", client=client))
        writing = asyncio.create_task(writer.run())
        try:
            pauses = [await _one_change(cluster.local, writer, end_replica) for _ in range(repetitions)]
        finally:
            writing.cancel()
            await asyncio.wait([writing])
            if not writing.cancelled() and (error := writing.exception()):
                raise RuntimeError("the writer failed") from error
        await writer.check()
    return pauses


def measure(
    sections: set[str], *, repetitions: int, folder: Path, say: Callable[[str], None]
) -> list[Figure]:
    """Return the figures of `failover` and `handover`, whichever are among `sections`."""
    figures = []
    for section in (name for name in SIGNALS if name in sections):
        with raftcoord_cluster(folder) as cluster:
            pauses = uvloop.run(_pauses_s(cluster, section, repetitions))
        pauses_ms = tuple(1000 * pause for pause in pauses)
        say(f"{section}: " + " ".join(f"{pause:.0f}" for pause in sorted(pauses_ms)) + " ms")
        name = SIGNALS[section][0]
        figures += [
            Figure(
                name=f"{name}, {statistic} of {repetitions}",
                unit="ms",
                section=section,
                values=pauses_ms,
                statistic=statistic,
            )
            for statistic in ("median", "worst")
        ]
    return figures
