"""The leader's side of replication: what each follower is sent, and what its answers prove.

Invariants:
  1. At most `WINDOW` appends with entries, or chunks of a snapshot, are unanswered per follower.
  2. After a follower asked to start again, answers to anything sent before that are not obeyed.
  3. `quorum_answered(n)` is true only if a majority answered an append numbered n or above in this term.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from raftcoord.consensus import messages as m
from raftcoord.consensus.core import Entry, RaftCore
from raftcoord.consensus.guard import Guard
from raftcoord.consensus.snapshot_sender import SnapshotSender, SnapshotSource

logger = logging.getLogger(__name__)

WINDOW: Final = 8
APPEND_BYTES: Final = 1024 * 1024


@dataclass(slots=True)
class Progress:
    """What the leader knows of one follower in this leadership."""

    unanswered: deque[int] = field(default_factory=deque)
    answered: int = 0  # newest append that the follower answered
    restarted_at: int = 0  # newest number sent when the follower last asked to start again
    sender: SnapshotSender | None = None
    chunk_number: int = 0  # of the newest chunk sent


class Replication:
    """Sends appends and snapshots to the connected followers.

    Args:
        snapshots: opens the latest durable snapshot for sending.
    """

    def __init__(self, *, peers: list[str], guard: Guard, snapshots: SnapshotSource) -> None:
        self._peers = sorted(peers)
        self._guard = guard
        self._snapshots = snapshots
        self._progress = {peer: Progress() for peer in self._peers}
        self.connected: set[str] = set()
        self.core: RaftCore

    def __repr__(self) -> str:
        return f"<Replication connected={sorted(self.connected)}>"

    @property
    def has_followers(self) -> bool:
        """Whether there is any other member."""
        return bool(self._peers)

    def reset(self) -> None:
        """A leadership began or ended: nothing learned before counts."""
        for peer in self._peers:
            self.forget(peer)

    def forget(self, peer: str) -> None:
        """The connection to a follower broke, or it is a new incarnation."""
        sender = self._progress[peer].sender
        if sender is not None:
            sender.close()
        self._progress[peer] = Progress()

    # Sending.

    def send(self, *, heartbeat: bool) -> None:
        """Send each follower what it lacks; with `heartbeat`, something to every one of them."""
        for peer in self._peers:
            if peer in self.connected and not self._send_to(peer) and heartbeat:
                self._send_append(peer, [], self._heartbeat_position(peer))

    def _heartbeat_position(self, peer: str) -> int:
        core = self.core
        return max(min(core.next_index(peer) - 1, core.last_index), core.first_index)

    def _send_to(self, peer: str) -> bool:
        core, progress = self.core, self._progress[peer]
        next_index = min(core.next_index(peer), core.last_index + 1)
        if next_index <= core.first_index:
            return self._send_snapshot(peer, progress)
        if progress.sender is not None:
            progress.sender.close()
            progress.sender = None
        sent = False
        while len(progress.unanswered) < WINDOW and next_index <= core.last_index:
            entries = self._entries_from(next_index)
            number = self._send_append(peer, entries, next_index - 1)
            progress.unanswered.append(number)
            next_index += len(entries)
            sent = True
        core.set_next_index(peer, next_index)
        return sent

    def _entries_from(self, index: int) -> list[Entry]:
        log = self.core.log
        position = index - self.core.first_index
        entries: list[Entry] = []
        size_bytes = 0
        while position < len(log):
            entry = log[position]
            size_bytes += len(entry[0])
            if entries and size_bytes > APPEND_BYTES:
                break
            entries.append(entry)
            position += 1
        return entries

    def _send_append(self, peer: str, entries: list[Entry], previous: int) -> int:
        return self._guard.queue(
            peer,
            {
                "type": m.APPEND,
                "term": self.core.term,
                "commit_index": self.core.commit_index,
                "prevLogIdx": previous,
                "prevLogTerm": self.core.term_at(previous),
                "entries": entries,
            },
        )

    def _send_snapshot(self, peer: str, progress: Progress) -> bool:
        if progress.sender is None:
            progress.sender = self._snapshots.open_sender()
            if progress.sender is None:
                return False
            logger.info("snapshot_sending peer=%s index=%d", peer, progress.sender.index)
        bodies = progress.sender.next_chunks()
        for body in bodies:
            chunk = {"type": m.SNAPSHOT_CHUNK, "term": self.core.term, **body}
            progress.chunk_number = self._guard.queue(peer, chunk)
        return bool(bodies)

    # Answers; the guard lets only those of the current term through.

    def on_append_reply(self, peer: str, number: int, body: m.Body) -> None:
        """Take a follower's answer to append `number`."""
        core, progress = self.core, self._progress[peer]
        if body["next_node_idx"] > core.last_index + 1:
            logger.error("reply_beyond_log peer=%s next_index=%d", peer, body["next_node_idx"])
            return
        self._note_answer(progress, number)
        before = core.next_index(peer)
        if body["reset"]:
            if number <= progress.restarted_at:
                # An answer to what was sent before the restart: obeying it would undo the back-off.
                core.handle(peer, {**body, "reset": False, "success": False})
                return
            progress.restarted_at = self._guard.number
            progress.unanswered.clear()
            if progress.sender is not None and number > progress.chunk_number:
                # Answers keep their order, so a chunk without one was dropped: the follower was installing
                # that snapshot, or the one of an earlier leader. Without this it would wait for ever.
                progress.sender.rewind()
        core.handle(peer, body)
        if not body["reset"]:
            # The core moves back to the answered index; what is already on its way is not sent twice.
            core.set_next_index(peer, max(before, core.next_index(peer)))

    def on_snapshot_reply(self, peer: str, number: int, body: m.Body) -> None:
        """Take a follower's answer to a chunk; a next index above 0 means that it is done."""
        progress = self._progress[peer]
        self._note_answer(progress, number)
        # The core only has to see that the follower is alive (check-quorum).
        self.core.handle(peer, {"type": m.APPEND_REPLY, "next_node_idx": 1, "reset": False, "success": False})
        sender = progress.sender
        if sender is None or sender.index != body["index"]:
            return
        if body["next_index"] > 0:
            logger.info("snapshot_sent peer=%s index=%d", peer, sender.index)
            sender.close()
            progress.sender = None
            progress.restarted_at = self._guard.number
            self.core.set_next_index(peer, body["next_index"])
        else:
            sender.on_answer(body["offset"])

    @staticmethod
    def _note_answer(progress: Progress, number: int) -> None:
        progress.answered = max(progress.answered, number)
        unanswered = progress.unanswered
        while unanswered and unanswered[0] <= number:
            unanswered.popleft()

    def quorum_answered(self, number: int) -> bool:
        """Whether a majority, this replica included, answered an append with this number or a later one."""
        count = 1 + sum(progress.answered >= number for progress in self._progress.values())
        return 2 * count > len(self._peers) + 1

    def most_advanced(self) -> str | None:
        """Return the connected follower that holds most of the log."""
        return max(self.connected, key=lambda peer: (self.core.match_index(peer), peer), default=None)
