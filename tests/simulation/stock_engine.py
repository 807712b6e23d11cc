"""The stock library as an `Engine`: its own core, elections, append handling, snapshots and commit rule.

It takes our engine's place in the simulation, to show that the simulator finds what is wrong with it. All
around the core is as kind to it as can be: FIFO connections, no forged or repeated messages, disks that lose
nothing (`stock_core.py`), and a leader counts as ready only when it has applied an entry of its own term (the
library asks for less). What goes wrong is the library's.

No repair of the library may live here, and nothing that production code needs.

Invariants:
  1. A callback is called once: by the library's answer, or when leadership ends before there is one.
  2. A read barrier is what the library's users have: a leader that is ready reads at once.
  3. When `stock_library` is left, everything is as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final
from unittest import mock

import pysyncobj.syncobj as syncobj
from pysyncobj import FAIL_REASON
from stock_core import Hosts, StockCore, StockTransport
from stock_links import Links, Message

from raftcoord.consensus.interface import (
    BarrierCallback,
    Committed,
    Engine,
    EngineConfig,
    EngineListener,
    EngineStatus,
    NotCommitted,
    NotLeaderError,
    PeerStatus,
    ProposalCallback,
    Role,
    StateMachine,
)
from raftcoord.consensus.library import PeerNode
from raftcoord.runtime import Runtime
from raftcoord.server import replica
from raftcoord.server.replica import ReplicaServer
from raftcoord.testing.simulation import world
from raftcoord.testing.simulation.confirmed import Confirmations
from raftcoord.testing.simulation.probe import WatchedMachine
from raftcoord.testing.simulation.raft_checks import Entry, RaftChecks

TICK_S: Final = 0.02
HAND_OVER_S: Final = 2.0
# The library documents these as "without command commit".
_REFUSALS: Final = frozenset(
    {
        FAIL_REASON.QUEUE_FULL,
        FAIL_REASON.MISSING_LEADER,
        FAIL_REASON.DISCARDED,
        FAIL_REASON.NOT_LEADER,
        FAIL_REASON.LEADER_CHANGED,
        FAIL_REASON.REQUEST_DENIED,
    }
)


class StockEngine:
    """The `Engine` of `interface.py`, on the stock library; made by `stock_library`."""

    def __init__(
        self,
        hosts: Hosts,
        config: EngineConfig,
        runtime: Runtime,
        state_machine: StateMachine,
        listener: EngineListener,
    ) -> None:
        self.config = config
        self.on_send: Callable[[str, Message], None] | None = None
        self._hosts, self._runtime = hosts, runtime
        self._state_machine = state_machine
        self._listener = listener
        self._links = Links(config, runtime, self)
        self._tick_s = min(TICK_S, config.heartbeat_ms / 2000)
        self._pending: dict[int, ProposalCallback] = {}
        self._numbers = itertools.count()
        self._events: deque[Callable[[], None]] = deque()
        self._tick_handle: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ready_term = 0  # of the leadership that was announced, 0 when none
        self._running = False
        self.has_failed = False
        self.core: StockCore
        self._transport: StockTransport

    def __repr__(self) -> str:
        return f"<StockEngine {self.config.name} running={self._running} pending={len(self._pending)}>"

    # Start and stop.

    async def start(self) -> None:
        """See `Engine.start`."""
        self._transport = StockTransport(self._send)
        self.core = StockCore(
            self.config,
            self._runtime,
            self._hosts,
            transport=self._transport,
            state_machine=lambda: self._state_machine,
            on_state_changed=self._role_changed,
        )
        self._running = True
        await self._links.start()
        self._wake()

    async def stop(self, *, hand_over: bool = True) -> None:
        """See `Engine.stop`."""
        if not self._running:
            return
        if hand_over and self.core.role_now() is Role.LEADER:
            await self.transfer_leadership()
        self._end()
        await self._links.stop()
        self._run_events()
        self.core.destroy()

    def _end(self) -> None:
        self._running = False
        for handle in (self._tick_handle, self._timer):
            if handle is not None:
                handle.cancel()
        self._lose_leadership()

    def _fail(self, error: BaseException) -> None:
        self.has_failed = True
        self._end()
        loop = asyncio.get_running_loop()
        loop.call_soon(self._run_events)
        loop.call_soon(self._listener.on_fatal, error)

    # What the user of the engine asks for.

    @property
    def is_ready_leader(self) -> bool:
        """See `Engine.is_ready_leader`."""
        return self._running and self._ready_term != 0 and self.core.role_now() is Role.LEADER

    def propose(self, payload: bytes, callback: ProposalCallback) -> None:
        """See `Engine.propose`."""
        if not self.is_ready_leader:
            self._events.append(partial(callback, NotCommitted.NOT_LEADER))
        else:
            number = next(self._numbers)
            self._pending[number] = callback
            with self.core.inside():
                self.core.put(payload, callback=partial(self._answered, number))
        self._wake()

    def _answered(self, number: int, result: Any, reason: int) -> None:
        callback = self._pending.pop(number, None)
        if callback is None:
            return  # told already, when leadership ended
        if reason == FAIL_REASON.SUCCESS:
            self._events.append(partial(callback, Committed(self.core.raftLastApplied + 1, result)))
        elif reason in _REFUSALS:
            self._events.append(partial(callback, NotCommitted.NOT_LEADER))
        else:
            self._events.append(partial(callback, NotCommitted.OUTCOME_UNKNOWN))

    def hurry(self) -> None:
        """See `Engine.hurry`; the library sends with its next heartbeat, whatever is done here."""

    def read_barrier(self, callback: BarrierCallback) -> None:
        """See `Engine.read_barrier`, and invariant 3."""
        callback(self.is_ready_leader)

    def leader_hint(self) -> str | None:
        """See `Engine.leader_hint`."""
        leader = self.core.leader_name() if self._running else None
        if leader == self.config.name:
            return self.config.client_address if self.core.role_now() is Role.LEADER else None
        if leader is None or not self._links.is_up(leader):
            return None
        return self._links.client_addresses.get(leader)

    @property
    def is_in_touch(self) -> bool:
        """See `Engine.is_in_touch`; the library does not tell when it heard its leader."""
        return self.leader_hint() is not None

    async def transfer_leadership(self, target: str | None = None) -> bool:
        """See `Engine.transfer_leadership`; asks until the library agrees that the target is up to date."""
        if not self._running or self.core.role_now() is not Role.LEADER:
            raise NotLeaderError("this replica does not lead")
        if target is not None and (target not in self.config.peers or target == self.config.name):
            raise ValueError(f"{target!r} is not another member")
        node = None if target is None else PeerNode(target)
        reasons: list[int] = []
        deadline = self._runtime.clock.now() + HAND_OVER_S
        while self._leads() and self._runtime.clock.now() < deadline:
            if FAIL_REASON.SUCCESS not in reasons:
                with self.core.inside():
                    self.core.transferLeadership(node, lambda _, reason: reasons.append(reason))
            await asyncio.sleep(self._tick_s)
        return not self._leads()

    def _leads(self) -> bool:
        return self._running and self.core.role_now() is Role.LEADER

    async def snapshot(self) -> int:
        """See `Engine.snapshot`."""
        with self.core.inside():
            self.core.forceLogCompaction()
        await asyncio.sleep(2 * self._tick_s)
        return self.core.dump_index

    def status(self) -> EngineStatus:
        """See `Engine.status`."""
        core, log = self.core, self.core.log_now()
        return EngineStatus(
            name=self.config.name,
            identity="stock",
            role=core.role_now(),
            term=core.raftCurrentTerm,
            leader=core.leader_name(),
            leader_client_address=self.leader_hint(),
            ready=self.is_ready_leader,
            formed=True,
            first_index=log[0][1],
            last_index=log[-1][1],
            commit_index=core.raftCommitIndex,
            applied_index=core.raftLastApplied,
            snapshot_index=core.dump_index,
            log_bytes=sum(len(entry[0]) for entry in log[0:]),
            peers=tuple(
                PeerStatus(name=peer, address=address, connected=self._links.is_up(peer))
                for peer, address in sorted(self.config.peers.items())
                if peer != self.config.name
            ),
        )

    # Ticks.

    def _wake(self) -> None:
        loop = asyncio.get_running_loop()
        if not self._running:
            loop.call_soon(self._run_events)
        elif self._tick_handle is None:
            self._tick_handle = loop.call_soon(self._tick)

    def _tick(self) -> None:
        self._tick_handle = None
        if self._timer is not None:
            self._timer.cancel()
        try:
            with self.core.inside():
                self.core.doTick(0.0)
        except Exception as error:
            self._fail(error)
            return
        self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._wake)
        core, term = self.core, self.core.raftCurrentTerm
        is_ready = core.role_now() is Role.LEADER and core.isReady() and core.has_applied_own_term()
        if is_ready and self._ready_term != term:
            self._ready_term = term
            self._events.append(partial(self._listener.on_leader_ready, term))
        self._run_events()
        self._listener.after_turn()

    def _run_events(self) -> None:
        while self._events:
            self._events.popleft()()

    # What the library calls.

    def _role_changed(self, old: Role, _new: Role) -> None:
        if old is Role.LEADER:
            self._lose_leadership()

    def _lose_leadership(self) -> None:
        pending, self._pending = self._pending, {}
        for callback in pending.values():
            self._events.append(partial(callback, NotCommitted.OUTCOME_UNKNOWN))
        if self._ready_term:
            self._ready_term = 0
            self._events.append(self._listener.on_leadership_lost)

    def _send(self, peer: str, message: Message) -> bool:
        if self.on_send is not None:
            self.on_send(peer, message)
        return self._links.send(peer, message)

    # What connections report (`LinkOwner`).

    def link_up(self, peer: str) -> None:
        """A peer is connected."""
        with self.core.inside():
            self._transport.connected(peer)
        self._wake()

    def link_down(self, peer: str) -> None:
        """A peer is connected no more."""
        with self.core.inside():
            self._transport.disconnected(peer)
        self._wake()

    def link_message(self, peer: str, message: Message) -> None:
        """A peer says something."""
        if not self._running:
            return
        try:
            with self.core.inside():
                self._transport.arrived(peer, message)
        except Exception as error:
            self._fail(error)
            return
        self._wake()


class StockView:
    """A `ReplicaView` of the stock library, with what the simulation asks for besides."""

    snapshot_index: Final = 0

    def __init__(self, engine: StockEngine, incarnation: int) -> None:
        self.name = engine.config.name
        self.incarnation = incarnation
        self.engine = engine
        self._core = engine.core

    def __repr__(self) -> str:
        return (
            f"<StockView {self.name}#{self.incarnation} {self._core.role_now().value} term={self.term} "
            f"commit={self.commit_index} applied={self.applied_index} last={self.last_index}>"
        )

    @property
    def has_failed(self) -> bool:
        return self.engine.has_failed

    def has_changed(self) -> bool:
        """See `EngineView.has_changed`."""
        return True

    @property
    def is_leader(self) -> bool:
        return self._core.role_now() is Role.LEADER

    @property
    def is_ready_leader(self) -> bool:
        return self.engine.is_ready_leader

    @property
    def term(self) -> int:
        term: int = self._core.raftCurrentTerm
        return term

    @property
    def vote(self) -> str | None:
        return None  # asked only of who recovers from a disk

    @property
    def snapshot_term(self) -> int:
        return 0

    def matches(self) -> dict[str, int]:
        """See `EngineView.matches`: without disks there is nothing to compare them with."""
        return {}

    def journal_ends(self) -> dict[str, int]:
        """See `EngineView.journal_ends`: its journal is made perfect, and is not on the simulated disk."""
        return {}

    @property
    def commit_index(self) -> int:
        index: int = self._core.raftCommitIndex
        return index

    @property
    def applied_index(self) -> int:
        index: int = self._core.raftLastApplied
        return index

    @property
    def first_index(self) -> int:
        index: int = self._core.log_now()[0][1]
        return index

    @property
    def last_index(self) -> int:
        index: int = self._core.log_now()[-1][1]
        return index

    def entry(self, index: int) -> Entry:
        entry: Entry = self._core.log_now()[index - self.first_index]
        return entry


def watch_stock_engine(
    server: ReplicaServer,
    watched: WatchedMachine,
    incarnation: int,
    _checks: RaftChecks,
    _confirmations: Confirmations,
    _check: Callable[..., None],
    on_message: Callable[[str, str, dict[str, Any]], None],
) -> StockView:
    """Take the place of `watch_engine`: nothing is checked of disks, nor of messages."""
    engine: Any = server._engine
    view = StockView(engine, incarnation)
    watched.snapshot_index = lambda: engine.core.dump_index
    engine.on_send = lambda peer, message: on_message(view.name, peer, {"body": message})
    return view


@contextlib.contextmanager
def stock_library() -> Iterator[None]:
    """Let every replica that is simulated inside the block run the stock library."""
    with tempfile.TemporaryDirectory() as folder:
        hosts = Hosts(Path(folder))

        def make(
            config: EngineConfig, runtime: Runtime, state_machine: StateMachine, listener: EngineListener
        ) -> Engine:
            return StockEngine(hosts, config, runtime, state_machine, listener)

        with (
            mock.patch.object(replica, "RaftEngine", make),
            mock.patch.object(world, "watch_engine", watch_stock_engine),
            mock.patch.object(syncobj, "random", hosts.randomness),
        ):
            yield
