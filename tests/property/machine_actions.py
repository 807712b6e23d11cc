"""Random commands, as Hypothesis strategies of plain steps that become commands when they are played.

A step names a client by its place among all that were ever opened, and a sequence by how it relates to the
last one, so that shrinking a list of steps keeps the rest meaningful.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from raftcoord.machine import Machine
from raftcoord.protocol.operations import Operation
from raftcoord.protocol.values import pack_value

TTL_MS: Final = 1000
CURRENT: Final = "current"  # stands for the revision or the fence that the object has when the step is played

_VALUES: Final = [
    *(pack_value(value) for value in (0, 1, 1.0, -0.5, 2**64 - 1, -(2**63), math.inf, -math.inf, True, "x")),
    pack_value({"a": [1, 2], "b": (3,)}),
    pack_value({"b": (3,), "a": [1, 2.0]}),
    b"\xcf\x00\x00\x00\x00\x00\x00\x00\x01",  # 1 in a form that no client packs
    b"\xc1",  # not msgpack
    b"\x91" * 300,  # nested too deep
]
_names: Final = st.sampled_from([b"a", b"b"])
_values: Final = st.sampled_from(_VALUES)
_numbers: Final = st.one_of(st.just(CURRENT), st.integers(0, 30))
_conditions: Final[SearchStrategy[list[Any]]] = st.one_of(
    st.just([]), st.tuples(st.one_of(_numbers, _values)).map(list)
)
_maxsizes: Final = st.sampled_from([0, 0, 1, 3])
_items: Final = st.lists(st.integers(0, 999).map(pack_value), min_size=1, max_size=4)
_counts: Final = st.sampled_from([1, 1, 1, 2, 3, -1])
_waits: Final = st.sampled_from([True, True, False])
_targets: Final = st.integers(0, 4)  # how far back; see `Player.command`

_ARGUMENTS: Final[dict[Operation, tuple[SearchStrategy[Any], ...]]] = {
    Operation.CONFIRM: (),
    Operation.CANCEL: (_targets,),
    Operation.RETURN: (_targets,),
    Operation.VARIABLE_SET: (_names, _values),
    Operation.VARIABLE_GET: (_names, _waits),
    Operation.VARIABLE_COMPARE_AND_SET: (_names, _conditions, _values),
    Operation.VARIABLE_ADD: (_names, _values),
    Operation.VARIABLE_DELETE: (_names,),
    Operation.VARIABLE_WATCH: (_names, _numbers, _waits),
    Operation.QUEUE_PUT: (_names, _maxsizes, _items, _waits),
    Operation.QUEUE_GET: (_names, _maxsizes, _counts, _waits),
    Operation.QUEUE_SIZE: (_names,),
    Operation.QUEUE_CLOSE: (_names,),
    Operation.LOCK_ACQUIRE: (_names, _waits),
    Operation.LOCK_RELEASE: (_names, _numbers),
    Operation.CLOSE_SESSION: (),
}
# Twice what makes the interesting states, so that sessions and queues live for a while.
_OFTEN: Final = [
    Operation.QUEUE_PUT,
    Operation.QUEUE_GET,
    Operation.LOCK_ACQUIRE,
    Operation.LOCK_RELEASE,
    Operation.CANCEL,
    Operation.RETURN,
]

Words = list[Any]  # [operation, *arguments]
words: Final[SearchStrategy[Words]] = st.sampled_from([*_ARGUMENTS, *_OFTEN, *_OFTEN]).flatmap(
    lambda operation: st.tuples(st.just(int(operation)), *_ARGUMENTS[operation]).map(list)
)


@dataclass(frozen=True)
class Acked:
    """An `acked` field: all sequences but the last `back` ones, and what is listed, counted back too."""

    back: int
    listed: tuple[int, ...]


_ackeds: Final = st.builds(
    Acked, st.sampled_from([0, 1, 3, 100, 100]), st.lists(st.integers(0, 6), max_size=3).map(tuple)
)


@dataclass(frozen=True)
class Command:
    """A new command of a client, or an old sequence again: the same command, `again` places back."""

    client: int
    again: int  # 0: a new command
    acked: Acked
    words: Any


@dataclass(frozen=True)
class Open:
    """A new session, or the hello of an existing one again."""

    nonce: int


@dataclass(frozen=True)
class Expire:
    """Some sessions end together."""

    clients: tuple[int, ...]


commands: Final = st.builds(Command, st.integers(0, 3), st.sampled_from([0] * 8 + [1, 2, 5]), _ackeds, words)
opens: Final = st.builds(Open, st.integers(0, 5))
expires: Final = st.builds(Expire, st.lists(st.integers(0, 3), max_size=3).map(tuple))
Step = Command | Open | Expire
steps: Final[SearchStrategy[list[Step]]] = st.lists(
    st.one_of(*[commands] * 12, opens, expires), min_size=15, max_size=60
)


class Player:
    """Turns steps into commands of the log; `machine` is only asked for its current numbers."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.clients: list[int] = []  # session ids in the order of opening, also of ended ones
        self.sent: dict[int, list[Words]] = {}  # by session: its commands, the first under sequence 1

    def open(self, step: Open) -> list[Any]:
        """Return the command; `opened` takes its result."""
        return [
            0,
            0,
            0,
            int(Operation.OPEN_SESSION),
            step.nonce.to_bytes(16, "big"),
            TTL_MS,
            f"c{step.nonce}",
        ]

    def opened(self, session: int) -> None:
        """A session has this id."""
        if session not in self.sent:
            self.clients.insert(0, session)
            self.sent[session] = []

    def expire(self, step: Expire) -> list[Any]:
        """Return the command."""
        sessions = [self._session(client) for client in step.clients]
        return [0, 0, 0, int(Operation.EXPIRE_SESSIONS), sessions]

    def command(self, step: Command) -> list[Any]:
        """Return the command [session, sequence, acked, operation, *arguments]."""
        session = self._session(step.client)
        sent = self.sent.setdefault(session, [])
        if 0 < step.again <= len(sent):
            sequence = len(sent) + 1 - step.again
        else:
            sent.append(self._resolved(step.words, len(sent) + 1))
            sequence = len(sent)
        acked = max(0, len(sent) - step.acked.back)
        listed = [max(0, len(sent) - back) for back in step.acked.listed]
        return [session, sequence, [acked, *listed] if listed else acked, *sent[sequence - 1]]

    def _session(self, client: int) -> int:
        return self.clients[client] if client < len(self.clients) else 999_999

    def _resolved(self, words: Words, sequence: int) -> Words:
        operation, *arguments = words
        if operation in (Operation.CANCEL, Operation.RETURN):
            return [operation, max(0, sequence + 1 - arguments[0])]
        return [operation, *(self._current(operation, arguments, argument) for argument in arguments)]

    def _current(self, operation: int, arguments: Words, argument: Any) -> Any:
        if argument == [CURRENT]:
            return [self._current(operation, arguments, CURRENT)]
        if argument != CURRENT:
            return argument
        if operation == Operation.LOCK_RELEASE:
            status = self.machine.query(Operation.LOCK_STATUS, arguments[:1])
            return status[1][1] if status and status[1] else 0
        state = self.machine.query(Operation.VARIABLE_GET, [arguments[0], False])
        return state[1][1] if state and state[1] else 0

    def to_command(self, step: Step) -> list[Any]:
        """Return the command of any step."""
        if isinstance(step, Open):
            return self.open(step)
        return self.expire(step) if isinstance(step, Expire) else self.command(step)

    def play(self, step: Step) -> Any:
        """Apply a step to the machine alone; return what it caused."""
        applied = self.machine.apply(0, [self.to_command(step)])
        for view in applied.opened:
            self.opened(view.id)
        return applied
