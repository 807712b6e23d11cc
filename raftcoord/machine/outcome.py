"""What applying a batch gives back: plain values, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from raftcoord.protocol.errors import Code

Result: TypeAlias = tuple[int, Any]  # code, payload

DONE: Result = (int(Code.OK), None)
WAITING: Result = (int(Code.WAITING), None)
CANCELLED: Result = (int(Code.CANCELLED), None)
HELD: Result = (int(Code.HELD), None)
NOT_HOLDER: Result = (int(Code.NOT_HOLDER), None)
OK = int(Code.OK)


class Completed(NamedTuple):
    """A registered wait has its final answer."""

    session: int
    sequence: int
    code: int
    payload: Any


class SessionView(NamedTuple):
    """What the leader's session clock and people may know of a session."""

    id: int
    ttl_ms: int
    client_name: str
    nonce: bytes  # what the client must know to attach to it


@dataclass(slots=True)
class Applied:
    """The outcome of one batch: a result per command, and effects in log order."""

    results: list[Result] = field(default_factory=list)
    completed: list[Completed] = field(default_factory=list)
    opened: list[SessionView] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    topics: list[bytes] = field(default_factory=list)  # published on, or deleted; a name may be repeated
