"""Random commands: plain steps, of Hypothesis or of a seed, that become commands when they are played.

A step names a client by its place among all that were ever opened, a sequence by how it relates to the last
one, and a fence or an offset by what the object has at that moment, so that shrinking a list of steps keeps
the rest meaningful.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from machine_arguments import ARGUMENTS, CURRENT, FOCUSES, Focus, Near, choices_of

from raftcoord.machine import Machine
from raftcoord.protocol.operations import Operation

TTL_MS: Final = 1000

Words = list[Any]  # [operation, *arguments]


@dataclass(frozen=True)
class Acked:
    """An `acked` field: all sequences but the last `back` ones, and what is listed, counted back too."""

    back: int
    listed: tuple[int, ...]


@dataclass(frozen=True)
class Command:
    """A new command of a client, or an old sequence again: the same command, `again` places back."""

    client: int
    again: int  # 0: a new command
    acked: Acked
    words: Any
    after_ms: int  # how much time passed


@dataclass(frozen=True)
class Open:
    """A new session, or the hello of an existing one again."""

    nonce: int


@dataclass(frozen=True)
class Expire:
    """Some sessions end together."""

    clients: tuple[int, ...]


@dataclass(frozen=True)
class Pass:
    """Time passes, with a batch of no commands."""

    milliseconds: int


@dataclass(frozen=True)
class Restore:
    """The machine is replaced by one restored from its snapshot."""


Step: TypeAlias = Command | Open | Expire | Pass

_BACKS: Final = [0, 1, 1, 1, 3, 3, 100, 100, 100, 100]
_AGAINS: Final = [0] * 8 + [1, 2, 5]
_AFTERS: Final = [0] * 6 + [1, 7, 20]
_PASSES: Final = [1, 10, 30, 200]


def _words(focus: Focus) -> SearchStrategy[Words]:
    return st.sampled_from(choices_of(focus)).flatmap(
        lambda operation: st.tuples(st.just(int(operation)), *map(st.sampled_from, ARGUMENTS[operation])).map(
            list
        )
    )


def steps_of(focus: Focus) -> SearchStrategy[Step]:
    """Return a strategy of steps that use the objects of a focus only."""
    ackeds = st.builds(Acked, st.sampled_from(_BACKS), st.lists(st.integers(0, 6), max_size=3).map(tuple))
    commands = st.builds(
        Command,
        st.integers(0, 3),
        st.sampled_from(_AGAINS),
        ackeds,
        _words(focus),
        st.sampled_from(_AFTERS),
    )
    opens = st.builds(Open, st.integers(0, 5))
    expires = st.builds(Expire, st.lists(st.integers(0, 3), max_size=3).map(tuple))
    passes = st.builds(Pass, st.sampled_from(_PASSES))
    return st.one_of(*[commands] * 12, opens, expires, passes)


steps: Final[SearchStrategy[list[Step]]] = st.sampled_from(FOCUSES).flatmap(
    lambda focus: st.lists(steps_of(focus), min_size=15, max_size=60)
)


def any_step(rng: random.Random, focus: Focus) -> Step | Restore:
    """Return a step, without Hypothesis."""
    chance = rng.random()
    if chance < 0.02:
        return Expire(tuple(rng.sample(range(4), rng.randint(1, 2))))
    if chance < 0.15:
        return Open(rng.randint(0, 5))
    if chance < 0.18:
        return Restore()
    if chance < 0.21:
        return Pass(rng.choice(_PASSES))
    operation = rng.choice(choices_of(focus))
    acked = Acked(rng.choice(_BACKS), tuple(rng.choices(range(7), k=rng.choice([0, 0, 1, 3]))))
    words = [int(operation), *(rng.choice(domain) for domain in ARGUMENTS[operation])]
    return Command(rng.randint(0, 3), rng.choice(_AGAINS), acked, words, rng.choice(_AFTERS))


def focus_of(seed: int) -> Focus:
    """Return one of the focuses, each for as many seeds."""
    return FOCUSES[seed % len(FOCUSES)]


class Player:
    """Turns steps into commands of the log; `machine` is only asked for its current numbers."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.now_ms = 0
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
        self.now_ms += step.after_ms
        session = self._session(step.client)
        sent = self.sent.setdefault(session, [])
        if 0 < step.again <= len(sent):
            sequence = len(sent) + 1 - step.again
        else:
            sent.append(self._resolved(session, step.words, len(sent) + 1))
            sequence = len(sent)
        acked = max(0, len(sent) - step.acked.back)
        listed = [max(0, len(sent) - back) for back in step.acked.listed]
        return [session, sequence, [acked, *listed] if listed else acked, *sent[sequence - 1]]

    def _session(self, client: int) -> int:
        # Those that live come first, so that most commands find their session.
        clients = sorted(self.clients, key=self.machine.has_session, reverse=True)
        return clients[client] if client < len(clients) else 999_999

    def _resolved(self, session: int, words: Words, sequence: int) -> Words:
        operation, *arguments = words
        if operation in (Operation.CANCEL, Operation.RETURN):
            return [operation, max(0, sequence + 1 - arguments[0])]
        if operation == Operation.MULTILOCK_ACQUIRE:
            names, count, wait = arguments
            return [operation, names, min(count, len(names)), wait]
        holds = self._holds(session, operation)
        if holds and len(arguments) == 2 and arguments[1] is CURRENT:
            return [operation, holds[-1][1], holds[-1][0]]  # of all names the one of which it holds something
        return [operation, *(self._current(session, words, argument) for argument in arguments)]

    def _current(self, session: int, words: Words, argument: Any) -> Any:
        if argument == [CURRENT]:
            return [self._current(session, words, CURRENT)]
        if isinstance(argument, Near):
            _, following, _ = self._read(Operation.TOPIC_STATUS, words[1])
            return max(0, following + argument.distance)
        if argument != CURRENT:
            return argument
        operation = Operation(words[0])
        if operation.name.startswith("VARIABLE"):
            state = self._read(Operation.VARIABLE_GET, words[1], False)
            return state[1] if state else 0
        return self._fence(session, operation, words[1])

    def _read(self, operation: Operation, *arguments: Any) -> Any:
        result = self.machine.query(operation, list(arguments))
        assert result is not None
        return result[1]

    def _holds(self, session: int, operation: int) -> list[tuple[int, bytes]]:
        """Return fence and name of all that the session holds of the kind that this operation is for."""
        tag = Operation(operation).name.split("_")[0].lower() + "s"
        one = self.machine._context.sessions.get(session)
        holds = one.holds.items() if one is not None else ()
        return [(fence, name) for fence, (kind, name) in holds if kind.tag == tag]

    def _fence(self, session: int, operation: int, name: Any) -> int:
        """Return a fence of this object: the session's own if it has one, else anyone's, else 0."""
        for one in (session, *self.clients):
            for fence, of_name in self._holds(one, operation):
                if of_name in (name, b""):
                    return fence
        return 0

    def to_commands(self, step: Step) -> list[Any]:
        """Return the commands of any step: one or none."""
        if isinstance(step, Pass):
            self.now_ms += step.milliseconds
            return []
        if isinstance(step, Open):
            return [self.open(step)]
        return [self.expire(step) if isinstance(step, Expire) else self.command(step)]

    def play(self, step: Step) -> Any:
        """Apply a step to the machine alone; return what it caused."""
        commands = self.to_commands(step)
        applied = self.machine.apply(self.now_ms, commands)
        for view in applied.opened:
            self.opened(view.id)
        return applied
