"""A machine under test with sessions that speak to it in few words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from raftcoord.machine import Applied, Machine
from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import Operation

TTL_MS = 10_000


class Client:
    """One session: numbers its commands and confirms nothing unless told to."""

    def __init__(self, harness: Harness, session: int, *, sequence: int = 0) -> None:
        self.harness = harness
        self.session = session
        self.sequence = sequence

    def send(self, operation: Operation, *arguments: Any, acked: Any = 0) -> tuple[Code, Any]:
        """Apply one new command and return its result."""
        self.sequence += 1
        return self.repeat(self.sequence, operation, *arguments, acked=acked)

    def repeat(
        self, sequence: int, operation: Operation, *arguments: Any, acked: Any = 0
    ) -> tuple[Code, Any]:
        """Apply a command under a sequence of the caller's choice."""
        applied = self.harness.apply([self.session, sequence, acked, int(operation), *arguments])
        code, payload = applied.results[0]
        return Code(code), payload


class Harness:
    """A machine, and what applying has caused."""

    def __init__(self) -> None:
        self.machine = Machine()
        self.now_ms = 0
        self.completed: list[tuple[int, int, Code, Any]] = []
        self.opened = 0

    def apply(self, *commands: Any) -> Applied:
        """Apply one batch."""
        applied = self.machine.apply(self.now_ms, list(commands))
        self.completed += [(c.session, c.sequence, Code(c.code), c.payload) for c in applied.completed]
        return applied

    def open(self) -> Client:
        """Open a session."""
        self.opened += 1
        nonce = self.opened.to_bytes(16, "big")
        applied = self.apply([0, 0, 0, int(Operation.OPEN_SESSION), nonce, TTL_MS, f"c{self.opened}"])
        return Client(self, applied.results[0][1])

    def let_pass(self, milliseconds: int) -> Applied:
        """Apply a batch of no commands that much later."""
        self.now_ms += milliseconds
        return self.apply()

    def restore(self) -> None:
        """Go on with a machine that was restored from a snapshot of this one."""
        data = snapshot(self.machine)
        self.machine = restored(data)
        assert snapshot(self.machine) == data

    def expire(self, *clients: Client) -> Applied:
        """End these sessions with one command."""
        sessions = [client.session for client in clients]
        return self.apply([0, 0, 0, int(Operation.EXPIRE_SESSIONS), sessions])

    def take_completed(self) -> list[tuple[int, int, Code, Any]]:
        """Return the effects since the last call."""
        completed, self.completed = self.completed, []
        return completed

    def ask(self, operation: Operation, *arguments: Any) -> Any:
        """Answer a read from the state; None when only a logged wait can answer it."""
        answer = self.machine.query(operation, list(arguments))
        return None if answer is None else (Code(answer[0]), answer[1])


def snapshot(machine: Machine) -> bytes:
    """Return a whole snapshot."""
    return b"".join(machine.begin_snapshot())


def restored(data: bytes, chunk_bytes: int = 1000) -> Machine:
    """Return a machine made of a snapshot that arrives in chunks."""

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(data), chunk_bytes):
            yield data[start : start + chunk_bytes]

    machine = Machine()
    machine.restore(chunks())
    return machine
