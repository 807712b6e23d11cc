"""Random commands: plain steps, of Hypothesis or of a seed, that become commands when they are played.

A step names a client by its place among all that were ever opened, and a sequence by how it relates to the
last one, so that shrinking a list of steps keeps the rest meaningful.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

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
_NAMES: Final = [b"a", b"b"]
_NUMBERS: Final[list[Any]] = [CURRENT] * 10 + list(range(30))
_CONDITIONS: Final[list[Any]] = [[], [], *([number] for number in _NUMBERS), *([value] for value in _VALUES)]
_MAXSIZES: Final = [0, 0, 1, 3]
_ITEMS: Final = [[pack_value(100 * n + place) for place in range(n % 4 + 1)] for n in range(50)]
_COUNTS: Final = [1, 1, 1, 2, 3, -1]
_WAITS: Final = [True, True, False]
_TARGETS: Final = list(range(5))  # how far back; see `Player.command`

_ARGUMENTS: Final[dict[Operation, tuple[list[Any], ...]]] = {
    Operation.CONFIRM: (),
    Operation.CANCEL: (_TARGETS,),
    Operation.RETURN: (_TARGETS,),
    Operation.VARIABLE_SET: (_NAMES, _VALUES),
    Operation.VARIABLE_GET: (_NAMES, _WAITS),
    Operation.VARIABLE_COMPARE_AND_SET: (_NAMES, _CONDITIONS, _VALUES),
    Operation.VARIABLE_ADD: (_NAMES, _VALUES),
    Operation.VARIABLE_DELETE: (_NAMES,),
    Operation.VARIABLE_WATCH: (_NAMES, _NUMBERS, _WAITS),
    Operation.QUEUE_PUT: (_NAMES, _MAXSIZES, _ITEMS, _WAITS),
    Operation.QUEUE_GET: (_NAMES, _MAXSIZES, _COUNTS, _WAITS),
    Operation.QUEUE_SIZE: (_NAMES,),
    Operation.QUEUE_CLOSE: (_NAMES,),
    Operation.LOCK_ACQUIRE: (_NAMES, _WAITS),
    Operation.LOCK_RELEASE: (_NAMES, _NUMBERS),
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
_CHOICES: Final = [*_ARGUMENTS, *_OFTEN, *_OFTEN]
words: Final[SearchStrategy[Words]] = st.sampled_from(_CHOICES).flatmap(
    lambda operation: st.tuples(st.just(int(operation)), *map(st.sampled_from, _ARGUMENTS[operation])).map(
        list
    )
)


@dataclass(frozen=True)
class Acked:
    """An `acked` field: all sequences but the last `back` ones, and what is listed, counted back too."""

    back: int
    listed: tuple[int, ...]


_BACKS: Final = [0, 1, 3, 100, 100]
_AGAINS: Final = [0] * 8 + [1, 2, 5]
_ackeds: Final = st.builds(Acked, st.sampled_from(_BACKS), st.lists(st.integers(0, 6), max_size=3).map(tuple))


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


@dataclass(frozen=True)
class Restore:
    """The machine is replaced by one restored from its snapshot."""


commands: Final = st.builds(Command, st.integers(0, 3), st.sampled_from(_AGAINS), _ackeds, words)
opens: Final = st.builds(Open, st.integers(0, 5))
expires: Final = st.builds(Expire, st.lists(st.integers(0, 3), max_size=3).map(tuple))
Step: TypeAlias = Command | Open | Expire
steps: Final[SearchStrategy[list[Step]]] = st.lists(
    st.one_of(*[commands] * 12, opens, expires), min_size=15, max_size=60
)


def any_step(rng: random.Random) -> Step | Restore:
    """Return a step, without Hypothesis."""
    chance = rng.random()
    if chance < 0.03:
        return Expire(tuple(rng.sample(range(4), rng.randint(1, 2))))
    if chance < 0.10:
        return Open(rng.randint(0, 5))
    if chance < 0.13:
        return Restore()
    operation = rng.choice(_CHOICES)
    acked = Acked(rng.choice(_BACKS), tuple(rng.choices(range(7), k=rng.choice([0, 0, 1, 3]))))
    words = [int(operation), *(rng.choice(domain) for domain in _ARGUMENTS[operation])]
    return Command(rng.randint(0, 3), rng.choice(_AGAINS), acked, words)


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
