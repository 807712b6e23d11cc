"""The log as the model understands it: what every command must have answered, and what a read may have seen.

Every entry is given to the model (`model/`) once, when the first replica applies it. From then on it is
known what each command did, once and for all.

Invariants of what is checked:
  1. Every result and every effect of the machine is the model's.
  2. A client's answer is the one that the log gave to its command, and that command is in the log.
  3. Nothing is out of order in time: a command that was sent after another one was answered comes behind
     it in the log, and a read sees no state older than what was answered before it was sent. With the log
     as the order, the history is therefore linearizable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from raftcoord.machine import Applied
from raftcoord.machine.outcome import Completed
from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import OPERATIONS, Kind, Operation
from raftcoord.testing.simulation.holders import held_fences
from raftcoord.testing.simulation.model import Answer, Model, Session, Wait, compare
from raftcoord.testing.simulation.reads import Place, place_of, reads_as, states
from raftcoord.testing.simulation.violation import Violation

_decode: Final = msgspec.msgpack.Decoder(tuple[int, list[Any]]).decode
_READ_KINDS: Final = frozenset({Kind.READ, Kind.READ_OR_WAIT})
_GRANTS: Final = frozenset(
    {
        Operation.LOCK_ACQUIRE,
        Operation.SEMAPHORE_ACQUIRE,
        Operation.MULTILOCK_ACQUIRE,
        Operation.RWLOCK_ACQUIRE,
        Operation.QUEUE_CLAIM,
    }
)
_VOIDING: Final = frozenset({Operation.SEMAPHORE_CLOSE, Operation.QUEUE_CLOSE})
_UNANSWERED: Final = frozenset(
    {Code.WAITING, Code.NOT_LEADER, Code.BUSY, Code.SHUTTING_DOWN, Code.SESSION_LOST}
)

Key = tuple[int, int]  # session, sequence


class Oracle:
    """What the log says, entry by entry.

    Args:
        on_holders: told, after an entry that granted something or ended sessions, of all fences that are held
            or were made void by a close, of which a holder is not told, and of what the entry did.
        on_expired: told of every session that is ended because nothing was heard of it.
    """

    def __init__(
        self,
        on_holders: Callable[[set[int], str], None] = lambda *_: None,
        on_expired: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.model = Model()
        self.index = 0  # of the last entry taken in
        self.answered_index = 0  # no client's answer shows anything newer
        self.finals: dict[Key, tuple[int, Any, int]] = {}  # code, payload, index
        self._on_holders, self._on_expired = on_holders, on_expired
        self._news: list[str] = []  # what an entry did to those who hold something
        self._void: set[int] = set()  # fences
        self._nonces: dict[bytes, int] = {}
        self._last_number = 0
        self._versions: dict[Place, list[tuple[int, Any]]] = {}

    def __repr__(self) -> str:
        return f"<Oracle index={self.index} answered={self.answered_index} finals={len(self.finals)}>"

    # The log.

    def take_no_op(self, index: int) -> None:
        """An entry without commands."""
        self.index = index

    def take(self, index: int, payload: bytes, applied: Applied) -> None:
        """Take in the next entry with what a machine made of it. Raises Violation."""
        self.index = index
        now_ms, commands = _decode(payload)
        ended: list[int] = []
        served = 0  # effects of the commands so far: the machine lists them in the order of the commands
        if len(commands) != len(applied.results):
            raise Violation("machine", f"{len(applied.results)} results for {len(commands)} commands")
        self.model.advance(now_ms)
        served = self._compare_effects(self.model.effects, applied.completed)
        for command, result in zip(commands, applied.results, strict=True):
            self._take_command(command, result, ended)
            served += self._compare_effects(self.model.effects, applied.completed[served:])
        if ended != applied.ended:
            raise Violation("machine", f"sessions {applied.ended} ended, not {ended}, at index {index}")
        if served < len(applied.completed):
            raise Violation("machine", f"served at index {index}: {applied.completed[served:]}")
        self._note_versions()
        if ended:
            self._news.append(f"sessions {ended} ended")
        if self._news:
            news, self._news = "; ".join(self._news), []
            self._on_holders(held_fences(self.model) | self._void, f"at index {index} {news}")

    def _take_command(self, command: list[Any], result: tuple[int, Any], ended: list[int]) -> None:
        session, sequence, acked, operation, *arguments = command
        if operation == Operation.OPEN_SESSION:
            self.model.effects = []
            self._open(arguments[0], arguments[2], result)
            return
        if operation == Operation.EXPIRE_SESSIONS:
            ended += [one for one in dict.fromkeys(arguments[0]) if one in self.model.sessions]
            self.model.expired.update(ended)
            self.model.end(arguments[0])
            for one in ended:
                self._on_expired(one)
            self._forget_nonces()
            return
        if operation == Operation.CLOSE_SESSION and session in self.model.sessions:
            ended.append(session)
        held = held_fences(self.model) if operation in _VOIDING else set()
        expected = self.model.apply(session, sequence, acked, [operation, *arguments])
        self._void |= held - held_fences(self.model) if held else held
        self._forget_nonces()
        self._compare(expected, result, f"{_show(command)} at index {self.index}")
        if result[0] != Code.WAITING and session:
            self._finish((session, sequence), operation, result)

    def _finish(self, key: Key, operation: int, result: tuple[int, Any]) -> None:
        if key in self.finals:
            return
        self.finals[key] = (result[0], result[1], self.index)
        if operation in _GRANTS and result[0] == Code.OK:
            self._news.append(
                f"{Operation(operation).name} of session {key[0]} was granted {result[1]!r:.80}"
            )

    def _open(self, nonce: bytes, client_name: str, result: tuple[int, Any]) -> None:
        code, session = result
        known = self._nonces.get(nonce)
        if code != Code.OK or (known is not None and known != session):
            raise Violation("machine", f"session {known} is opened again as {result}")
        if known is None:
            self._new_number(session, f"session {session}")
            self._nonces[nonce] = session
            self.model.sessions[session] = Session(client_name)

    def _forget_nonces(self) -> None:
        if len(self._nonces) != len(self.model.sessions):
            self._nonces = {
                nonce: session for nonce, session in self._nonces.items() if session in self.model.sessions
            }

    def _compare_effects(self, effects: list[tuple[Wait, Answer]], completed: list[Completed]) -> int:
        """Hold the first of what the machine completed against the model; return how many these are."""
        expected: dict[tuple[str, bytes], list[tuple[Wait, Answer]]] = {}
        waits: dict[Key, Wait] = {}
        for wait, answer in effects:
            expected.setdefault(wait.place, []).append((wait, answer))
            waits[wait.session, wait.sequence] = wait
        for session, sequence, code, payload in completed[: len(effects)]:
            where = f"session {session} sequence {sequence} at index {self.index}"
            served = waits.get((session, sequence))
            line = expected.get(served.place) if served is not None else None
            if served is None or not line:
                raise Violation("machine", f"{where} is served, and should wait")
            wait, answer = line.pop(0)
            if wait is not served:
                raise Violation("first in, first out", f"{where} is served before {wait.session}")
            self._compare(answer, (code, payload), where)
            self._finish((session, sequence), wait.operation, (code, payload))
        left = [wait for line in expected.values() for wait, _ in line]
        if left:
            raise Violation("machine", f"not served at index {self.index}: {left}")
        return len(effects)

    def _compare(self, expected: Any, actual: Any, where: str) -> None:
        if not compare(expected, actual, lambda number: self._new_number(number, where)):
            raise Violation("machine", f"{where}: {actual!r:.200}, not {expected!r:.200}")

    def _new_number(self, number: Any, where: str) -> None:
        if type(number) is not int or number <= self._last_number:
            raise Violation("fences grow", f"{where}: {number} after {self._last_number}")
        self._last_number = number

    def check_holds_nothing(self, session: int) -> None:
        """The client of a session has released and confirmed all that it ever got."""
        held = self.model.held_by(session)
        if held:
            raise Violation("the idle hold nothing", f"session {session} is done and holds {held}")

    # What could be read when.

    def _note_versions(self) -> None:
        versions, now = self._versions, dict(states(self.model))
        for place in {**versions, **now}:
            state = now.get(place)
            history = versions.setdefault(place, [])
            if (history[-1][1] if history else None) != state:
                history.append((self.index, state))

    def places(self) -> list[Place]:
        """Return all objects that ever were."""
        return list(self._versions)

    def _seen_by_read(
        self, operation: Operation, arguments: list[Any], answer: tuple[int, Any], oldest: int
    ) -> int | None:
        """Return the index since which the state was as a read saw it, or None when it never was."""
        history: list[tuple[int, Any]] = [(0, None), *self._versions.get(place_of(operation, arguments), [])]
        until = self.index
        position = len(history) - 1
        while until >= oldest:
            since, state = history[position]
            if reads_as(operation, arguments, state) == answer:
                return since
            until, position = since - 1, position - 1
        return None

    # Clients.

    def check_answer(
        self, key: Key, operation: Operation, arguments: list[Any], code: int, payload: Any, sent_index: int
    ) -> None:
        """Hold an answer that a client waits for against the log.

        Args:
            sent_index: `answered_index` when the request was first sent.

        Raises:
            Violation: the log says otherwise.
        """
        if code in _UNANSWERED:
            return
        where = f"{operation.name} session {key[0]} sequence {key[1]}"
        if code == Code.STALE:
            raise Violation("once", f"{where} is awaited, and was taken for a late duplicate")
        answer = (code, payload)
        final = self.finals.get(key)
        kind = OPERATIONS[operation].kind
        if final is not None and _same(final[:2], answer):
            if final[2] <= sent_index:
                raise Violation("real time", f"{where} took effect at {final[2]}, sent after {sent_index}")
            self.answered_index = max(self.answered_index, final[2])
        elif kind in _READ_KINDS:
            since = self._seen_by_read(operation, arguments, (code, _listed(payload)), sent_index)
            if since is None:
                raise Violation(
                    "linearizable reads",
                    f"{where} saw {answer!r:.200}, which was not so since index {sent_index}",
                )
            self.answered_index = max(self.answered_index, since)
        elif final is None:
            raise Violation(
                "acknowledged, so committed", f"{where} got {answer!r:.200}; nothing is in the log"
            )
        else:
            raise Violation("once", f"{where} got {answer!r:.200}, the log says {final[:2]!r:.200}")


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _show(command: list[Any]) -> str:
    session, sequence, acked, operation, *arguments = command
    return (
        f"{Operation(operation).name}{arguments!r:.80} of session {session} sequence {sequence} acked {acked}"
    )
