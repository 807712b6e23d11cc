"""A client among scripted replicas that refuse, name each other, fall silent or break off."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from client_peer import Answers, Peer, Request, answer, granted, ok, refusal, welcome

from raftcoord import aio
from raftcoord.client.states import ClientState
from raftcoord.protocol.errors import (
    CallTimeout,
    Code,
    LockLost,
    NotConnected,
    OutcomeUnknown,
    SessionLost,
    UnsupportedVersion,
)
from raftcoord.protocol.frames import encode_frame
from raftcoord.protocol.operations import Operation
from raftcoord.runtime import Runtime

_O = Operation
Scenario = Callable[..., Awaitable[None]]


def play(scenario: Scenario, *peers: Peer, limit_s: float = 20, **options: Any) -> None:
    """Run a scenario with a client that knows all the peers and is not connected yet."""

    async def run() -> None:
        async with AsyncExitStack() as stack:
            for peer in peers:
                await stack.enter_async_context(peer)
            addresses = [peer.address for peer in peers] or ["127.0.0.1:1"]
            client = aio.Client(addresses, set_as_default=False, **options)
            stack.push_async_callback(client.close)
            await scenario(client, *peers)

    asyncio.run(asyncio.wait_for(run(), limit_s))


def nothing(request: Request) -> Answers:
    return []


def elapsed() -> Callable[[], float]:
    loop = asyncio.get_running_loop()
    started = loop.time()
    return lambda: loop.time() - started


def follower(leader: Callable[[], str | None]) -> Peer:
    return Peer(hello=lambda number, options: refusal(Code.NOT_LEADER, leader()))


def test_a_hint_is_followed_also_to_an_address_that_was_not_given() -> None:
    async def scenario(client: aio.Client, first: Peer) -> None:
        async with Peer() as leader:
            hints.append(leader.address)
            await aio.Variable("x", client).set(1)
            assert [request.sequence for request in leader.requests] == [1]
            assert len(first.hellos) == 1

    hints: list[str] = []
    play(scenario, follower(lambda: hints[0]))


def test_replicas_that_name_each_other_do_not_keep_a_client_busy() -> None:
    async def scenario(client: aio.Client, first: Peer, second: Peer) -> None:
        addresses[:] = [first.address, second.address]
        with pytest.raises(NotConnected, match="NOT_LEADER"):
            await client.connect(timeout="300ms")
        assert len(first.hellos) + len(second.hellos) < 200

    addresses = ["", ""]
    play(scenario, follower(lambda: addresses[1]), follower(lambda: addresses[0]))


def test_a_replica_that_accepts_and_says_nothing_is_left_soon() -> None:
    async def scenario(client: aio.Client, silent: Peer, leader: Peer) -> None:
        took = elapsed()
        await client.connect()
        assert took() < 2
        assert leader.hellos
        assert client.state is ClientState.CONNECTED

    play(scenario, Peer(hello=lambda number, options: None), Peer())


def test_what_is_unanswered_is_repeated_in_order_under_its_sequences() -> None:
    async def scenario(client: aio.Client, peer: Peer) -> None:
        variable, lock = aio.Variable("x", client), aio.Lock("l", client)
        acquiring = asyncio.ensure_future(lock.acquire())
        await peer.until(lambda peer: len(peer.requests) == 1)
        setting = [asyncio.ensure_future(variable.set(value)) for value in (1, 2)]
        await peer.until(lambda peer: len(peer.requests) == 3)
        peer.answers = granted
        peer.connections[-1].transport.abort()
        await asyncio.gather(acquiring, *setting)
        before, after = peer.requests[:3], peer.requests[3:6]
        assert [(r.sequence, r.operation, r.arguments) for r in after] == [
            (r.sequence, r.operation, r.arguments) for r in before
        ]
        first, second = peer.hellos
        assert (first["session"], second["session"]) == (0, 7)

    def hold(request: Request) -> Answers:
        return answer(request, Code.WAITING) if request.operation is _O.LOCK_ACQUIRE else []

    play(scenario, Peer(answers=hold))


@pytest.mark.parametrize(
    "garbage", [b"\x00\x00\x00\x09half", encode_frame("what?"), b"\xff" * 9, encode_frame([1])]
)
def test_half_an_answer_or_nonsense_ends_only_the_connection(garbage: bytes) -> None:
    async def scenario(client: aio.Client, peer: Peer) -> None:
        await aio.Variable("x", client).set(1)
        assert [request.sequence for request in peer.requests] == [1, 1]
        assert client.state is ClientState.CONNECTED

    def break_off_once(request: Request) -> Answers:
        if request.connection > 1:
            return ok(request, 1)
        transport = peer.connections[-1].transport
        transport.write(garbage)
        transport.close()
        return []

    peer = Peer(answers=break_off_once)
    play(scenario, peer)


@pytest.mark.parametrize(
    "hello",
    [
        ["raftcoord", 1, 0],
        ["who", 1, 0, {}],
        ["raftcoord", 1, 0, {"session": "x"}],
        ["raftcoord", 1, 0, {"session": 0, "ttl_ms": 10, "frame_bytes_max": 1}],
        ["raftcoord", 1, 0, {"session": 7, "ttl_ms": float("inf"), "frame_bytes_max": 1, "server": "r1"}],
        [],
    ],
)
def test_a_malformed_welcome_is_no_welcome(hello: list[Any]) -> None:
    async def scenario(client: aio.Client, peer: Peer) -> None:
        with pytest.raises(NotConnected):
            await client.connect("100ms")
        assert client.state is ClientState.LOST
        await peer.until(lambda peer: len(peer.connections) > 4)
        await peer.until(lambda peer: sum(connection.open for connection in peer.connections) <= 1)

    class Odd(Peer):
        def take(self, connection: Any, message: list[Any]) -> None:
            connection.send(hello)

    play(scenario, Odd())


def test_a_leader_that_falls_silent_is_left_for_another_while_the_session_lives() -> None:
    async def scenario(client: aio.Client, old: Peer, new: Peer) -> None:
        states: list[ClientState] = []
        await client.connect()
        client.add_listener(states.append)
        old.keep_alive, old.answers = False, nothing
        leads[0] = new
        await aio.Variable("x", client).set(1)
        assert new.hellos[-1]["session"] == 7
        assert [request.sequence for request in new.requests] == [1]
        assert states == [ClientState.SUSPENDED, ClientState.CONNECTED]

    def hello_of(position: int) -> Callable[[int, dict[str, Any]], list[Any] | None]:
        def hello(number: int, options: dict[str, Any]) -> list[Any] | None:
            if not leads or leads[0] is peers[position]:
                return welcome(ttl_ms=1500)
            return None if position == 0 else refusal(Code.NOT_LEADER, peers[0].address)

        return hello

    peers = [Peer(hello=hello_of(0)), Peer(hello=hello_of(1))]
    leads = [peers[0]]
    play(scenario, *peers, session_ttl="1500ms")


def test_a_pushed_hint_and_a_not_leader_answer_lead_on() -> None:
    async def scenario(client: aio.Client, one: Peer, two: Peer) -> None:
        await client.connect()
        old, new = (one, two) if one.connections else (two, one)
        variable = aio.Variable("x", client)
        old.answers = nothing
        old.hello = lambda number, options: refusal(Code.NOT_LEADER, new.address)
        setting = asyncio.ensure_future(variable.set(1))
        await old.until(lambda peer: bool(peer.requests))
        old.send([0, int(Code.NOT_LEADER), new.address])
        await setting
        assert [request.sequence for request in new.requests] == [1]
        new.answers = lambda request: answer(request, Code.NOT_LEADER, old.address)
        new.hello = lambda number, options: refusal(Code.NOT_LEADER, old.address)
        old.hello, old.answers = lambda number, options: welcome(), granted
        await variable.set(2)
        assert [request.sequence for request in old.requests] == [1, 2]

    play(scenario, Peer(), Peer())


def test_a_client_that_every_replica_refuses_for_good_learns_so_at_once() -> None:
    async def scenario(client: aio.Client, peer: Peer) -> None:
        took = elapsed()
        with pytest.raises(UnsupportedVersion, match="version 9"):
            await client.connect()
        with pytest.raises(UnsupportedVersion):
            await aio.Variable("x", client).set(1)
        assert took() < 3

    play(scenario, Peer(hello=lambda number, options: refusal(Code.UNSUPPORTED_VERSION, "I speak version 9")))


def test_calls_are_bounded_without_any_replica() -> None:
    async def scenario(client: aio.Client) -> None:
        variable, queue = aio.Variable("x", client), aio.Queue("q", client=client)
        took = elapsed()
        with pytest.raises(NotConnected, match=r"127\.0\.0\.1:1"):
            await client.connect("50ms")
        for call in (variable.set(1, "50ms"), variable.get("50ms"), queue.get("50ms"), queue.put(1, "50ms")):
            with pytest.raises(CallTimeout, match="not sent in time"):
                await call
        assert not await aio.Lock("l", client).acquire(timeout="50ms")
        with pytest.raises(CallTimeout):
            await variable.delete()
        assert took() < 5
        await client.close()

    play(scenario, timeout="100ms")


def test_a_wait_that_was_sent_is_bounded_when_the_replicas_are_gone() -> None:
    async def scenario(client: aio.Client, peer: Peer) -> None:
        getting = asyncio.ensure_future(aio.Queue("q", client=client).get("150ms"))
        await peer.until(lambda peer: bool(peer.requests))
        peer.hello = lambda number, options: refusal(Code.NOT_LEADER)
        peer.connections[-1].transport.abort()
        with pytest.raises(CallTimeout):
            await getting
        # When a replica is back it learns first of all that the call was given up.
        peer.hello = lambda number, options: welcome()
        peer.answers = granted
        await aio.Variable("x", client).set(1)
        assert [request.operation for request in peer.requests[1:3]] == [_O.CANCEL, _O.VARIABLE_SET]

    play(scenario, Peer(answers=lambda request: answer(request, Code.WAITING)))


def test_a_lost_session_fails_its_calls_and_a_new_one_follows() -> None:
    async def scenario(client: aio.Client, peer: Peer) -> None:
        events: list[object] = []
        client.add_listener(events.append)
        lock = aio.Lock("l", client, on_lost=lambda: events.append("lock lost"))
        unused = aio.Lock("l", client, on_lost=lambda: events.append("never"))
        await lock.acquire()
        getting = asyncio.ensure_future(aio.Queue("q", client=client).get())
        await peer.until(lambda peer: len(peer.requests) == 2)
        peer.hello = lambda number, options: (
            refusal(Code.SESSION_LOST, "unknown") if options["session"] == 7 else welcome(session=8)
        )
        peer.connections[-1].transport.abort()
        with pytest.raises(SessionLost):
            await getting
        assert await unused.acquire()
        assert events == [
            ClientState.CONNECTED,
            ClientState.SUSPENDED,
            "lock lost",
            ClientState.LOST,
            ClientState.CONNECTED,
        ]
        assert peer.hellos[0]["nonce"] != peer.hellos[-1]["nonce"]
        with pytest.raises(LockLost):
            _ = lock.fence
        with pytest.raises(LockLost):
            await lock.release()
        assert await lock.acquire(), "after LockLost was told the handle can be used again"
        await lock.release()

        async def lose_it_inside(error: type[Exception] | None) -> None:
            async with lock:
                client.core.on_session_lost(client.core.session, "test")
                if error is not None:
                    raise error

        peer.hello = lambda number, options: welcome(session=9)
        with pytest.raises(LockLost):
            await lose_it_inside(None)
        with pytest.raises(ZeroDivisionError):
            await lose_it_inside(ZeroDivisionError)

    def answers(request: Request) -> Answers:
        return answer(request, Code.WAITING) if request.operation is _O.QUEUE_GET else granted(request)

    play(scenario, Peer(answers=answers))


def test_the_session_is_over_when_its_time_to_live_ran_out_here() -> None:
    async def scenario(client: aio.Client, peer: Peer) -> None:
        lost = asyncio.Event()
        await client.connect()
        clock = elapsed()
        lock = aio.Lock("l", client, on_lost=lost.set)
        await lock.acquire()
        peer.hello = lambda number, options: refusal(Code.NOT_LEADER)
        peer.connections[-1].transport.abort()
        await lost.wait()
        # No keep-alive was answered, so the time counts from the hello, which was sent before `clock` began.
        assert 0.3 < clock() < 0.6
        assert client.state is ClientState.LOST
        assert client.session_id is None

    play(scenario, Peer(hello=lambda number, options: welcome(ttl_ms=500)), session_ttl="500ms")


class _ClockAhead:
    """The loop's clock, moved on without any timer noticing: as after a stop of the whole process."""

    ahead_s = 0.0

    def now(self) -> float:
        return asyncio.get_running_loop().time() + self.ahead_s


def test_a_session_that_ran_out_is_not_revived_by_a_late_answer() -> None:
    clock = _ClockAhead()

    async def scenario(client: aio.Client, peer: Peer) -> None:
        lock = aio.Lock("l", client)
        await lock.acquire()
        clock.ahead_s = 0.6
        with pytest.raises(LockLost):  # it is not released in the store, which happens with its session
            await lock.release()
        # The next keep-alive is answered before a timer tells that the session is over.
        await peer.until(lambda peer: len(peer.hellos) == 2)
        assert peer.hellos[1]["session"] == 0
        assert peer.of(_O.LOCK_RELEASE) == []

    peer = Peer(hello=lambda number, options: welcome(ttl_ms=500))
    play(scenario, peer, session_ttl="500ms", runtime=Runtime(clock=clock))


def test_keep_alives_keep_the_session() -> None:
    async def scenario(client: aio.Client, peer: Peer) -> None:
        states: list[ClientState] = []
        await client.connect()
        client.add_listener(states.append)
        await peer.until(lambda peer: peer.keep_alives >= 8)
        assert states == []
        assert client.session_id == 7

    play(scenario, Peer(hello=lambda number, options: welcome(ttl_ms=500)), session_ttl="500ms")


def test_a_replica_that_throws_the_client_out_is_not_asked_without_a_pause() -> None:
    async def scenario(client: aio.Client, peer: Peer) -> None:
        with pytest.raises(OutcomeUnknown):
            await aio.Variable("x", client).set(1, timeout="500ms")
        assert 3 < len(peer.connections) < 30

    def throw_out(request: Request) -> Answers:
        peer.connections[-1].transport.abort()
        return []

    peer = Peer(answers=throw_out)
    play(scenario, peer)


def test_an_answer_on_an_old_connection_does_not_count_twice() -> None:
    async def scenario(client: aio.Client, peer: Peer) -> None:
        variable = aio.Variable("x", client)
        await variable.set(1)
        peer.send([1, int(Code.OK), 1], [1, int(Code.WAITING), None], [99, int(Code.OK), None])
        await variable.set(2)
        assert client.core.session.state.floor == 2
        assert len(peer.connections) == 1

    play(scenario, Peer())


def test_a_client_follows_to_a_new_loop_and_not_into_a_second_open_one() -> None:
    client = aio.Client("127.0.0.1:1", set_as_default=False, timeout="20ms")

    async def use() -> None:
        with pytest.raises(CallTimeout):
            await aio.Variable("x", client).set(1)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(use())
    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(use())
    for task in asyncio.all_tasks(loop):
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    asyncio.run(use())
