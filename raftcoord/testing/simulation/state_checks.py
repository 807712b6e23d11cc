"""What must hold of the state machines: the same log gives the same results and the same bytes everywhere.

Invariants of what is checked:
  1. Every replica applies every entry once and in order; its state never goes back while it runs.
  2. The same entry has the same payload and the same outcome on every replica.
  3. State is byte for byte the same after the same entry, also after a restore from a snapshot.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from typing import Any, Final

import msgspec

from raftcoord.machine import Machine
from raftcoord.protocol.operations import BATCH_ITEMS_MAX, Operation
from raftcoord.testing.simulation.model import compare
from raftcoord.testing.simulation.oracle import Oracle
from raftcoord.testing.simulation.probe import state_of
from raftcoord.testing.simulation.violation import Violation

DIGEST_EVERY: Final = 16  # entries; a digest of everything after every single one would cost too much

_READS_AT_THE_END: Final[dict[str, list[list[Any]]]] = {
    "VARIABLE": [[Operation.VARIABLE_GET, False]],
    "QUEUE": [[Operation.QUEUE_SIZE]],
    "LOCK": [[Operation.LOCK_STATUS], [Operation.LOCK_WAITERS]],
    "EVENT": [[Operation.EVENT_IS_SET]],
    "SEMAPHORE": [[Operation.SEMAPHORE_STATUS]],
    "MULTILOCK": [[Operation.MULTILOCK_STATUS]],
    "RWLOCK": [[Operation.RWLOCK_STATUS]],
    "TOPIC": [[Operation.TOPIC_STATUS], [Operation.TOPIC_READ, 0, BATCH_ITEMS_MAX, False]],
}

_encode: Final = msgspec.msgpack.Encoder().encode


class StateChecks:
    """Everything that was applied, by whom, and what came of it. An `Observer` (see `probe.py`)."""

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle
        self._indexes: list[int] = []  # of the entries with commands, in order
        self._outcomes: list[tuple[int, int]] = []  # CRCs of payload and outcome, likewise
        self._digests: dict[int, int] = {}  # count of entries applied -> CRC of the state
        self._counts: dict[str, int] = {}  # of entries applied, by replica

    def __repr__(self) -> str:
        return f"<StateChecks entries={len(self._indexes)} digests={len(self._digests)}>"

    def started(self, name: str) -> None:
        """A replica begins with an empty machine."""
        self._counts[name] = 0

    def on_applied(self, name: str, index: int, payload: bytes, applied: Any, machine: Machine) -> None:
        """A replica applied an entry."""
        count = self._counts[name]
        outcome = (zlib.crc32(payload), _crc_of(applied))
        if count == len(self._indexes):
            if self._indexes and index <= self._indexes[-1]:
                raise Violation(
                    "applied once and in order", f"{name} applies {index} after {self._indexes[-1]}"
                )
            self._indexes.append(index)
            self._outcomes.append(outcome)
            self.oracle.take(index, payload, applied)
        elif index != self._indexes[count]:
            raise Violation(
                "applied once and in order", f"{name} applies {index}, not {self._indexes[count]}"
            )
        elif outcome != self._outcomes[count]:
            what = "payload" if outcome[0] != self._outcomes[count][0] else "outcome"
            raise Violation(
                "same log, same state", f"{name}: another {what} of entry {index}: {applied!r:.300}"
            )
        self._counts[name] = count + 1
        if (count + 1) % DIGEST_EVERY == 0:
            self._compare_state(name, count + 1, machine)

    def on_restored(self, name: str, index: int, machine: Machine) -> None:
        """A replica's machine was replaced by a snapshot that ends with the entry at `index`."""
        count = bisect_right(self._indexes, index)
        if count < self._counts[name]:
            raise Violation("nothing goes back", f"{name} restores what was at {index} over a later state")
        self._counts[name] = count
        self._compare_state(name, self._counts[name], machine)

    def on_snapshot(self, name: str, index: int, machine: Machine) -> None:
        """A replica begins to write a snapshot."""
        self._compare_state(name, self._counts[name], machine)

    def _compare_state(self, name: str, count: int, machine: Machine) -> None:
        digest = zlib.crc32(_encode(state_of(machine)))
        known = self._digests.setdefault(count, digest)
        if known != digest:
            last = self._indexes[count - 1] if count else 0
            raise Violation("same log, same state", f"{name}: another state after entry {last}")

    def compare_snapshots(self, machines: dict[str, Machine]) -> None:
        """Hold the snapshots that replicas would write now against each other, byte for byte."""
        snapshots = {name: b"".join(machine.begin_snapshot()) for name, machine in machines.items()}
        if len(set(snapshots.values())) > 1:
            sizes = {name: (len(data), zlib.crc32(data)) for name, data in snapshots.items()}
            raise Violation("same log, same state", f"snapshots differ at the end: {sizes}")

    def compare_with_model(self, machines: dict[str, Machine]) -> None:
        """Hold what replicas would answer now about every object that ever was against the model."""
        model = self.oracle.model
        for name, machine in machines.items():
            if machine.counts() != model.counts():
                raise Violation("machine", f"{name} has {machine.counts()}, not {model.counts()}, at the end")
            for place in self.oracle.places():
                for operation, *rest in _READS_AT_THE_END.get(place[0], ()):
                    expected = model.read(operation, place[1], *rest)
                    actual = machine.query(operation, [place[1], *rest])
                    if not compare(expected, actual, lambda number: None):
                        raise Violation(
                            "machine", f"{name} has {actual} at {place} in the end, not {expected}"
                        )


def _crc_of(applied: Any) -> int:
    return zlib.crc32(_encode((applied.results, applied.completed, applied.opened, applied.ended)))
