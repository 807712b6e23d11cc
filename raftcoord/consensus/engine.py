"""The engine: one replica's part in consensus, as one turn of work per event-loop iteration.

Messages, proposals and timers only mark work and schedule a turn. A turn does, in this order:

  1. sync what the messages added to the journal, then let the answers leave (a follower acknowledges);
  2. one tick of the core: deadlines, commit, apply; sync again if an election changed the vote;
  3. tell outcomes: results of proposals, confirmed reads, leadership;
  4. as leader, add what was proposed meanwhile to the log, send it, and sync it while it travels.

Invariants:
  1. No answer, vote or request for votes leaves before what it says is synced. Only appends do: a leader
     syncs while its followers do, and is done before the next tick, the first that counts its own copy.
  2. Callbacks run in step 3 only; what they propose is taken in step 4 of the same turn.
  3. After a failure nothing leaves any more, and every callback is told that its outcome is unknown.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from raftcoord.consensus.applier import Applier
from raftcoord.consensus.compaction import Compaction
from raftcoord.consensus.core import RaftCore
from raftcoord.consensus.deadline_timer import DeadlineTimer
from raftcoord.consensus.engine_status import engine_status
from raftcoord.consensus.hand_over import HandOver
from raftcoord.consensus.interface import (
    BarrierCallback,
    EngineConfig,
    EngineListener,
    EngineStatus,
    FatalError,
    NotCommitted,
    NotLeaderError,
    ProposalCallback,
    Role,
    StateMachine,
)
from raftcoord.consensus.messages import Envelope
from raftcoord.consensus.proposals import Proposals
from raftcoord.consensus.reads import ReadRounds
from raftcoord.consensus.replica_parts import Parts, open_parts
from raftcoord.consensus.sync_meter import SyncMeter
from raftcoord.runtime import Runtime

logger = logging.getLogger(__name__)


class RaftEngine:
    """The `Engine` of `interface.py`, on PySyncObj's core."""

    def __init__(
        self,
        config: EngineConfig,
        runtime: Runtime,
        state_machine: StateMachine,
        listener: EngineListener,
    ) -> None:
        self.config = config
        self._runtime = runtime
        self._clock = runtime.clock
        self._state_machine = state_machine
        self._listener = listener
        self._reads = ReadRounds()
        self._proposals = Proposals(self._tell)
        self._events: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._incarnations: dict[str, str] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._turn_handle: asyncio.Handle | None = None
        self._timer = DeadlineTimer(runtime.clock, self._wake_tick)
        self._tick_wanted = True
        self._in_turn = False
        self._ready_term = 0  # of the leadership that was announced, 0 when none
        self._hand_over: HandOver | None = None
        self._failure: BaseException | None = None
        self._running = False
        self._parts: Parts
        self._core: RaftCore
        self._compaction: Compaction
        self._applier: Applier
        self._meter: SyncMeter

    def __repr__(self) -> str:
        return f"<RaftEngine {self.config.name} running={self._running} failure={self._failure!r}>"

    # Start and stop.

    async def start(self) -> None:
        """See `Engine.start`."""
        self._parts = parts = open_parts(self.config, self._runtime, self._state_machine, self)
        self._core = parts.core
        self._meter = SyncMeter(parts.journal, self._clock)
        self._compaction = Compaction(
            config=self.config,
            runtime=self._runtime,
            store=parts.store,
            journal=parts.journal,
            core=parts.core,
            state_machine=self._state_machine,
        )
        self._applier = Applier(
            core=parts.core,
            state_machine=self._state_machine,
            clock=self._clock,
            proposals=self._proposals,
            compaction=self._compaction,
        )
        self._running = True
        try:
            await parts.transport.start()
        except OSError:
            await self.stop(hand_over=False)
            raise
        self._wake()

    async def stop(self, *, hand_over: bool = True) -> None:
        """See `Engine.stop`."""
        if not self._running:
            return
        if hand_over and self._core.role is Role.LEADER and self._parts.replication.connected:
            await self.transfer_leadership()
        self._running = False
        self._timer.cancel()
        if self._turn_handle is not None:
            self._turn_handle.cancel()
        await self._parts.transport.stop()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._abandon_all()
        self._run_events()
        self._parts.close()

    def fail(self, error: BaseException) -> None:
        """Stop for good (invariant 3); the listener learns of it in a later iteration."""
        if self._failure is not None:
            return
        self._failure = error
        self._running = False
        logger.critical("engine_failed name=%s error=%r", self.config.name, error)
        self._parts.transport.close_links("this replica failed")
        self._parts.guard.take_outbox()
        self._abandon_all()
        loop = asyncio.get_running_loop()
        loop.call_soon(self._run_events)
        loop.call_soon(self._listener.on_fatal, error)
        self.spawn(self._parts.transport.stop())

    def _abandon_all(self) -> None:
        self._proposals.refuse_waiting()
        self._lose_leadership()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)
        elif self._running:
            self._wake_tick()

    # What the user of the engine asks for.

    @property
    def is_ready_leader(self) -> bool:
        """See `Engine.is_ready_leader`."""
        return self._running and self._ready_term != 0 and self._core.role is Role.LEADER

    def propose(self, payload: bytes, callback: ProposalCallback) -> None:
        """See `Engine.propose`."""
        if not self.is_ready_leader or self._proposals.is_full:
            self._tell(callback, NotCommitted.NOT_LEADER)
        elif len(payload) > self.config.entry_bytes_max:
            raise ValueError(f"entry of {len(payload)} bytes is over {self.config.entry_bytes_max}")
        else:
            self._proposals.add(payload, callback)
        self._wake()

    def hurry(self) -> None:
        """See `Engine.hurry`."""
        if self._turn_handle is not None and not self._in_turn:
            self._turn()

    def read_barrier(self, callback: BarrierCallback) -> None:
        """See `Engine.read_barrier`."""
        if self.is_ready_leader:
            self._reads.add(callback)
        else:
            self._tell(callback, False)
        self._wake()

    def leader_hint(self) -> str | None:
        """See `Engine.leader_hint`."""
        if not self._running:
            return None
        leader = self._core.leader
        if leader == self.config.name:
            return self.config.client_address if self._core.role is Role.LEADER else None
        if leader is None or leader not in self._parts.replication.connected:
            return None
        return self._parts.transport.client_addresses.get(leader)

    @property
    def is_in_touch(self) -> bool:
        """See `Engine.is_in_touch`."""
        return self._running and self._parts.elections.leader_is_alive()

    async def transfer_leadership(self, target: str | None = None) -> bool:
        """See `Engine.transfer_leadership`."""
        if not self._running or self._core.role is not Role.LEADER:
            raise NotLeaderError("this replica does not lead")
        if target is not None and (target not in self.config.peers or target == self.config.name):
            raise ValueError(f"{target!r} is not another member")
        target = target or self._parts.replication.most_advanced()
        if target is None:
            return False
        if self._hand_over is None:
            self._hand_over = HandOver(target)
        self._wake()
        try:
            return await self._hand_over.wait()
        finally:
            self._hand_over = None
            self._wake()

    async def snapshot(self) -> int:
        """See `Engine.snapshot`."""
        if not self._running:
            raise FatalError("the engine is not running")
        return await self._compaction.snapshot_now()

    def status(self) -> EngineStatus:
        """See `Engine.status`."""
        return engine_status(
            config=self.config,
            parts=self._parts,
            compaction=self._compaction,
            ready=self.is_ready_leader,
            leader_client_address=self.leader_hint(),
            counters={
                "syncs": self._meter.count,
                "sync_seconds": self._meter.seconds,
                "read_rounds": self._reads.rounds,
            },
        )

    # The turn.

    def _wake_tick(self) -> None:
        """Schedule a turn that ticks the core: a message, a deadline or a change of peers wants it."""
        self._tick_wanted = True
        self._wake()

    def _wake(self) -> None:
        loop = asyncio.get_running_loop()
        if not self._running:
            loop.call_soon(self._run_events)  # what is asked of a stopped engine is refused, not forgotten
        elif self._turn_handle is None:
            self._turn_handle = loop.call_soon(self._turn)

    def _turn(self) -> None:
        if self._turn_handle is not None:
            self._turn_handle.cancel()
            self._turn_handle = None
        if not self._running:
            return
        self._in_turn = True
        try:
            self._meter.sync()
            self._release()
            if self._tick_wanted:
                self._tick_wanted = False
                self._core.tick()
                self._meter.sync()
                self._after_tick()
            self._run_events()
            self._lead()
            self._release()
            self._meter.sync()
            self._background()
        except Exception as error:
            self.fail(error)
            return
        finally:
            self._in_turn = False
        self._arm_timer()
        self._listener.after_turn()

    def _release(self) -> None:
        send = self._parts.transport.send
        for peer, envelope in self._parts.guard.take_outbox():
            send(peer, envelope)

    def _after_tick(self) -> None:
        core = self._core
        if self._parts.members.is_formed and not self._parts.elections.is_formed:
            self._parts.elections.begin()
        leading = core.role is Role.LEADER
        if leading and self._ready_term != core.term:
            first = core.first_index_of_term
            if first is not None and core.applied_index >= first and core.term_at(first) == core.term:
                self._ready_term = core.term
                self._tell(self._listener.on_leader_ready, core.term)
        if leading and self._ready_term:
            settled = self._reads.settled(self._parts.replication.quorum_answered, core.applied_index)
            for callback in settled:
                self._tell(callback, True)
        if core.applied_index < core.commit_index:
            self._wake_tick()

    def _run_events(self) -> None:
        events = self._events
        while events:
            callback, arguments = events.popleft()
            callback(*arguments)

    def _tell(self, callback: Callable[..., None], *arguments: Any) -> None:
        self._events.append((callback, arguments))

    def _lead(self) -> None:
        """As leader: add to the log, start a round of reads, send."""
        core, parts = self._core, self._parts
        if core.role is not Role.LEADER:
            self._proposals.refuse_waiting()
            if self._events:
                self._wake()
            return
        if self._hand_over is not None:
            # Nothing new: the target must come to hold the whole log. It all goes on if it does not.
            self._hand_over.proceed(core)
        else:
            self._proposals.append_to(core)
        starts_round = self._reads.wants_round
        if starts_round:
            self._reads.start(number_before=parts.guard.number, commit_index=core.commit_index)
            core.heartbeat_sent()
        parts.replication.send(heartbeat=starts_round)
        alone = not parts.replication.has_followers
        if alone and (starts_round or core.commit_index < core.last_index):
            self._wake_tick()  # nobody to wait for: the next tick commits what this turn syncs

    def _background(self) -> None:
        journal = self._parts.journal
        if journal.needs_segment and not self._compaction.is_preparing:
            self.spawn(self._compaction.prepare_segment())
        if self._compaction.is_due and not self._parts.installer.is_installing:
            self.spawn(self._compaction.run())

    def _arm_timer(self) -> None:
        if self._core.role is Role.LEADER:
            due = self._core.heartbeat_due_at
        elif self._parts.elections.is_formed:
            due = self._parts.elections.next_event_at()
        else:
            due = self._clock.now() + self.config.heartbeat_ms / 1000
        self._timer.arm(due)

    # What the transport reports.

    def peer_up(self, peer: str, incarnation: str) -> None:
        """A connection to a peer is up (`PeerListener`)."""
        if self._incarnations.get(peer) != incarnation:
            self._incarnations[peer] = incarnation
            self._core.forget_match(peer)
        self._parts.replication.forget(peer)
        self._parts.replication.connected.add(peer)
        self._core.peer_connected(peer)
        self._wake_tick()

    def peer_down(self, peer: str) -> None:
        """The connection to a peer is gone (`PeerListener`)."""
        self._parts.replication.connected.discard(peer)
        self._parts.replication.forget(peer)
        self._core.peer_disconnected(peer)
        if self._hand_over is not None and self._hand_over.target == peer:
            self._hand_over.target_lost()
        if self._running and self._core.leader == peer and self._core.role is Role.FOLLOWER:
            self._parts.elections.leader_connection_lost(peer)
            self._wake_tick()

    def peer_message(self, peer: str, envelope: Envelope) -> None:
        """A well-formed message of a peer (`PeerListener`)."""
        if not self._running:
            return
        try:
            self._parts.guard.receive(peer, envelope)
        except Exception as error:
            self.fail(error)
            return
        if not self._changes_nothing(peer):
            self._wake_tick()

    def _changes_nothing(self, peer: str) -> bool:
        """Whether no answer of this follower can matter now: mostly the slower one's, all being committed."""
        core = self._core
        return (
            core.role is Role.LEADER
            and core.match_index(peer) == core.last_index
            and self._hand_over is None
            and core.commit_index == core.last_index == core.applied_index
            and not self._reads.is_busy
            and not self._parts.guard.outbox
            and not self._parts.journal.dirty
        )

    # What the core asks for (`CoreHooks`).

    def send_appends(self) -> None:
        """See `CoreHooks`."""
        self._parts.replication.send(heartbeat=True)

    def role_changed(self, old: Role, new: Role) -> None:
        """See `CoreHooks`."""
        logger.info("role_changed from=%s to=%s term=%d", old.value, new.value, self._core.term)
        self._parts.replication.reset()
        if old is Role.LEADER:
            self._lose_leadership()

    def _lose_leadership(self) -> None:
        self._proposals.lose_in_log()
        for read in self._reads.drop_all():
            self._tell(read, False)
        if self._hand_over is not None:
            self._hand_over.leadership_lost()
        if self._ready_term:
            self._ready_term = 0
            self._tell(self._listener.on_leadership_lost)

    def apply_committed(self) -> None:
        """See `CoreHooks`."""
        self._applier.apply_slice()

    # What the installer reports.

    def snapshot_installed(self, peer: str, index: int) -> None:
        """The state machine, log and core stand at a snapshot of the leader's."""
        self._compaction.note_installed(index)
        self._wake_tick()
