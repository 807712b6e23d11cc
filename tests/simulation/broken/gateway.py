"""Broken variants: what a replica tells clients, and when it takes one for dead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

from broken.registry import patched, variant
from raftcoord.consensus.engine import RaftEngine
from raftcoord.consensus.reads import ReadRounds
from raftcoord.consensus.replication import Replication
from raftcoord.server import control, hello
from raftcoord.server.connection import Connection
from raftcoord.server.session_clock import SessionClock

# Reads.


@variant
def reads_without_quorum_round() -> Iterator[None]:
    """A replica that takes itself for the leader answers reads without asking anybody."""

    def broken(engine: Any, callback: Any) -> None:
        engine._tell(callback, engine.is_ready_leader)
        engine._wake()

    with patched(RaftEngine, read_barrier=broken):
        yield


@variant
def reads_join_round_under_way() -> Iterator[None]:
    """A read is confirmed by a round that began before it arrived."""
    add = ReadRounds.add

    def broken(self: Any, callback: Any) -> None:
        if self._under_way:
            self._under_way.append(callback)
        else:
            add(self, callback)

    with patched(ReadRounds, add=broken):
        yield


@variant
def stale_answers_counted() -> Iterator[None]:
    """A follower that once answered this leader confirms all its reads from then on."""
    note, forget = Replication._note_answer, Replication.forget

    def broken_note(progress: Any, number: int) -> None:
        note(progress, number)
        progress.answered = 2**60

    def broken_forget(self: Any, peer: str) -> None:
        answered = self._progress[peer].answered
        forget(self, peer)
        self._progress[peer].answered = answered

    with patched(Replication, _note_answer=staticmethod(broken_note), forget=broken_forget):
        yield


# Sessions.


@variant
def keep_alive_without_barrier() -> Iterator[None]:
    """A keep-alive is answered at once, also by a leader that was deposed and does not know it."""

    def broken(gateway: Any, connection: Any, identifier: int, arguments: list[Any]) -> None:
        control.answer_keep_alive(gateway, connection, identifier)

    with mock.patch.dict(control._TABLE, {"keep_alive": (broken, 0)}):
        yield


@variant
def attached_without_barrier() -> Iterator[None]:
    """A session is attached at once, also by a leader that was deposed and does not know it."""

    def broken(gateway: Any, connection: Any, options: Any) -> bool:
        hello._attach(gateway, connection, options.session, options.nonce)
        return True

    with patched(hello, _begin_attach=broken):
        yield


@variant
def ttl_not_restarted_by_new_leader() -> Iterator[None]:
    """A new leader takes sessions for silent since before it led."""
    lead = SessionClock.lead

    def broken(self: Any, sessions: Any) -> None:
        lead(self, ())
        for view in sessions:
            self.opened(view)
            entry = self.entries[view.id]
            entry.heard_at -= 0.9 * entry.ttl_ms / 1000
            self._deadlines.add(entry)

    with patched(SessionClock, lead=broken):
        yield


@variant
def keep_alives_do_not_renew() -> Iterator[None]:
    """What a client sends does not put off the expiry of its session."""
    data_received = Connection.data_received

    def broken(connection: Any, data: bytes) -> None:
        entry = connection.entry
        heard_at = None if entry is None else entry.heard_at
        data_received(connection, data)
        if entry is not None:
            entry.heard_at = heard_at

    with patched(Connection, data_received=broken):
        yield


@variant
def dead_sessions_never_expire() -> Iterator[None]:
    """The expiry of a session is never proposed."""
    with patched(SessionClock, _expire=lambda self, due: None):
        yield
