"""A deterministic world for a handful of replicas: simulated time, links that the test delivers by hand.

Scenarios are written once, against `Replica`, and run on two backends: the stock library (`stock.py`) and
the whole engine (`ours.py`). Nothing here knows either of them.

Invariants:
  1. Nothing happens by itself: time passes in `advance`, messages arrive in `deliver` and what builds on it.
  2. A link is a FIFO; it loses messages only when it is cut, or when a scenario takes them out of its queue.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

Message = dict[str, Any]
Link = tuple[str, str]  # sender, receiver

FAR_S = 1e6
ROUNDS_MAX = 60


class SimClock:
    """Time that passes when told to, and by `creep_s` whenever it is read."""

    def __init__(self) -> None:
        self.time_s = 1000.0
        self.creep_s = 0.0

    def now(self) -> float:
        self.time_s += self.creep_s
        return self.time_s


class SimLoop(asyncio.SelectorEventLoop):
    """An event loop whose timers follow a `SimClock`."""

    def __init__(self, clock: SimClock) -> None:
        super().__init__()
        self._clock = clock

    def time(self) -> float:
        return self._clock.time_s


class Fate(Enum):
    """What a client knows of its write."""

    OPEN = "open"
    ACKED = "acknowledged"
    REFUSED = "refused: it will never take effect"
    UNKNOWN = "outcome unknown"


@dataclass
class Write:
    """One write of a client, and every answer to it."""

    value: bytes
    answers: list[Fate] = field(default_factory=list)

    @property
    def fate(self) -> Fate:
        return self.answers[-1] if self.answers else Fate.OPEN

    @property
    def is_acked(self) -> bool:
        return Fate.ACKED in self.answers


class Replica(Protocol):
    """What a scenario may ask of a replica of either backend."""

    name: str

    def start(self) -> None:
        """Begin, or begin again, from what is on the disk."""

    def crash(self) -> None:
        """End without a word; the disk keeps what reached it."""

    def run(self) -> None:
        """Do what is due now."""

    def receive(self, sender: str, message: Message) -> None: ...

    def link_up(self, peer: str) -> None: ...

    def link_down(self, peer: str) -> None: ...

    def propose(self, value: bytes, write: Write) -> None:
        """Pass a client's write on; it is taken in when the loop runs next, or when the replica does."""

    def begin_snapshot(self, turns: int) -> None:
        """Begin a snapshot and get as far with it as so many turns of the event loop take it."""

    def snapshot(self) -> None:
        """Write a snapshot and compact the log behind it."""

    def lose_power(self) -> None:
        """Crash, and keep nothing on the disk that was never synced."""

    def disk_state(self) -> Any:
        """Return a copy of what is on the disk now."""

    def set_disk_state(self, state: Any) -> None:
        """Put a crashed replica's disk back to an earlier state."""

    def read(self) -> list[list[bytes]]:
        """Read all values as a client would; what is returned gets the answer when there is one."""

    def set_election_deadline(self, at: float) -> None: ...

    @property
    def is_leader(self) -> bool: ...

    @property
    def term(self) -> int: ...

    @property
    def commit_index(self) -> int: ...

    @property
    def applied(self) -> list[bytes]:
        """All values that this replica's state machine applied, in order."""

    @property
    def log(self) -> list[tuple[bytes, int, int]]:
        """Entries held: command, index, term."""

    def match_index(self, peer: str) -> int:
        """What this replica, as leader, takes for replicated on `peer`."""


class World:
    """Replicas, their links, and the one clock.

    Args:
        folder: a real folder for backends that need one.
        make: builds one replica of the backend under test.
    """

    def __init__(self, names: str, *, folder: Path, make: Callable[[World, str], Replica]) -> None:
        self.names = list(names)
        self.folder = folder
        self.clock = SimClock()
        self.loop = SimLoop(self.clock)
        self.links: dict[Link, deque[Message]] = {(a, b): deque() for a in names for b in names if a != b}
        self.down = set(self.links)
        self.sent: Counter[tuple[str, str, str]] = Counter()
        self.holds_elections = True
        self.slow_apply_s = 0.0  # how long the state machine takes for one value
        self.shrunk = 0  # how often a log became shorter, as counted by a scenario
        self.on_send: Callable[[str, str, Message], bool] | None = None
        self.replicas = {name: make(self, name) for name in self.names}
        self.alive: set[str] = set()

    def __getitem__(self, name: str) -> Replica:
        return self.replicas[name]

    def open(self, *, joined: bool) -> None:
        """Start all replicas, and connect them."""
        for name in self.names:
            self.alive.add(name)
            self.replicas[name].start()
        if joined:
            self.join()
            self.settle(0.5)

    def close(self) -> None:
        """End all replicas, whatever state they are in."""
        try:
            for name in sorted(self.alive):
                self.replicas[name].crash()
            self.drain(20)
        finally:
            self.loop.close()

    # Time.

    def drain(self, turns: int = 12) -> None:
        """Let everything that is ready run; nothing waits for real time."""

        async def spin() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.loop.run_until_complete(spin())

    def _hold(self) -> None:
        if self.holds_elections:
            for name in self.alive:
                if not self.replicas[name].is_leader:
                    self.replicas[name].set_election_deadline(self.clock.time_s + FAR_S)

    def advance(self, seconds: float) -> None:
        """Let time pass; nobody runs meanwhile."""
        self._hold()
        self.clock.time_s += seconds

    def run(self, *names: str) -> None:
        """Let the replicas (all of them by default) do what is due now."""
        self._hold()
        for name in names or sorted(self.alive):
            if name in self.alive:
                self.replicas[name].run()

    # Links.

    def send(self, sender: str, receiver: str, message: Message) -> bool:
        """Take a message from a replica; a private copy of it waits in the link."""
        if (sender, receiver) in self.down or receiver not in self.alive:
            return False
        if self.on_send is not None and not self.on_send(sender, receiver, message):
            return True
        self.sent[sender, receiver, kind_of(message)] += 1
        self.links[sender, receiver].append(message)
        return True

    def join(self, *pairs: str) -> None:
        """Connect pairs such as "AB"; all of them by default."""
        for pair in pairs or [a + b for a in self.names for b in self.names if a < b]:
            a, b = pair[0], pair[1]
            if a in self.alive and b in self.alive and (a, b) in self.down:
                self.down -= {(a, b), (b, a)}
                self.replicas[a].link_up(b)
                self.replicas[b].link_up(a)
                self._hold()

    def cut(self, *pairs: str, noticed: bool = True) -> None:
        """Break the connections of pairs such as "AB"; what is on its way is lost."""
        for pair in pairs:
            a, b = pair[0], pair[1]
            if (a, b) in self.down:
                continue
            self.down |= {(a, b), (b, a)}
            self.links[a, b].clear()
            self.links[b, a].clear()
            if noticed:
                for name, peer in ((a, b), (b, a)):
                    if name in self.alive:
                        self.replicas[name].link_down(peer)
                        self._hold()

    def isolate(self, name: str, *, noticed: bool = True) -> None:
        self.cut(*(name + other for other in self.names if other != name), noticed=noticed)

    def deliver(self, sender: str, receiver: str, count: int | None = None) -> int:
        """Deliver up to `count` messages of one link, in order; return how many."""
        queue, done = self.links[sender, receiver], 0
        while queue and (count is None or done < count):
            message = queue.popleft()
            done += 1
            if receiver in self.alive:
                self.replicas[receiver].receive(sender, message)
        self._hold()
        return done

    def deliver_all(self, among: Iterable[str] | None = None) -> None:
        """Deliver until nothing is on its way between `among` (all by default)."""
        names = set(among or self.names)
        for _ in range(ROUNDS_MAX):
            if not sum(self.deliver(a, b) for a, b in sorted(self.links) if {a, b} <= names):
                return

    def settle(self, seconds: float, among: Iterable[str] | None = None, *, step_s: float = 0.11) -> None:
        """Let time pass in steps, with everybody running and messages arriving among the given ones."""
        members = sorted(set(among or self.names))
        for _ in range(int(seconds / step_s) + 1):
            self.advance(step_s)
            self.run(*members)
            self.deliver_all(members)

    # Scripts.

    def crash(self, name: str, *, power: bool = True) -> None:
        """End a replica; what it sent already still arrives, what was sent to it is lost."""
        self.alive.discard(name)
        if power:
            self.replicas[name].crash()
        else:
            self.replicas[name].lose_power()
        for other in self.names:
            if other != name and (name, other) not in self.down:
                self.down |= {(name, other), (other, name)}
                self.links[other, name].clear()
                if other in self.alive:
                    self.replicas[other].link_down(name)
                    self._hold()

    def restart(self, name: str, *peers: str) -> None:
        """Start a crashed replica from its disk and connect it to `peers` (none by default)."""
        self.alive.add(name)
        for other in self.names:
            if other != name:
                self.links[other, name].clear()
                self.links[name, other].clear()
        self.replicas[name].start()
        self._hold()
        for peer in peers:
            self.join(min(name, peer) + max(name, peer))

    def restart_all(self, *, power: bool = True) -> None:
        """Crash everybody, with or without the power, then start everybody again."""
        for name in sorted(self.alive):
            self.crash(name, power=power)
        for name in self.names:
            self.restart(name)
        self.join()

    def campaign(self, name: str) -> None:
        """Let one replica's election deadline pass after everybody's leader fell silent."""
        self.advance(1.0)
        self.replicas[name].set_election_deadline(self.clock.time_s - 0.01)
        self.replicas[name].run()

    def elect(self, name: str, among: Iterable[str] | None = None) -> None:
        """Make one replica the leader by votes of `among` (all by default)."""
        members = set(among or self.names) & self.alive
        self.campaign(name)
        for _ in range(6):
            for voter in sorted(members - {name}):
                self.deliver(name, voter)
                self.deliver(voter, name)
            if self.replicas[name].is_leader:
                break
            self.replicas[name].set_election_deadline(self.clock.time_s - 0.01)
            self.replicas[name].run()
        assert self.replicas[name].is_leader, f"{name} was not elected: {self.replicas[name]!r}"
        self.deliver_all(members)
        self.settle(0.2, members)

    def candidacy(self, name: str, among: Iterable[str]) -> None:
        """Bring one replica to where its requests for votes are on their way, and nothing else is."""
        self.campaign(name)
        helpers = sorted(set(among) - {name})
        for _ in range(6):
            if any(kind_of(message) == "request_vote" for message in self.links[name, helpers[0]]):
                break
            for helper in helpers:
                self.deliver(name, helper)
                self.deliver(helper, name)
            self.replicas[name].set_election_deadline(self.clock.time_s - 0.01)
            self.replicas[name].run()
        for (sender, _), queue in self.links.items():
            kept = [message for message in queue if sender == name and kind_of(message) == "request_vote"]
            queue.clear()
            queue.extend(kept)

    def write(self, name: str, *values: bytes) -> list[Write]:
        """Propose values at one replica."""
        writes = []
        for value in values:
            write = Write(value)
            self.replicas[name].propose(value, write)
            writes.append(write)
        self.drain()
        return writes

    def leaders(self) -> list[str]:
        return [name for name in sorted(self.alive) if self.replicas[name].is_leader]


def kind_of(message: Message) -> str:
    """Return the type of a message of either backend."""
    kind: str = message.get("body", message)["type"]
    return kind


def lost(writes: Iterable[Write], *replicas: Replica) -> list[str]:
    """Complain about acknowledged writes that a replica did not apply."""
    return [
        f"{write.value!r:.20} was acknowledged, {replica.name} applied {len(replica.applied)} without it"
        for replica in replicas
        for write in writes
        if write.is_acked and write.value not in replica.applied
    ]


def diverged(*replicas: Replica) -> list[str]:
    """Complain when one replica's applied values are no prefix of another's."""
    longest = max((replica.applied for replica in replicas), key=len)
    return [
        f"{replica.name} applied {replica.applied!r:.80}, another replica {longest!r:.80}"
        for replica in replicas
        if replica.applied != longest[: len(replica.applied)]
    ]


def body_of(message: Message) -> dict[str, Any]:
    """Return the part of a message that the core reads."""
    body: dict[str, Any] = message.get("body", message)
    return body
