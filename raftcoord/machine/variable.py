"""Variables: one value under a name, with a revision that never repeats in the whole store.

Invariants:
  1. The revision of a set variable is the number of its last set; of an unset one it is 0.
  2. A `get` that waits is served by the first set; a `watch` by the first revision that it has not seen.
     So either all that wait for a variable can be served, or none.
  3. Only a set variable has a deadline or an owner, and both belong to its present revision.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

from raftcoord.machine.context import TOO_MANY_HOLDS, Context
from raftcoord.machine.object_kind import TOO_MANY_OBJECTS, ObjectKind
from raftcoord.machine.outcome import OK, Result
from raftcoord.machine.packed import add_blobs, same_value
from raftcoord.machine.session import Session
from raftcoord.machine.waiting import Waiter, Waiters, encode_waiters
from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import Operation

_UNSET: Result = (int(Code.UNSET), None)
_EMPTY: Result = (int(Code.EMPTY), None)


class Variable:
    """A named value; `value` is None while unset.

    Attributes:
        deadline_ms: when it is unset by time; 0: never.
        owner: the session whose end unsets it; 0: none.
    """

    __slots__ = ("deadline_ms", "mark", "name", "owner", "revision", "value", "waiters")

    def __init__(self, name: bytes, mark: int) -> None:
        self.name = name
        self.mark = mark
        self.value: bytes | None = None
        self.revision = 0
        self.waiters: Waiters | None = None
        self.deadline_ms = 0
        self.owner = 0

    def __repr__(self) -> str:
        return f"<Variable {self.name!r} revision={self.revision} waiters={len(self.waiters or ())}>"

    @property
    def state(self) -> list[Any]:
        return [self.value, self.revision]

    def fields(self) -> list[Any]:
        """Return the variable as plain values."""
        waiters = [] if self.waiters is None else encode_waiters(self.waiters)
        return [self.name, self.value, self.revision, waiters, self.deadline_ms, self.owner]


class Variables(ObjectKind[Variable]):
    """All variables."""

    tag = "variables"
    fields_since_1 = (0, 0)

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.operations = {
            Operation.VARIABLE_SET: self._set,
            Operation.VARIABLE_SET_WITH: self._set_with,
            Operation.VARIABLE_GET: self._get,
            Operation.VARIABLE_COMPARE_AND_SET: self._compare_and_set,
            Operation.VARIABLE_ADD: self._add,
            Operation.VARIABLE_DELETE: self._delete,
            Operation.VARIABLE_WATCH: self._watch,
        }
        self.queries = {
            Operation.VARIABLE_GET: self._query_get,
            Operation.VARIABLE_WATCH: self._query_watch,
        }

    # Operations.

    def _set(self, session: Session, sequence: int, name: bytes, value: bytes) -> Result:
        return self._assign(name, value)

    def _set_with(
        self, session: Session, sequence: int, name: bytes, value: bytes, ttl_ms: int, ephemeral: bool
    ) -> Result:
        context = self.context
        if ephemeral and not context.may_hold(session):
            return TOO_MANY_HOLDS
        code, revision = self._assign(name, value)
        if code == OK:
            variable = self.table[name]
            if ttl_ms:
                variable.deadline_ms = context.now_ms + ttl_ms
                context.deadlines.set(self, name, variable.deadline_ms, revision)
            if ephemeral:
                variable.owner = session.id
                session.holds[revision] = (self, name)
        return code, revision

    def _assign(self, name: bytes, value: bytes) -> Result:
        context = self.context
        variable = self.table.get(name)
        if variable is None:
            if self.is_full:
                return TOO_MANY_OBJECTS
            variable = self.table[name] = Variable(name, context.copies.generation)
        else:
            context.touch(variable)
            if variable.deadline_ms or variable.owner:
                self._make_plain(variable)
        variable.value = value
        context.number = variable.revision = context.number + 1
        if variable.waiters is not None:
            self._serve(variable)
        return OK, variable.revision

    def _get(self, session: Session, sequence: int, name: bytes, wait: bool) -> Result:
        return self._query_get(name, wait) or self._register(
            session, sequence, name, Operation.VARIABLE_GET, None
        )

    def _watch(self, session: Session, sequence: int, name: bytes, seen_revision: int, wait: bool) -> Result:
        return self._query_watch(name, seen_revision, wait) or self._register(
            session, sequence, name, Operation.VARIABLE_WATCH, seen_revision
        )

    def _compare_and_set(
        self, session: Session, sequence: int, name: bytes, condition: list[Any], value: bytes
    ) -> Result:
        variable = self.table.get(name)
        current = None if variable is None or variable.value is None else variable
        if not condition:
            holds = current is None
        elif current is None or current.value is None:
            holds = False
        elif type(condition[0]) is int:
            holds = current.revision == condition[0]
        else:
            holds = same_value(current.value, condition[0])
        if holds:
            return self._assign(name, value)
        return int(Code.CONFLICT), None if current is None else current.state

    def _add(self, session: Session, sequence: int, name: bytes, delta: bytes) -> Result:
        variable = self.table.get(name)
        total = add_blobs(None if variable is None else variable.value, delta)
        if isinstance(total, Code):
            return int(total), None
        code, revision = self._assign(name, total)
        return code, [total, revision] if code == OK else revision

    def _delete(self, session: Session, sequence: int, name: bytes) -> Result:
        variable = self.table.get(name)
        if variable is None or variable.value is None:
            return OK, False
        self._unset(variable)
        self.settle(name)
        return OK, True

    def _unset(self, variable: Variable) -> None:
        self.context.touch(variable)
        self._make_plain(variable)
        variable.value, variable.revision = None, 0

    def _make_plain(self, variable: Variable) -> None:
        """Neither time nor the end of a session changes it from now on."""
        if variable.deadline_ms:
            self.context.deadlines.clear(self, variable.name)
            variable.deadline_ms = 0
        if variable.owner:
            self.context.let_go(variable.owner, variable.revision)
            variable.owner = 0

    # Queries.

    def _query_get(self, name: bytes, wait: bool) -> Result | None:
        variable = self.table.get(name)
        if variable is not None and variable.value is not None:
            return OK, variable.state
        return None if wait else _UNSET

    def _query_watch(self, name: bytes, seen_revision: int, wait: bool) -> Result | None:
        variable = self.table.get(name)
        state = [None, 0] if variable is None else variable.state
        if state[1] != seen_revision:
            return OK, state
        return None if wait else _EMPTY

    # Waiting.

    def _register(
        self, session: Session, sequence: int, name: bytes, operation: Operation, detail: int | None
    ) -> Result:
        variable = self.table.get(name)
        if variable is None:
            if self.is_full:
                return TOO_MANY_OBJECTS
            variable = self.table[name] = Variable(name, self.context.copies.generation)
        else:
            self.context.touch(variable)
        if variable.waiters is None:
            variable.waiters = OrderedDict()
        waiter = Waiter(self, name, session.id, sequence, int(operation), detail)
        return self.context.register(variable.waiters, waiter)

    def _serve(self, variable: Variable) -> None:
        """Serve all: a `get` waits only while there is no value, a `watch` only while nothing changes."""
        waiters = variable.waiters
        assert waiters is not None
        for waiter in list(waiters.values()):
            self.context.complete(waiters, waiter, OK, variable.state)
        variable.waiters = None

    def _drop_if_empty(self, variable: Variable) -> None:
        if variable.value is None and not variable.waiters:
            del self.table[variable.name]

    def remove_waiter(self, waiter: Waiter) -> None:
        variable = self.table[waiter.name]
        assert variable.waiters is not None
        self.context.touch(variable)
        del variable.waiters[waiter.session, waiter.sequence]
        if not variable.waiters:
            variable.waiters = None

    def settle(self, name: bytes) -> None:
        variable = self.table.get(name)
        if variable is None:
            return
        if variable.waiters is not None and self._is_news(variable, next(iter(variable.waiters.values()))):
            self._serve(variable)
        self._drop_if_empty(variable)

    @staticmethod
    def _is_news(variable: Variable, waiter: Waiter) -> bool:
        if waiter.operation == Operation.VARIABLE_GET:
            return variable.value is not None
        return bool(variable.revision != waiter.detail)

    def release(self, sessions: Sequence[Session], holds: Sequence[tuple[int, bytes]]) -> Iterable[bytes]:
        for _, name in holds:
            self._unset(self.table[name])
        return [name for _, name in holds]

    def expire(self, name: bytes) -> None:
        self._unset(self.table[name])
        self.settle(name)

    # Snapshots.

    def decode(self, fields: list[Any]) -> None:
        name, value, revision, waiters, deadline_ms, owner = fields
        variable = self.table[name] = Variable(name, self.context.copies.generation)
        variable.value, variable.revision = value, revision
        variable.deadline_ms, variable.owner = deadline_ms, owner
        if deadline_ms:
            self.context.deadlines.set(self, name, deadline_ms, revision)
        if owner:
            self.context.sessions[owner].holds[revision] = (self, name)
        if waiters:
            variable.waiters = OrderedDict()
            self.restore_waiters(variable.waiters, name, waiters)
