"""The notation of the transcripts: lines of commands, below each what the machine made of it.

    s1 open                        a session; s1 is its label in this file
    s1#2 queue get q 1 wait        session s1, sequence 2
    s1#3 [1,2] confirm             with an `acked` field, an int or a list; 0 when left out
    expire s1 s2                   the leader ends sessions
    query variable get x           a read that does not go through the log
    names s1 s2                    the names of clients, also a read
    time +500                      time passes, and the leader proposes a batch of no commands
    pause +500                     time passes until the next command
    due                            when the leader has to let time pass next
    restored                       the machine is replaced by one restored from its snapshot
    counts                         what there is; zeros are left out

Indented lines are output: `OK 3` the result, `=> s2#1 OK 3` a wait that was completed by the command,
`ended s1` a session that is gone, `OK: CANCELLED` what a cancel found of its target. Lines that begin with
# are comments. Values are JSON, without blanks. Every command comes 1 ms after the one before it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from raftcoord.machine import Machine
from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import Operation
from raftcoord.protocol.values import pack_name, pack_value, unpack_value

_INDENT = "    "
_TTL_MS = 10_000

Field = Callable[[str], Any]


def _value(word: str) -> bytes:
    return pack_value(json.loads(word))


def _values(word: str) -> list[bytes]:
    return [pack_value(value) for value in json.loads(word)]


def _condition(word: str) -> list[Any]:
    """unset, @7 (at revision 7), or a value."""
    if word == "unset":
        return []
    return [int(word[1:])] if word.startswith("@") else [_value(word)]


def _count(word: str) -> int:
    return -1 if word == "all" else int(word)


def _wait(word: str) -> bool:
    return {"wait": True, "now": False}[word]


def _names(word: str) -> list[bytes]:
    """a,b,c."""
    return [pack_name(name) for name in word.split(",")]


def _number(prefix: str) -> Field:
    """Return the field that reads such as max=3."""
    return lambda word: int(word.removeprefix(prefix + "="))


def _flag(true: str, false: str) -> Field:
    """Return the field that reads one of two words."""
    return lambda word: {true: True, false: False}[word]


def _limits(word: str) -> list[Any]:
    """unlimited, 3 (deliveries, then dropped) or 3:dead (then put into that queue)."""
    if word == "unlimited":
        return [0, b""]
    deliveries_max, _, dead_letters = word.partition(":")
    return [int(deliveries_max), pack_name(dead_letters) if dead_letters else b""]


def _retention(word: str) -> list[Any]:
    """keep=100,1000 (messages, bytes) or keep=100,1000,500 (and so many milliseconds)."""
    numbers = [int(number) for number in word.removeprefix("keep=").split(",")]
    return numbers if len(numbers) == 3 else [*numbers, 0]


_OPERATIONS: dict[str, tuple[Operation, tuple[Field, ...]]] = {
    "variable set": (Operation.VARIABLE_SET, (pack_name, _value)),
    "variable get": (Operation.VARIABLE_GET, (pack_name, _wait)),
    "variable compare_and_set": (Operation.VARIABLE_COMPARE_AND_SET, (pack_name, _condition, _value)),
    "variable add": (Operation.VARIABLE_ADD, (pack_name, _value)),
    "variable delete": (Operation.VARIABLE_DELETE, (pack_name,)),
    "variable watch": (Operation.VARIABLE_WATCH, (pack_name, int, _wait)),
    "variable set_with": (
        Operation.VARIABLE_SET_WITH,
        (pack_name, _value, _number("ttl"), _flag("ephemeral", "lasting")),
    ),
    "queue put": (Operation.QUEUE_PUT, (pack_name, _number("max"), _values, _wait)),
    "queue get": (Operation.QUEUE_GET, (pack_name, _number("max"), _count, _wait)),
    "queue size": (Operation.QUEUE_SIZE, (pack_name,)),
    "queue close": (Operation.QUEUE_CLOSE, (pack_name,)),
    "queue claim": (Operation.QUEUE_CLAIM, (pack_name, _number("max"), _limits, _wait)),
    "queue ack": (Operation.QUEUE_ACK, (pack_name, int)),
    "queue nack": (Operation.QUEUE_NACK, (pack_name, int)),
    "lock acquire": (Operation.LOCK_ACQUIRE, (pack_name, _wait)),
    "lock release": (Operation.LOCK_RELEASE, (pack_name, int)),
    "lock status": (Operation.LOCK_STATUS, (pack_name,)),
    "lock waiters": (Operation.LOCK_WAITERS, (pack_name,)),
    "event set": (Operation.EVENT_SET, (pack_name,)),
    "event clear": (Operation.EVENT_CLEAR, (pack_name,)),
    "event wait": (Operation.EVENT_WAIT, (pack_name, _wait)),
    "event is_set": (Operation.EVENT_IS_SET, (pack_name,)),
    "semaphore acquire": (Operation.SEMAPHORE_ACQUIRE, (pack_name, _number("max"), _wait)),
    "semaphore release": (Operation.SEMAPHORE_RELEASE, (pack_name, int)),
    "semaphore status": (Operation.SEMAPHORE_STATUS, (pack_name,)),
    "semaphore close": (Operation.SEMAPHORE_CLOSE, (pack_name,)),
    "multilock acquire": (Operation.MULTILOCK_ACQUIRE, (_names, _number("count"), _wait)),
    "multilock release": (Operation.MULTILOCK_RELEASE, (int,)),
    "multilock status": (Operation.MULTILOCK_STATUS, (pack_name,)),
    "rwlock acquire": (Operation.RWLOCK_ACQUIRE, (pack_name, _flag("shared", "exclusive"), _wait)),
    "rwlock release": (Operation.RWLOCK_RELEASE, (pack_name, int)),
    "rwlock status": (Operation.RWLOCK_STATUS, (pack_name,)),
    "topic publish": (Operation.TOPIC_PUBLISH, (pack_name, _retention, _values)),
    "topic read": (Operation.TOPIC_READ, (pack_name, int, int, _wait)),
    "topic status": (Operation.TOPIC_STATUS, (pack_name,)),
    "topic delete": (Operation.TOPIC_DELETE, (pack_name,)),
    "confirm": (Operation.CONFIRM, ()),
    "close": (Operation.CLOSE_SESSION, ()),
    "cancel": (Operation.CANCEL, (int,)),
    "return": (Operation.RETURN, (int,)),
}


def _operation(words: list[str]) -> list[Any]:
    """Return [operation, *arguments] of a command's words."""
    two = " ".join(words[:2])
    name, rest = (two, words[2:]) if two in _OPERATIONS else (words[0], words[1:])
    operation, fields = _OPERATIONS[name]
    return [int(operation), *(field(word) for field, word in zip(fields, rest, strict=True))]


def _plain(payload: Any) -> Any:
    if type(payload) is bytes:
        return unpack_value(payload)
    return [_plain(item) for item in payload] if type(payload) is list else payload


def _answer(code: int, payload: Any) -> str:
    text = "" if payload is None else " " + json.dumps(_plain(payload))
    return Code(code).name + text


class Player:
    """Plays one transcript on one machine.

    Args:
        restore_always: restore the machine from its snapshot before every command; must not show.
    """

    def __init__(self, *, restore_always: bool) -> None:
        self.machine = Machine()
        self.restore_always = restore_always
        self.ids: dict[str, int] = {}
        self.now_ms = 0

    def play(self, text: str) -> str:
        """Return the transcript with the output that its commands have now."""
        lines: list[str] = []
        for line in text.splitlines():
            if line.startswith(_INDENT):
                continue
            lines.append(line)
            if line and not line.startswith("#"):
                lines += [_INDENT + output for output in self._run(line)]
        return "\n".join(lines) + "\n"

    def _restore(self) -> None:
        chunks = list(self.machine.begin_snapshot())
        self.machine = Machine()
        self.machine.restore(chunks)
        assert b"".join(self.machine.begin_snapshot()) == b"".join(chunks)

    def _run(self, line: str) -> list[str]:
        if self.restore_always:
            self._restore()
        words = line.split()
        if words[0] == "restored":
            self._restore()
            return []
        if words[0] == "counts":
            return [f"{name} {count}" for name, count in sorted(self.machine.counts().items()) if count]
        if words[0] == "query":
            operation, *arguments = _operation(words[1:])
            result = self.machine.query(operation, arguments)
            return ["must wait in the log" if result is None else _answer(*result)]
        if words[0] == "names":
            ids = [self.ids.get(label, 0) for label in words[1:]]
            return [_answer(*self.machine.query(Operation.SESSION_NAMES, [ids]) or ())]
        if words[0] == "due":
            deadline_ms = self.machine.next_deadline_ms()
            return ["never" if deadline_ms is None else f"in {deadline_ms - self.now_ms} ms"]
        if words[0] == "pause":
            self.now_ms += int(words[1])
            return []
        if words[0] == "time":
            self.now_ms += int(words[1]) - 1
            return self._apply()
        if words[0] == "expire":
            ids = [self.ids[label] for label in words[1:]]
            return self._apply([0, 0, 0, int(Operation.EXPIRE_SESSIONS), ids])
        if words[1:2] == ["open"]:
            return self._open(words[0])
        label, sequence = words[0].split("#")
        acked = json.loads(words.pop(1)) if words[1][0] in "[0123456789" else 0
        return self._apply([self.ids[label], int(sequence), acked, *_operation(words[1:])])

    def _open(self, label: str) -> list[str]:
        nonce = label.encode().ljust(16, b".")
        self.now_ms += 1
        command = [0, 0, 0, int(Operation.OPEN_SESSION), nonce, _TTL_MS, label]
        [(code, payload)] = self.machine.apply(self.now_ms, [command]).results
        known = self.ids.get(label)
        self.ids[label] = payload
        return [Code(code).name + (" the same session" if known == payload else "")]

    def _apply(self, *commands: list[Any]) -> list[str]:
        self.now_ms += 1
        applied = self.machine.apply(self.now_ms, list(commands))
        labels = {session_id: label for label, session_id in self.ids.items()}
        output = [_answer(*result) for result in applied.results]
        if commands and commands[0][3] == Operation.CANCEL and applied.results[0][0] == Code.OK:
            output = [f"OK: {_answer(*applied.results[0][1])}"]
        output += [
            f"=> {labels[done.session]}#{done.sequence} {_answer(done.code, done.payload)}"
            for done in applied.completed
        ]
        return output + [f"ended {labels[session_id]}" for session_id in applied.ended]
