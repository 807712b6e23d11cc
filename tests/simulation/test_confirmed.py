"""What a leader may say without the log: only what was asked before a majority answered it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from little_replicas import rejects
from little_scenarios import fault, scenario

from raftcoord.consensus import messages as m
from raftcoord.protocol.errors import Code
from raftcoord.protocol.frames import MAGIC, PROTOCOL_VERSION, encode_frame
from raftcoord.server import control
from raftcoord.server.connection import Connection, ConnectionState
from raftcoord.testing.simulation.confirmed import Confirmations, WatchedConnection
from raftcoord.testing.simulation.simulation import simulate

PROMISE = "confirmed since it was asked"


def _send(confirmations: Confirmations, number: int, kind: str = m.APPEND) -> None:
    confirmations.on_sent({"number": number, "echo": None, "body": {"type": kind}})


def _answer(confirmations: Confirmations, peer: str, number: int) -> None:
    confirmations.on_received(peer, {"number": 0, "echo": [1, number], "body": {"type": m.APPEND_REPLY}})


def _watching(replicas: int = 3) -> Confirmations:
    confirmations = Confirmations("r1", replicas)
    confirmations.is_watching = True
    return confirmations


class TestConfirmations:
    @pytest.mark.parametrize(("replicas", "needed"), [(1, 0), (2, 1), (3, 1), (5, 2)])
    def test_a_majority_must_answer(self, replicas: int, needed: int) -> None:
        confirmations = _watching(replicas)
        _send(confirmations, 1)
        for peer in range(needed):
            rejects(PROMISE, confirmations.require, 0, "reads")
            _answer(confirmations, f"p{peer}", 1)
        confirmations.require(0, "reads")

    def test_what_had_left_before_it_was_asked_does_not_count(self) -> None:
        confirmations = _watching()
        _send(confirmations, 1)
        _send(confirmations, 2)
        asked = confirmations.sent
        _answer(confirmations, "r2", 2)
        rejects(PROMISE, confirmations.require, asked, "reads")
        _send(confirmations, 3)
        _answer(confirmations, "r3", 3)
        confirmations.require(asked, "reads")

    def test_an_answer_that_comes_late_takes_nothing_back(self) -> None:
        confirmations = _watching()
        _send(confirmations, 2)
        _answer(confirmations, "r2", 2)
        _answer(confirmations, "r2", 1)
        confirmations.require(1, "reads")

    def test_what_asks_for_no_answer_is_not_waited_for(self) -> None:
        confirmations = _watching()
        _send(confirmations, 1)
        _send(confirmations, 7, m.PRE_VOTE)
        assert confirmations.sent == 1
        _send(confirmations, 2, m.SNAPSHOT_CHUNK)
        assert confirmations.sent == 2

    def test_what_answers_nothing_is_no_answer(self) -> None:
        confirmations = _watching()
        confirmations.on_received("r2", {"number": 9, "echo": None, "body": {"type": m.PRE_VOTE_REPLY}})
        rejects(PROMISE, confirmations.require, 0, "reads")

    def test_nothing_is_required_of_whom_nobody_watches(self) -> None:
        Confirmations("r1", 3).require(0, "reads")


class Client:
    """A connection whose handler does what the test says; each message is `[sequence, ...]`."""

    def __init__(self) -> None:
        gateway: Any = SimpleNamespace(
            clock=SimpleNamespace(now=lambda: 0.0),
            limits=SimpleNamespace(in_flight_max=10, frame_bytes_max=1000),
            metrics=SimpleNamespace(bytes_received=0),
            wants_flush=lambda connection: None,
            buffered_bytes=0,
            is_buffer_full=lambda size_bytes: False,
        )
        self.confirmations = _watching()
        self.connection = WatchedConnection(
            gateway, self._handle, self.confirmations, lambda check, *arguments: check(*arguments)
        )

    def _handle(self, gateway: Any, connection: Connection, message: Any) -> None:
        if connection.state is ConnectionState.SESSION:
            connection.accept(message[0])
        else:
            connection.state = ConnectionState.ATTACHING

    def say(self, message: list[Any]) -> None:
        self.connection.data_received(encode_frame(message))

    def confirm(self) -> None:
        number = self.confirmations.sent + 1
        _send(self.confirmations, number)
        _answer(self.confirmations, "r2", number)

    def attach(self) -> None:
        self.connection.become(ConnectionState.SESSION, self._handle)
        self.connection.send((MAGIC, PROTOCOL_VERSION, int(Code.OK), {"session": 7}))

    @classmethod
    def attached(cls) -> Client:
        client = cls()
        client.say([MAGIC])
        client.confirm()
        client.attach()
        return client


class TestAnswers:
    def test_a_hello_is_accepted_behind_a_majority(self) -> None:
        Client.attached()

    def test_a_hello_is_not_accepted_because_of_what_was_answered_before(self) -> None:
        client = Client()
        client.confirm()
        client.say([MAGIC])
        rejects(PROMISE, client.attach)

    def test_a_hello_that_comes_in_parts_was_asked_when_its_end_came(self) -> None:
        client = Client()
        frame = encode_frame([MAGIC])
        client.connection.data_received(frame[:5])
        client.confirm()
        client.connection.data_received(frame[5:])
        rejects(PROMISE, client.attach)

    def test_what_comes_behind_a_hello_changes_nothing(self) -> None:
        client = Client()
        client.say([MAGIC])
        client.confirm()
        client.say([MAGIC])
        client.attach()

    def test_a_hello_may_be_refused_at_once(self) -> None:
        client = Client()
        client.say([MAGIC])
        client.connection.send((MAGIC, PROTOCOL_VERSION, int(Code.NOT_LEADER), None))

    @pytest.mark.parametrize("code", [Code.OK, Code.UNSET, Code.HELD, Code.WAITING])
    def test_a_request_is_answered_behind_a_majority(self, code: Code) -> None:
        client = Client.attached()
        client.say([1])
        rejects(PROMISE, client.connection.answer, 1, code, None)
        client.say([2])
        rejects(PROMISE, client.connection.on_result, 2, code, None)
        client.say([3])
        client.confirm()
        client.connection.answer(3, code, None)

    @pytest.mark.parametrize("code", [Code.BUSY, Code.MALFORMED, Code.SESSION_LOST])
    def test_a_request_may_be_refused_at_once(self, code: Code) -> None:
        client = Client.attached()
        client.say([1])
        client.connection.answer(1, code, None)

    def test_a_subscriber_may_be_told_what_a_replica_has_applied(self) -> None:
        client = Client()
        client.connection.state = ConnectionState.OBSERVER
        client.connection.accept(-1)
        client.connection.answer(-1, Code.OK, None)

    def test_requests_are_asked_one_by_one(self) -> None:
        client = Client.attached()
        client.say([1])
        client.confirm()
        client.say([2])
        client.connection.answer(1, Code.OK, None)
        rejects(PROMISE, client.connection.answer, 2, Code.OK, None)

    def test_what_others_did_may_end_a_wait_at_any_time(self) -> None:
        client = Client.attached()
        client.say([1])
        client.confirm()
        client.connection.answer(1, Code.WAITING, None)
        client.connection.complete(1, Code.OK, None)
        client.connection.complete(2, Code.OK, None)

    def test_nothing_is_said_on_a_connection_that_is_closed(self) -> None:
        client = Client.attached()
        client.say([1])
        client.connection.close()
        client.connection.answer(1, Code.OK, None)


def test_a_keep_alive_that_is_answered_at_once_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def at_once(gateway: Any, connection: Connection, identifier: int, arguments: list[Any]) -> None:
        control.answer_keep_alive(gateway, connection, identifier)

    one = scenario(fault("partition", shape="isolate"), rounds=3, heal_ms=3000)
    assert simulate(one).violation is None
    monkeypatch.setitem(control._TABLE, "keep_alive", (at_once, 0))
    violation = simulate(one).violation
    assert violation is not None
    assert violation.invariant == PROMISE
    assert "answers request -" in violation.text
