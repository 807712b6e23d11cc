"""Taking in a snapshot that a leader sends to this replica.

Invariants:
  1. A snapshot is never installed over newer state: not at or below the commit index, and not when the log
     already holds the entry that it ends with.
  2. The old snapshot stays in force until the new one is verified and durable; the log is reset only then.
  3. While an install is under way no entry is taken into the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from raftcoord.consensus import messages as m
from raftcoord.consensus.core import RaftCore
from raftcoord.consensus.interface import FatalError, Role, StateMachine
from raftcoord.consensus.journal import Journal
from raftcoord.consensus.snapshot_store import SnapshotDamaged, SnapshotReceiver, SnapshotStore

logger = logging.getLogger(__name__)


class SnapshotInstaller:
    """Collects chunks, then installs what they make up.

    Args:
        spawn: runs a coroutine as a task of the engine; an exception in it stops the engine.
        installed: called with (leader, index) when state machine, log and core stand at the snapshot.
    """

    def __init__(
        self,
        *,
        store: SnapshotStore,
        journal: Journal,
        state_machine: StateMachine,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        installed: Callable[[str, int], None],
    ) -> None:
        self._store, self._journal, self._state_machine = store, journal, state_machine
        self._spawn, self._installed = spawn, installed
        self._receiver: SnapshotReceiver | None = None
        self._sender_name = ""
        self._installing = False
        self.core: RaftCore

    def __repr__(self) -> str:
        return f"<SnapshotInstaller installing={self._installing} receiver={self._receiver}>"

    @property
    def is_installing(self) -> bool:
        return self._installing

    def on_chunk(self, peer: str, body: m.Body) -> m.Body | None:
        """Take one chunk; return what to answer, or None when the answer comes after the install."""
        if self._installing:
            return None
        index, term = body["index"], body["index_term"]
        next_index = self._next_index_when_needless(index, term)
        if next_index:
            self._drop_receiver()
            return {"index": index, "offset": 0, "next_index": next_index}
        receiver = self._receiver_for(peer, body)
        if receiver is None:
            return {"index": index, "offset": 0, "next_index": 0}
        receiver.add(body["offset"], body["data"])
        if not receiver.complete:
            return {"index": index, "offset": receiver.received_bytes, "next_index": 0}
        self._receiver, self._installing = None, True
        self._spawn(self._install(peer, receiver))
        return None

    def _next_index_when_needless(self, index: int, term: int) -> int:
        core = self.core
        if index <= core.commit_index:
            return core.commit_index + 1
        if core.first_index <= index <= core.last_index and core.term_at(index) == term:
            # Same entry, so the same log up to there, all of which is committed: keep it and go on.
            core.set_position(applied=core.applied_index, commit=index)
            return index + 1
        return 0

    def _receiver_for(self, peer: str, body: m.Body) -> SnapshotReceiver | None:
        receiver = self._receiver
        if body["offset"] == 0:
            self._drop_receiver()
            self._sender_name = peer
            self._receiver = receiver = self._store.receive(
                index=body["index"], term=body["index_term"], size_bytes=body["size_bytes"]
            )
            logger.info("snapshot_receiving peer=%s index=%d", peer, body["index"])
        if receiver is None or self._sender_name != peer:
            return None
        same = (receiver.index, receiver.term) == (body["index"], body["index_term"])
        return receiver if same else None

    def _drop_receiver(self) -> None:
        if self._receiver is not None:
            self._receiver.discard()
            self._receiver = None

    async def _install(self, peer: str, receiver: SnapshotReceiver) -> None:
        try:
            meta = await self._store.install(receiver)
        except SnapshotDamaged as error:
            logger.warning("snapshot_refused peer=%s error=%s", peer, error)
            self._installing = False
            return
        core = self.core
        try:
            if core.role is Role.LEADER or core.commit_index >= meta.index:
                return  # the store keeps it, and the log, which is newer, goes on from where it is
            self._state_machine.restore(self._store.read())
        except ValueError as error:
            raise FatalError(f"the snapshot of {peer} at index {meta.index} is unusable: {error}") from error
        finally:
            self._installing = False
        self._journal.reset_to(meta.index, meta.term)
        core.set_position(applied=meta.index, commit=meta.index)
        logger.info("snapshot_installed peer=%s index=%d", peer, meta.index)
        self._installed(peer, meta.index)
