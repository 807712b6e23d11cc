"""Collects the commands of all sessions into log entries: one is on its way while the next one fills.

An entry is msgpack of `[now_ms, [command, …]]`. Commands are packed when they are submitted, so that the
bytes that wait are known exactly and a batch is one join.

Invariants:
  1. Every accepted command ends once: `on_result` with the log's answer, or `on_not_committed`.
  2. Entries carry cluster time: the machine's time when this replica became a ready leader, plus what its
     own monotonic clock counted since. It never goes back.
  3. Nothing is proposed unless this replica believes that it is a ready leader.
  4. At most `pending_bytes_max` of clients' commands wait or are on their way; more is refused.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

import msgspec

from raftcoord.consensus.interface import Committed, Engine, Outcome
from raftcoord.runtime import Clock
from raftcoord.server.metrics import Metrics

BATCH_BYTES_MAX: Final = 1024 * 1024  # a single command may be larger, and then travels alone
BATCH_COMMANDS_MAX: Final = 1000
BATCHES_IN_FLIGHT_MAX: Final = 1  # several were measured to be slower: they only make batches smaller

_encode: Final = msgspec.msgpack.Encoder().encode


class CommandOwner(Protocol):
    """Who wants to know what became of a command."""

    def on_result(self, sequence: int, code: int, payload: Any) -> None:
        """The command is committed and applied, with this result."""

    def on_not_committed(self) -> None:
        """This replica will not learn the command's fate; it may or may not be in the log."""


class _Batch:
    """Commands that become one entry."""

    __slots__ = ("commands", "owners", "proposed_at", "size_bytes")

    def __init__(self) -> None:
        self.commands: list[bytes] = []
        self.owners: list[tuple[CommandOwner, int, int]] = []  # with sequence and operation
        self.size_bytes = 0
        self.proposed_at = 0.0

    def __repr__(self) -> str:
        return f"<_Batch commands={len(self.commands)} bytes={self.size_bytes}>"

    def encode(self, now_ms: int) -> bytes:
        count = len(self.commands)
        header = b"\xdc" + count.to_bytes(2, "big") if count > 15 else bytes((0x90 | count,))
        return b"".join((b"\x92", _encode(now_ms), header, *self.commands))


class Batcher:
    """The way into the log.

    Args:
        on_outcome: called, inside the engine, when outcomes wait to be settled; it only schedules.
        pending_bytes_max: bound on the commands that wait or are on their way.
    """

    __slots__ = (
        "_base_ms",
        "_base_s",
        "_clock",
        "_engine",
        "_filling",
        "_in_flight",
        "_leading",
        "_metrics",
        "_on_outcome",
        "_pending_bytes_max",
        "_pump_handle",
        "_queue",
        "_settled",
        "pending_bytes",
    )

    def __init__(
        self,
        *,
        engine: Engine,
        clock: Clock,
        metrics: Metrics,
        on_outcome: Callable[[], None],
        pending_bytes_max: int,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._metrics = metrics
        self._on_outcome = on_outcome
        self._pending_bytes_max = pending_bytes_max
        self.pending_bytes = 0
        self._in_flight = 0
        self._leading = False
        self._base_ms = 0
        self._base_s = 0.0
        self._filling: _Batch | None = None
        self._queue: deque[_Batch] = deque()  # full ones; bounded by _pending_bytes_max
        self._settled: deque[tuple[_Batch, Outcome]] = deque()
        self._pump_handle: asyncio.Handle | None = None

    def __repr__(self) -> str:
        return (
            f"<Batcher leading={self._leading} in_flight={self._in_flight} "
            f"pending_bytes={self.pending_bytes} waiting={len(self._queue)} filling={self._filling!r}>"
        )

    def lead(self, machine_now_ms: int) -> None:
        """Start: this replica is a ready leader, and its machine's time is `machine_now_ms`."""
        self._base_ms = machine_now_ms
        self._base_s = self._clock.now()
        self._leading = True

    def stop_leading(self) -> None:
        """Give up what was not proposed yet; what is on its way is answered by the engine."""
        self._leading = False
        dropped = [*self._queue]
        if self._filling is not None:
            dropped.append(self._filling)
        self._queue.clear()
        self._filling = None
        for batch in dropped:
            self._give_up(batch)

    def now_ms(self) -> int:
        """Return cluster time in milliseconds."""
        return self._base_ms + int((self._clock.now() - self._base_s) * 1000)

    def submit(self, owner: CommandOwner, command: list[Any], *, bounded: bool = True) -> bool:
        """Take a valid command `[session, sequence, acked, operation, *arguments]` into the next batch.

        With `bounded` False the bound does not apply: for the leader's own few commands, which must not
        be starved by clients. Returns False when the command was refused.
        """
        packed = _encode(command)
        size_bytes = len(packed)
        if not self._leading or (bounded and self.pending_bytes + size_bytes > self._pending_bytes_max):
            return False
        self.pending_bytes += size_bytes
        batch = self._filling
        if batch is None:
            batch = self._filling = _Batch()
        elif batch.size_bytes + size_bytes > BATCH_BYTES_MAX or len(batch.commands) >= BATCH_COMMANDS_MAX:
            self._queue.append(batch)
            batch = self._filling = _Batch()
        batch.commands.append(packed)
        batch.owners.append((owner, command[1], command[3]))
        batch.size_bytes += size_bytes
        self._schedule_pump()
        return True

    def submit_time(self) -> None:
        """Propose the time as it is, with the commands that are waiting or without any."""
        if self._leading and self._filling is None and not self._queue:
            self._filling = _Batch()
            self._schedule_pump()

    def _schedule_pump(self) -> None:
        if self._pump_handle is None and self._in_flight < BATCHES_IN_FLIGHT_MAX:
            # Not now: what else arrived in this turn of the loop shares the entry, and its fsync.
            self._pump_handle = asyncio.get_running_loop().call_soon(self.pump)

    def pump(self) -> None:
        """Propose the next batch if there is one and its turn has come."""
        if self._pump_handle is not None:
            self._pump_handle.cancel()
            self._pump_handle = None
        while self._in_flight < BATCHES_IN_FLIGHT_MAX and self._leading:
            if self._queue:
                batch = self._queue.popleft()
            elif self._filling is not None:
                batch, self._filling = self._filling, None
            else:
                return
            self._in_flight += 1
            batch.proposed_at = self._clock.now()
            self._engine.propose(batch.encode(self.now_ms()), partial(self._take_outcome, batch))
            self._engine.hurry()

    def settle(self) -> None:
        """Tell the owners of all finished batches what became of their commands."""
        while self._settled:
            batch, outcome = self._settled.popleft()
            if isinstance(outcome, Committed):
                self._hand_out(batch, outcome.result.results)
            else:
                self._give_up(batch)

    def _take_outcome(self, batch: _Batch, outcome: Outcome) -> None:
        # Inside the engine: a proposal or an answer from here could re-enter it, so only remember.
        self._in_flight -= 1
        self._settled.append((batch, outcome))
        self._on_outcome()

    def _hand_out(self, batch: _Batch, results: list[tuple[int, Any]]) -> None:
        self.pending_bytes -= batch.size_bytes
        self._metrics.batch_commands.observe(len(batch.commands))
        self._metrics.commit_latency_s.observe(self._clock.now() - batch.proposed_at)
        operations = self._metrics.operations
        for (owner, sequence, operation), (code, payload) in zip(batch.owners, results, strict=True):
            operations[operation << 8 | code] += 1
            owner.on_result(sequence, code, payload)

    def _give_up(self, batch: _Batch) -> None:
        self.pending_bytes -= batch.size_bytes
        for owner, _, _ in batch.owners:
            owner.on_not_committed()
