"""A log in few words: commands in, what a real machine makes of them out, falsified if the test wants it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from raftcoord.machine import Applied, Machine
from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import Operation
from raftcoord.protocol.values import pack_value
from raftcoord.testing.simulation.oracle import Oracle

Command = list[Any]
Falsify = Callable[[Applied], object]
Answer = tuple[int, Any]

V, Q, L = b"v", b"q", b"l"  # names of a variable, a queue and a lock
ONE, TWO, THREE = (pack_value(number) for number in (1, 2, 3))
OK: Final = int(Code.OK)
WAITING: Final = (int(Code.WAITING), None)

_encode: Final = msgspec.msgpack.Encoder().encode


def entry(*commands: Command, now_ms: int = 0) -> bytes:
    """Return the payload of an entry."""
    return _encode((now_ms, commands))


def opening(number: int) -> Command:
    """Return the command that opens a session."""
    return [0, 0, 0, int(Operation.OPEN_SESSION), number.to_bytes(16, "big"), 5000, f"c{number}"]


def expiring(*sessions: int) -> Command:
    """Return the leader's command that ends sessions."""
    return [0, 0, 0, int(Operation.EXPIRE_SESSIONS), list(sessions)]


class Log:
    """One machine, and the oracle that is told of all that it does."""

    def __init__(self, sessions: int = 2) -> None:
        self.machine = Machine()
        self.oracle = Oracle(lambda *news: self.news.append(news))
        self.news: list[tuple[set[int], str]] = []  # fences that are held, and why that is told
        self.index = 1
        self.sequence = 0
        self.oracle.take_no_op(1)
        self.sessions = [self.add(opening(number)).results[0][1] for number in range(sessions)]

    def add(self, *commands: Command, falsify: Falsify = lambda applied: None, now_ms: int = 0) -> Applied:
        """Add an entry. Raises Violation."""
        self.index += 1
        payload = entry(*commands, now_ms=now_ms)
        applied = self.machine.apply_entry(payload)
        falsify(applied)
        self.oracle.take(self.index, payload, applied)
        return applied

    def command(self, session: int, operation: Operation, *arguments: Any, acked: Any = 0) -> Command:
        """Return a new command of the first, second, … session."""
        self.sequence += 1
        return [self.sessions[session], self.sequence, acked, int(operation), *arguments]

    def do(
        self,
        session: int,
        operation: Operation,
        *arguments: Any,
        acked: Any = 0,
        falsify: Falsify = lambda applied: None,
    ) -> Answer:
        """Add an entry with one new command, and return its result."""
        command = self.command(session, operation, *arguments, acked=acked)
        return self.add(command, falsify=falsify).results[0]

    @property
    def key(self) -> tuple[int, int]:
        """Session and sequence of the first session's newest command."""
        return self.sessions[0], self.sequence
