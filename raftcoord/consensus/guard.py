"""The guard between the network and the core: what the core would get wrong never reaches it.

The core trusts every message. The guard stamps what leaves, and checks what arrives against term, sender
and log, rewriting an append so that the core does exactly what Raft asks and its answer says exactly what
was verified. It holds no socket: outgoing messages wait in `outbox` until the engine releases them, which
it does only after the journal is durable (except for appends, which may overtake the leader's own sync).

Invariants (`tests/unit/test_guard.py` cites them):
  1. Entries that match the leader's are never truncated, and nothing at or below the commit index ever is.
  2. A positive answer to an append covers exactly the entries that were compared with that append.
  3. The commit index never passes what was verified to match the leader's log.
  4. An answer counts only for the term and leadership in which its append was sent.
  5. Each member's vote counts once a term; strangers and unformed members count for nothing.
  6. While a leader is heard, no vote is given, unless that leader hands over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from raftcoord.consensus import messages as m
from raftcoord.consensus.core import RaftCore
from raftcoord.consensus.elections import Elections
from raftcoord.consensus.interface import FatalError, Role
from raftcoord.consensus.library import Node, Transport

logger = logging.getLogger(__name__)

_FAR_BEYOND = 10**12  # no log is that long: the core answers "no such entry" and touches nothing


class LeaderSide(Protocol):
    """Takes the answers to what this replica sent as leader."""

    def on_append_reply(self, peer: str, number: int, body: m.Body) -> None: ...

    def on_snapshot_reply(self, peer: str, number: int, body: m.Body) -> None: ...


class SnapshotSink(Protocol):
    """Takes the chunks of a snapshot that a leader sends; returns the reply, or None for later."""

    def on_chunk(self, peer: str, body: m.Body) -> m.Body | None: ...

    @property
    def is_installing(self) -> bool: ...


class Guard(Transport):  # type: ignore[misc]
    """Filter and outbox of one replica. `attach` must be called before anything is received."""

    core: RaftCore
    elections: Elections
    leader_side: LeaderSide
    snapshot_sink: SnapshotSink

    def __init__(self) -> None:
        super().__init__(None, None, [])
        self.outbox: list[tuple[str, m.Envelope]] = []
        self.number = 0  # of the newest append or chunk sent
        self._echo: list[int] | None = None
        self._reply: m.Body | None = None
        self._reply_suppressed = False
        self._voters: tuple[int, set[str]] = (0, set())
        self._handlers: dict[str, Callable[[str, m.Envelope, m.Body], None]] = {
            m.APPEND: self._on_append,
            m.APPEND_REPLY: self._on_append_reply,
            m.VOTE_REQUEST: self._on_vote_request,
            m.VOTE_REPLY: self._on_vote_reply,
            m.HAND_OVER: self._on_hand_over,
            m.PRE_VOTE: self._on_pre_vote,
            m.PRE_VOTE_REPLY: self._on_pre_vote_reply,
            m.STALE: self._on_stale,
            m.SNAPSHOT_CHUNK: self._on_snapshot_chunk,
            m.SNAPSHOT_REPLY: self._on_snapshot_reply,
        }

    def __repr__(self) -> str:
        return f"<Guard number={self.number} outbox={len(self.outbox)}>"

    def attach(
        self, core: RaftCore, elections: Elections, leader_side: LeaderSide, snapshot_sink: SnapshotSink
    ) -> None:
        """Connect the parts that refer to each other."""
        self.core, self.elections = core, elections
        self.leader_side, self.snapshot_sink = leader_side, snapshot_sink

    # Outgoing.

    def send(self, node: Node, message: m.Body) -> bool:
        """Take a message from the core (the library's transport interface)."""
        kind = message["type"]
        if kind == m.APPEND_REPLY:
            if self._reply_suppressed:
                return True
            if self._reply is not None:
                message = {**message, **self._reply}
        elif kind == m.VOTE_REQUEST:
            message = {**message, "hand_over": self.elections.is_forced(message["term"])}
        elif kind not in (m.VOTE_REPLY, m.HAND_OVER):
            return False  # the core's forwarding of commands is not used
        self.queue(node.id, message)
        return True

    def queue(self, peer: str, body: m.Body) -> int:
        """Put a message into the outbox; return its number when it asks for an answer, else the last one."""
        if body["type"] in (m.APPEND, m.SNAPSHOT_CHUNK):
            self.number += 1
        term = self.core.term
        self.outbox.append(
            (peer, {"term": term, "epoch": 0, "number": self.number, "echo": self._echo, "body": body})
        )
        return self.number

    def take_outbox(self) -> list[tuple[str, m.Envelope]]:
        """Hand over what waits; the caller sends it."""
        taken, self.outbox = self.outbox, []
        return taken

    # Incoming.

    def receive(self, peer: str, envelope: m.Envelope) -> None:
        """Take one well-formed message from a connected member.

        Raises:
            FatalError: the message would have this replica truncate what is committed.
        """
        if not self.elections.is_formed or not self.elections.is_peer(peer):
            return
        body = envelope["body"]
        handler = self._handlers.get(body["type"])
        if handler is not None:
            handler(peer, envelope, body)

    def _learn_term(self, peer: str, term: int) -> None:
        """Take over a newer term through a vote request that can be granted nothing."""
        if term > self.core.term:
            self.core.handle(
                peer, {"type": m.VOTE_REQUEST, "term": term, "last_log_index": 0, "last_log_term": -1}
            )

    def _on_stale(self, peer: str, envelope: m.Envelope, body: m.Body) -> None:
        self._learn_term(peer, envelope["term"])

    def _on_pre_vote(self, peer: str, envelope: m.Envelope, body: m.Body) -> None:
        granted = self.elections.grants_pre_vote(
            peer, body["term"], (body["last_log_term"], body["last_log_index"])
        )
        self.queue(peer, {"type": m.PRE_VOTE_REPLY, "term": body["term"], "granted": granted})

    def _on_pre_vote_reply(self, peer: str, envelope: m.Envelope, body: m.Body) -> None:
        if envelope["term"] > self.core.term:
            self._learn_term(peer, envelope["term"])
        elif body["granted"]:
            self.elections.pre_vote_granted(peer, body["term"])

    def _on_vote_request(self, peer: str, envelope: m.Envelope, body: m.Body) -> None:
        if body["hand_over"] or not self.elections.leader_is_alive():
            self.core.handle(peer, body)

    def _on_vote_reply(self, peer: str, envelope: m.Envelope, body: m.Body) -> None:
        term = self.core.term
        if self._voters[0] != term:
            self._voters = (term, set())
        voters = self._voters[1]
        if body["term"] == term and peer not in voters:  # the core only counts: a doubled vote is two
            voters.add(peer)
            self.core.handle(peer, body)

    def _on_hand_over(self, peer: str, envelope: m.Envelope, body: m.Body) -> None:
        self.core.handle(peer, body)

    def _on_append_reply(self, peer: str, envelope: m.Envelope, body: m.Body) -> None:
        echo = envelope["echo"]
        if self.core.role is Role.LEADER and echo is not None and echo[0] == self.core.term:
            self.leader_side.on_append_reply(peer, echo[1], body)

    def _on_snapshot_reply(self, peer: str, envelope: m.Envelope, body: m.Body) -> None:
        echo = envelope["echo"]
        if self.core.role is Role.LEADER and echo is not None and echo[0] == self.core.term:
            self.leader_side.on_snapshot_reply(peer, echo[1], body)

    # Appends, the heart of it.

    def _is_from_current_leader(self, peer: str, body: m.Body) -> bool:
        if body["term"] < self.core.term:
            self.queue(peer, {"type": m.STALE})
            return False
        if body["term"] == self.core.term and self.core.role is Role.LEADER:
            logger.error("second_leader peer=%s term=%d", peer, body["term"])
            return False
        return True

    def _on_append(self, peer: str, envelope: m.Envelope, body: m.Body) -> None:
        if not self._is_from_current_leader(peer, body):
            return
        self.elections.leader_heard()
        self._echo = [body["term"], envelope["number"]]
        try:
            if self.snapshot_sink.is_installing:
                # The log is about to be replaced; anything added now would be lost with it.
                self._refuse_append(peer, body, self.core.last_index + 1)
            else:
                self._append(peer, body)
        finally:
            self._echo = self._reply = None

    def _refuse_append(self, peer: str, body: m.Body, next_index: int) -> None:
        """Accept the sender as leader, take none of its entries, and say where to go on."""
        self._reply = {"reset": True, "success": False, "next_node_idx": next_index}
        self._hand_to_core(peer, body, [], _FAR_BEYOND, 0, 0)

    def _append(self, peer: str, body: m.Body) -> None:
        core = self.core
        log = core.log
        first, last, commit = log[0][1], log[-1][1], core.commit_index
        previous = body["prevLogIdx"]
        if not (previous <= commit or (previous <= last and log[previous - first][2] == body["prevLogTerm"])):
            # Start again right behind the commit index: everything up to there is known to match.
            self._refuse_append(peer, body, min(previous, commit + 1) if previous <= last else last + 1)
            return
        entries = body["entries"]
        match, held = previous, 0
        for _, index, term in entries:
            if index > commit and (index > last or log[index - first][2] != term):
                break
            match, held = index, held + 1
        leader_commit = body["commit_index"]
        if held == len(entries):
            # Everything is here already: a stale or repeated append must not cut off what follows it.
            self._reply = {"reset": False, "success": True, "next_node_idx": match + 1}
            self._hand_to_core(peer, body, [], last, core.last_term, min(leader_commit, match))
            return
        if match < commit:
            raise FatalError(
                f"leader {peer} asks to replace the committed entry {match + 1} (commit index {commit}): "
                "this replica's log and that of its leader have diverged"
            )
        term = body["prevLogTerm"] if match == previous else entries[held - 1][2]
        self._hand_to_core(peer, body, entries[held:], match, term, leader_commit)

    def _hand_to_core(
        self, peer: str, body: m.Body, entries: list[Any], previous: int, previous_term: int, commit: int
    ) -> None:
        self.core.handle(
            peer,
            {
                "type": m.APPEND,
                "term": body["term"],
                "entries": entries,
                "prevLogIdx": previous,
                "prevLogTerm": previous_term,
                "commit_index": commit,
            },
        )

    def _on_snapshot_chunk(self, peer: str, envelope: m.Envelope, body: m.Body) -> None:
        if not self._is_from_current_leader(peer, body):
            return
        self.elections.leader_heard()
        self._reply_suppressed = True
        try:
            self._hand_to_core(peer, body, [], _FAR_BEYOND, 0, 0)  # accepts the sender as leader, no more
        finally:
            self._reply_suppressed = False
        reply = self.snapshot_sink.on_chunk(peer, body)
        if reply is not None:
            self._echo = [body["term"], envelope["number"]]
            self.queue(peer, {"type": m.SNAPSHOT_REPLY, **reply})
            self._echo = None
