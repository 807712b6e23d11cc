"""Watching a replica from inside: what it adds, syncs, sends, applies and restores is told to the checks.

The engine knows nothing of it: methods of its parts are wrapped right after it has recovered, before it has
run for the first time. Only connections of clients are made as watched ones (see `confirmed.py`). All private
names of production code that the simulation reads are in this file.

Invariants:
  1. A probe changes nothing: it calls what it wraps with the same arguments and returns the same result.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from raftcoord.consensus import messages as m
from raftcoord.consensus.engine import RaftEngine
from raftcoord.consensus.interface import BarrierCallback, Role, StateMachine
from raftcoord.consensus.journal import Journal
from raftcoord.machine import Machine
from raftcoord.server.hello import handle_hello
from raftcoord.server.replica import ReplicaServer
from raftcoord.testing.simulation.confirmed import Confirmations, WatchedConnection
from raftcoord.testing.simulation.raft_checks import DurableLog, Entry, RaftChecks


class Observer(Protocol):
    """Who is told what a state machine is given."""

    def on_applied(self, name: str, index: int, payload: bytes, applied: Any, machine: Machine) -> None: ...

    def on_restored(self, name: str, index: int, machine: Machine) -> None: ...

    def on_snapshot(self, name: str, index: int, machine: Machine) -> None: ...


class WatchedMachine:
    """Stands between the engine and the state machine of one replica."""

    def __init__(self, name: str, inner: StateMachine, machine: Machine, observer: Observer) -> None:
        self._name, self._inner, self._machine, self._observer = name, inner, machine, observer
        self.snapshot_index: Callable[[], int] | None = None  # of the newest snapshot in the store
        self.index = 0

    def __repr__(self) -> str:
        return f"<WatchedMachine of {self._name} index={self.index}>"

    def apply(self, index: int, payload: bytes) -> Any:
        """See `StateMachine.apply`."""
        applied = self._inner.apply(index, payload)
        self.index = index
        self._observer.on_applied(self._name, index, payload, applied, self._machine)
        return applied

    def begin_snapshot(self) -> Iterator[bytes]:
        """See `StateMachine.begin_snapshot`."""
        self._observer.on_snapshot(self._name, self.index, self._machine)
        return self._inner.begin_snapshot()

    def restore(self, chunks: Iterable[bytes]) -> None:
        """See `StateMachine.restore`."""
        self._inner.restore(chunks)
        if self.snapshot_index is not None:
            self.restored(self.snapshot_index())

    def restored(self, index: int) -> None:
        """The machine stands at a snapshot."""
        self.index = index
        self._observer.on_restored(self._name, index, self._machine)


class EngineView:
    """A `ReplicaView` of the real engine."""

    def __init__(self, engine: RaftEngine, incarnation: int) -> None:
        self.name = engine.config.name
        self.incarnation = incarnation
        self.engine = engine
        self.parts = engine._parts
        self._core = engine._core
        self._seen: tuple[int, int, Role, bool] | None = None

    def __repr__(self) -> str:
        return f"<EngineView {self.name}#{self.incarnation} {self._core!r}>"

    def has_changed(self) -> bool:
        """Whether term, commit index, role or readiness are not what they were when this was asked last."""
        core = self._core
        seen = (core.term, core.commit_index, core.role, self.engine.is_ready_leader)
        if seen == self._seen:
            return False
        self._seen = seen
        return True

    @property
    def is_leader(self) -> bool:
        return self._core.role is Role.LEADER

    @property
    def has_failed(self) -> bool:
        return self.engine._failure is not None

    @property
    def is_ready_leader(self) -> bool:
        return self.engine.is_ready_leader

    @property
    def term(self) -> int:
        return self._core.term

    @property
    def vote(self) -> str | None:
        vote: str | None = self._core._SyncObj__votedForNodeId
        return vote

    @property
    def commit_index(self) -> int:
        return self._core.commit_index

    @property
    def applied_index(self) -> int:
        return self._core.applied_index

    @property
    def first_index(self) -> int:
        return self._core.first_index

    @property
    def last_index(self) -> int:
        return self._core.last_index

    @property
    def snapshot_index(self) -> int:
        latest = self.parts.store.latest
        return 0 if latest is None else latest.index

    @property
    def snapshot_term(self) -> int:
        latest = self.parts.store.latest
        return 0 if latest is None else latest.term

    def entry(self, index: int) -> Entry:
        entry: Entry = self._core.log[index - self._core.first_index]
        return entry

    def matches(self) -> dict[str, int]:
        """Return up to which index the leader takes each peer's log for its own."""
        return {str(peer): self._core.match_index(peer) for peer in self._core._nodes}

    def journal_ends(self) -> dict[str, int]:
        """Return behind which byte of each journal file that is or will be written to nothing was written."""
        files = self.parts.journal._files
        return {file.path: file.offset for file in (files._active, files._spare) if file is not None}


def watch_machine(server: ReplicaServer, observer: Observer) -> WatchedMachine:
    """Put an observer between engine and machine; before the server is started."""
    engine: Any = server._engine
    watched = WatchedMachine(server.config.name, engine._state_machine, server._machine, observer)
    engine._state_machine = watched
    return watched


def watch_clients(server: ReplicaServer, confirmations: Confirmations, check: Callable[..., None]) -> None:
    """Have checked what clients are answered; before the server is started.

    Args:
        check: `Scheduler.check`.
    """
    gateway = server.gateway

    def new_connection() -> WatchedConnection:
        return WatchedConnection(gateway, handle_hello, confirmations, check)

    setattr(gateway, "new_connection", new_connection)  # noqa: B010


def watch_engine(
    server: ReplicaServer,
    watched: WatchedMachine,
    incarnation: int,
    checks: RaftChecks,
    confirmations: Confirmations,
    check: Callable[..., None],
    on_message: Callable[[str, str, m.Envelope], None],
) -> EngineView:
    """Tell the checks what a replica recovered, and what it does from now on.

    Args:
        check: `Scheduler.check`.
        on_message: told (sender, receiver, envelope) of every message; may raise to end the sender.
    """
    view = EngineView(server._engine, incarnation)
    journal, store = view.parts.journal, view.parts.store
    if store.latest is not None:
        watched.restored(store.latest.index)
    watched.snapshot_index = lambda: 0 if store.latest is None else store.latest.index
    check(checks.recovered, view, journal.getCurrentTerm(), journal.getVotedForNodeId())
    _watch_journal(view, journal, checks, check)
    _watch_barriers(view.engine, confirmations, check)
    send, handle = view.parts.transport.send, view._core.handle

    def watched_send(peer: str, envelope: m.Envelope) -> None:
        check(checks.said, view, peer, envelope)
        confirmations.on_sent(envelope)
        on_message(view.name, peer, envelope)
        send(peer, envelope)

    def watched_handle(peer: str, message: m.Body) -> None:
        if message["type"] == m.VOTE_REPLY:
            check(checks.takes_vote, view, peer, message["term"])
        handle(peer, message)

    setattr(view.parts.transport, "send", watched_send)  # noqa: B010
    setattr(view._core, "handle", watched_handle)  # noqa: B010
    return view


def _watch_barriers(engine: RaftEngine, confirmations: Confirmations, check: Callable[..., None]) -> None:
    read_barrier, peer_message = engine.read_barrier, engine.peer_message
    confirmations.is_watching = True

    def watched_barrier(callback: BarrierCallback) -> None:
        asked = confirmations.sent

        def watched_callback(passed: bool) -> None:
            if passed:
                check(confirmations.require, asked, "lets a read pass")
            callback(passed)

        read_barrier(watched_callback)

    def watched_message(peer: str, envelope: m.Envelope) -> None:
        confirmations.on_received(peer, envelope)
        peer_message(peer, envelope)

    setattr(engine, "read_barrier", watched_barrier)  # noqa: B010
    setattr(engine, "peer_message", watched_message)  # noqa: B010


def _watch_journal(
    view: EngineView, journal: Journal, checks: RaftChecks, check: Callable[..., None]
) -> None:
    durable: DurableLog = checks.durable[view.name]
    originals = {
        name: getattr(journal, name)
        for name in ("add", "clear", "deleteEntriesFrom", "reset_to", "setCurrentTerm", "sync")
    }
    is_resetting = False

    def add(command: bytes, index: int, term: int) -> None:
        before = journal[-1] if len(journal) else None
        originals["add"](command, index, term)
        durable.pending.append(("add", (index, term)))
        if not is_resetting:
            check(checks.entry_added, view.name, (command, index, term), before[2] if before else None)

    def clear() -> None:
        originals["clear"]()
        durable.pending.append(("clear", None))

    def delete_entries_from(position: int) -> None:
        first = journal.first_index
        if not is_resetting:
            check(checks.removing, view, first + position)
        originals["deleteEntriesFrom"](position)
        durable.pending.append(("truncate", first + position))

    def reset_to(index: int, term: int) -> None:
        nonlocal is_resetting
        is_resetting = True
        try:
            originals["reset_to"](index, term)
        finally:
            is_resetting = False

    def set_current_term(term: int, vote: str | None) -> None:
        originals["setCurrentTerm"](term, vote)
        durable.pending.append(("vote", (term, vote)))

    def sync() -> bool:
        done: bool = originals["sync"]()
        durable.synced()
        durable.snapshot_index = max(durable.snapshot_index, view.snapshot_index)
        return done

    replaced = {
        "add": add,
        "clear": clear,
        "deleteEntriesFrom": delete_entries_from,
        "reset_to": reset_to,
        "setCurrentTerm": set_current_term,
        "sync": sync,
    }
    for name, function in replaced.items():
        setattr(journal, name, function)


def state_of(machine: Machine) -> list[Any]:
    """Return everything that a machine holds, in order, without disturbing a snapshot under way.

    Lines of waiters are looked at themselves: what a snapshot is made of could have them in another order.
    """
    context = machine._context
    values: list[Any] = [machine.now_ms, context.number]
    values.append([session.fields() for session in context.sessions.values()])
    for kind in machine._kinds:
        values.append([item.fields() for item in kind.stored()])
        values.append([list(line) for item in kind.stored() for line in _lines_of(item)])
    return values


def _lines_of(item: Any) -> Iterator[OrderedDict[Any, Any]]:
    for name in type(item).__slots__:
        value = getattr(item, name)
        if isinstance(value, OrderedDict):
            yield value
