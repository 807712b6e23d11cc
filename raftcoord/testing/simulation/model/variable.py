"""Variables: a value with a revision, perhaps for a while only, or for as long as a session lives."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from raftcoord.protocol.errors import BadRequest, Code
from raftcoord.protocol.operations import Operation
from raftcoord.protocol.values import pack_value, unpack_value
from raftcoord.testing.simulation.model.base import Answer, Number, ObjectKind, Store, Wait


@dataclass
class Variable:
    """A variable that is set."""

    value: bytes
    revision: Number
    deadline_ms: int | None = None
    owner: int | None = None

    @property
    def state(self) -> list[Any]:
        return [self.value, self.revision]


class Variables(ObjectKind):
    """All variables that are set."""

    prefix = "VARIABLE"
    tag = "variables"

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.table: dict[bytes, Variable] = {}

    def names(self) -> Iterable[bytes]:
        return self.table

    def serve(self, wait: Wait) -> Answer | None:
        if wait.operation is Operation.VARIABLE_GET:
            return self.read_get(wait.name, True)
        return self.read_watch(wait.name, wait.detail, True)

    def end(self, ended: list[int]) -> None:
        for name, variable in list(self.table.items()):
            if variable.owner in ended:
                del self.table[name]

    def due(self) -> Iterable[tuple[int, int, bytes]]:
        for name, variable in self.table.items():
            if variable.deadline_ms is not None:
                yield variable.deadline_ms, variable.revision.known, name

    def expire(self, name: bytes) -> None:
        del self.table[name]

    def read_get(self, name: bytes, wait: bool) -> Answer | None:
        if name in self.table:
            return Code.OK, self.table[name].state
        return None if wait else (Code.UNSET, None)

    def read_watch(self, name: bytes, seen_revision: int, wait: bool) -> Answer | None:
        value, revision = self.table[name].state if name in self.table else (None, 0)
        current = revision.value if isinstance(revision, Number) else revision
        if current != seen_revision:
            return Code.OK, [value, revision]
        return None if wait else (Code.EMPTY, None)

    def do_get(self, session_id: int, sequence: int, name: bytes, wait: bool) -> Answer:
        waiter = Wait(session_id, sequence, Operation.VARIABLE_GET, name, None)
        return self.store.or_wait(self.read_get(name, True), waiter, wait, Code.UNSET)

    def do_watch(self, session_id: int, sequence: int, name: bytes, seen: int, wait: bool) -> Answer:
        waiter = Wait(session_id, sequence, Operation.VARIABLE_WATCH, name, seen)
        return self.store.or_wait(self.read_watch(name, seen, True), waiter, wait, Code.EMPTY)

    def do_set(self, session_id: int, sequence: int, name: bytes, value: bytes) -> Answer:
        self.table[name] = Variable(value, Number())
        return Code.OK, self.table[name].revision

    def do_set_with(
        self, session_id: int, sequence: int, name: bytes, value: bytes, ttl_ms: int, ephemeral: bool
    ) -> Answer:
        answer = self.do_set(session_id, sequence, name, value)
        if ttl_ms:
            self.table[name].deadline_ms = self.store.now_ms + ttl_ms
        if ephemeral:
            self.table[name].owner = session_id
        return answer

    def do_compare_and_set(
        self, session_id: int, sequence: int, name: bytes, condition: list[Any], value: bytes
    ) -> Answer:
        current = self.table.get(name)
        if current is None:
            holds = condition == []
        elif condition == []:
            holds = False
        elif type(condition[0]) is int:
            holds = current.revision.value == condition[0]
        else:
            holds = current.value == condition[0] or self._equal(current.value, condition[0])
        if holds:
            return self.do_set(session_id, sequence, name, value)
        return Code.CONFLICT, None if current is None else current.state

    @staticmethod
    def _equal(left: bytes, right: bytes) -> bool:
        try:
            return bool(unpack_value(left) == unpack_value(right))
        except BadRequest:
            return False

    def do_add(self, session_id: int, sequence: int, name: bytes, delta: bytes) -> Answer:
        numbers = []
        for blob in (self.table[name].value if name in self.table else pack_value(0), delta):
            try:
                numbers.append(unpack_value(blob))
            except BadRequest:
                return Code.WRONG_TYPE, None
        if not {type(number) for number in numbers} <= {int, float}:
            return Code.WRONG_TYPE, None
        number = numbers[0] + numbers[1]
        try:
            total = pack_value(math.nan if math.isnan(number) else number)
        except ValueError:
            return Code.OVERFLOW, None
        code, revision = self.do_set(session_id, sequence, name, total)
        return code, [total, revision]

    def do_delete(self, session_id: int, sequence: int, name: bytes) -> Answer:
        return Code.OK, self.table.pop(name, None) is not None
