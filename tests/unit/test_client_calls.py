"""One client against one scripted replica: what is sent, confirmed, cancelled, undone and repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
from client_peer import Answers, Peer, Request, answer, granted, nothing, ok, play, scripted, waiting

from raftcoord import aio
from raftcoord.protocol.errors import (
    CallTimeout,
    ClientClosed,
    Code,
    NotHolder,
    OutcomeUnknown,
    QueueClosed,
    RaftcoordError,
    ValueTooLarge,
    WrongType,
)
from raftcoord.protocol.operations import Operation
from raftcoord.protocol.values import pack_value

_O = Operation


def test_sequences_grow_and_the_floor_follows() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        variable = aio.Variable("x", client)
        for value in range(3):
            await variable.set(value)
        assert [(r.sequence, r.acked) for r in peer.requests] == [(1, 0), (2, 1), (3, 2)]
        assert peer.requests[2].arguments == [b"\xa1x", b"\x02"]

    play(scenario, Peer())


def test_calls_of_one_turn_are_all_in_flight_at_once() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        variable = aio.Variable("x", client)
        sets = [asyncio.ensure_future(variable.set(value)) for value in range(5)]
        await peer.until(lambda peer: len(peer.requests) == 5)
        assert [request.acked for request in peer.requests] == [0] * 5
        for request in reversed(peer.requests):  # answers come in any order
            peer.send(*ok(request, 1))
        await asyncio.gather(*sets)
        peer.answers = granted
        await variable.set(5)
        assert peer.requests[-1].acked == 5

    play(scenario, Peer(answers=nothing))


def test_a_taken_item_is_confirmed_soon_though_nothing_else_is_sent() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        assert await aio.Queue("q", client=client).get() == "item"
        await peer.until(lambda peer: bool(peer.of(_O.CONFIRM)))
        get, confirm = peer.requests
        assert confirm.acked == [get.sequence, get.sequence]

    play(scenario, Peer(answers=scripted({_O.QUEUE_GET: lambda r: ok(r, [pack_value("item")])})))


def test_a_confirmation_rides_on_the_next_write_and_is_not_listed_again() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        queue, variable = aio.Queue("q", client=client), aio.Variable("x", client)
        assert await queue.get() == 1
        await variable.set(1)
        await variable.set(2)
        assert [request.acked for request in peer.requests] == [0, [1, 1], 2]
        assert not peer.of(_O.CONFIRM)

    play(scenario, Peer(answers=scripted({_O.QUEUE_GET: lambda r: ok(r, [b"\x01"])})))


def test_the_floor_passes_a_registered_wait_which_is_listed_when_it_ended() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        lock, variable = aio.Lock("l", client), aio.Variable("x", client)
        acquire = asyncio.ensure_future(lock.acquire())
        await peer.until(lambda peer: len(peer.requests) == 1)
        await variable.set(0)  # its answer comes after WAITING
        await variable.set(1)
        assert peer.requests[2].acked == 2, "WAITING came, so the floor may pass the wait"
        peer.send([1, int(Code.OK), 17])
        assert await acquire
        assert lock.fence == 17
        await variable.set(2)
        await variable.set(3)
        assert [request.acked for request in peer.requests[3:]] == [[3, 1], 4]

    play(scenario, Peer(answers=scripted({_O.LOCK_ACQUIRE: waiting})))


def test_an_older_unanswered_call_holds_a_confirmation_back() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        setting = asyncio.ensure_future(aio.Variable("x", client).set(1))
        await peer.until(lambda peer: len(peer.requests) == 1)
        assert await aio.Queue("q", client=client).get() == 1
        assert not client.core.session.state.can_confirm()
        peer.send([1, int(Code.OK), 1])
        await setting
        await peer.until(lambda peer: bool(peer.of(_O.CONFIRM)))
        assert [request.acked for request in peer.of(_O.CONFIRM)] == [[2, 2]]

    script = {_O.VARIABLE_SET: nothing, _O.QUEUE_GET: lambda r: ok(r, [b"\x01"])}
    play(scenario, Peer(answers=scripted(script)))


def test_waits_that_only_read_confirm_each_other() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        event = aio.Event("e", client)
        served: list[int] = []
        for sequence in (1, 2):
            pending = asyncio.ensure_future(event.wait())
            await peer.until(lambda peer: len(peer.requests) > len(served))
            served.append(sequence)
            peer.send([sequence, int(Code.OK), None])
            assert await pending
        assert [request.acked for request in peer.requests] == [0, [1, 1]]
        peer.answers = ok  # from the state: what is listed there is not taken in, and is listed again
        assert await event.wait()
        await aio.Variable("x", client).set(1)
        assert [request.acked for request in peer.requests[2:]] == [[2, 2], [3, 2]]

    play(scenario, Peer(answers=scripted({_O.EVENT_WAIT: waiting})))


def test_a_loan_is_not_confirmed_on_a_call_that_may_miss_the_log() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        assert await aio.Queue("q", client=client).get() == 1
        assert await aio.Event("e", client).wait()
        await peer.until(lambda peer: bool(peer.of(_O.CONFIRM)))
        assert [request.acked for request in peer.requests[:2]] == [0, 1]
        assert peer.of(_O.CONFIRM)[0].acked[1:] == [1]

    script = {_O.QUEUE_GET: lambda r: ok(r, [b"\x01"]), _O.EVENT_WAIT: ok}
    play(scenario, Peer(answers=scripted(script)))


def test_many_waits_that_ended_are_confirmed_though_nothing_else_is_sent() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        events = [aio.Event(number, client) for number in range(150)]
        pending = [asyncio.ensure_future(event.wait()) for event in events]
        await peer.until(lambda peer: len(peer.requests) == 150)
        peer.send(*([request.sequence, int(Code.OK), None] for request in list(peer.requests)))
        await asyncio.gather(*pending)
        await peer.until(lambda peer: bool(peer.of(_O.CONFIRM)))
        assert len(peer.of(_O.CONFIRM)[0].acked) == 151

    play(scenario, Peer(answers=scripted({_O.EVENT_WAIT: waiting})))


def test_a_wait_that_times_out_is_cancelled() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        with pytest.raises(CallTimeout, match="variable 'x'"):
            await aio.Variable("x", client).get("20ms")
        assert [request.operation for request in peer.requests] == [_O.VARIABLE_GET, _O.CANCEL]
        assert peer.requests[1].arguments == [1]

    script = {
        _O.VARIABLE_GET: waiting,
        _O.CANCEL: lambda r: ok(r, [int(Code.CANCELLED), None]),
    }
    play(scenario, Peer(answers=scripted(script)))


def test_a_wait_that_was_granted_before_its_cancel_succeeds() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        assert await aio.Queue("q", client=client).get("20ms") == "late"
        lock = aio.Lock("l", client)
        peer.answers = scripted({_O.LOCK_ACQUIRE: waiting, _O.CANCEL: lambda r: ok(r, [0, 9])})
        assert await lock.acquire(timeout="20ms")
        assert lock.fence == 9
        assert not peer.of(_O.RETURN)

    script = {
        _O.QUEUE_GET: waiting,
        _O.CANCEL: lambda r: ok(r, [0, [pack_value("late")]]),
    }
    play(scenario, Peer(answers=scripted(script)))


def test_a_call_that_does_not_wait_is_not_answered_late() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        queue, lock, variable = aio.Queue("q", 2, client), aio.Lock("l", client), aio.Variable("x", client)
        with pytest.raises(CallTimeout, match="queue 'q'"):
            await queue.get(0)
        with pytest.raises(CallTimeout, match="full"):
            await queue.put(1, timeout=0)
        with pytest.raises(CallTimeout, match="not set"):
            await variable.get(0)
        assert not await lock.acquire(blocking=False)
        assert not await lock.acquire(timeout="0s")
        with pytest.raises(ValueError, match="timeout"):
            await lock.acquire(blocking=False, timeout=1)
        assert all(request.arguments[-1] is False for request in peer.requests)

    script = {
        _O.QUEUE_GET: lambda r: answer(r, Code.EMPTY),
        _O.QUEUE_PUT: lambda r: answer(r, Code.FULL),
        _O.VARIABLE_GET: lambda r: answer(r, Code.UNSET),
        _O.LOCK_ACQUIRE: lambda r: answer(r, Code.HELD),
    }
    play(scenario, Peer(answers=scripted(script)))


def test_a_write_that_is_not_answered_is_cancelled_in_the_background() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        with pytest.raises(OutcomeUnknown):
            await aio.Variable("x", client).set(1, timeout="20ms")
        await peer.until(lambda peer: bool(peer.of(_O.CANCEL)))
        assert peer.of(_O.CANCEL)[0].arguments == [1]

    play(scenario, Peer(answers=scripted({_O.VARIABLE_SET: nothing})))


def test_the_clients_own_bound_ends_calls_without_a_timeout() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        variable, queue = aio.Variable("x", client), aio.Queue("q", client=client)
        outcomes = await asyncio.gather(
            variable.set(1), queue.qsize(), variable.add(1), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [OutcomeUnknown, CallTimeout, OutcomeUnknown]

    play(scenario, Peer(answers=nothing), timeout="50ms")


async def _give_up(awaitable: Awaitable[Any], peer: Peer, requests: int) -> None:
    """Cancel a task once its request has arrived."""
    task = asyncio.ensure_future(awaitable)
    await peer.until(lambda peer: len(peer.requests) >= requests)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_lock_granted_to_a_cancelled_task_is_released() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        lock = aio.Lock("l", client)
        await _give_up(lock.acquire(), peer, 1)
        await peer.until(lambda peer: bool(peer.of(_O.LOCK_RELEASE)))
        assert peer.of(_O.CANCEL)[0].arguments == [1]
        assert peer.of(_O.LOCK_RELEASE)[0].arguments == [b"\xa1l", 17]
        with pytest.raises(NotHolder):
            await lock.release()

    script = {_O.LOCK_ACQUIRE: waiting, _O.CANCEL: lambda r: ok(r, [0, 17])}
    play(scenario, Peer(answers=scripted(script)))


def test_items_of_a_cancelled_get_are_returned_before_anything_confirms_them() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        await _give_up(aio.Queue("q", client=client).get(), peer, 1)
        await peer.until(lambda peer: bool(peer.of(_O.RETURN)))
        returning = peer.of(_O.RETURN)[0]
        assert returning.arguments == [1]
        variable = aio.Variable("x", client)
        await variable.set(1)
        for request in peer.requests:
            assert request.acked == 0, f"{request} confirms the items that are being returned"
        peer.send(*ok(returning, 1))
        await variable.set(2)
        await variable.set(3)
        assert peer.requests[-1].acked == [5, 1]

    script = {
        _O.QUEUE_GET: nothing,
        _O.CANCEL: lambda r: ok(r, [0, [b"\x01"]]),
        _O.RETURN: nothing,
    }
    play(scenario, Peer(answers=scripted(script)))


def test_an_item_that_meets_the_cancellation_of_its_task_is_returned() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        getting = asyncio.ensure_future(aio.Queue("q", client=client).get())
        await peer.until(lambda peer: len(peer.requests) == 1)
        # The answer is delivered to the call, and the task is cancelled before it runs again.
        client.core.exchange.on_answer(1, Code.OK, [b"\x01"])
        getting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await getting
        await peer.until(lambda peer: bool(peer.of(_O.RETURN)))
        assert not peer.of(_O.CANCEL)
        assert peer.of(_O.RETURN)[0].acked == 0

    play(scenario, Peer(answers=scripted({_O.QUEUE_GET: nothing})))


def test_items_that_fit_into_no_answer_are_returned() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        with pytest.raises(ValueTooLarge):
            await aio.Queue("q", client=client).get(batch=True)
        await peer.until(lambda peer: bool(peer.of(_O.RETURN)))
        assert peer.of(_O.RETURN)[0].acked == 0

    play(scenario, Peer(answers=scripted({_O.QUEUE_GET: lambda r: answer(r, Code.TOO_LARGE, "too much")})))


def test_a_release_is_repeated_for_ever_once_asked_for() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        lock = aio.Lock("l", client)
        await lock.acquire()
        with pytest.raises(OutcomeUnknown):
            await lock.release(timeout="20ms")
        peer.answers = granted
        peer.connections[-1].transport.abort()
        await peer.until(lambda peer: len(peer.of(_O.LOCK_RELEASE)) == 2)
        first, second = peer.of(_O.LOCK_RELEASE)
        assert (first.sequence, first.arguments) == (second.sequence, second.arguments)
        assert not peer.of(_O.CANCEL)

    play(scenario, Peer(answers=scripted({_O.LOCK_RELEASE: nothing})))


def test_a_busy_replica_is_asked_again_under_the_same_sequence() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        await aio.Variable("x", client).set(1)
        assert [request.sequence for request in peer.requests] == [1, 1, 1]
        assert len(peer.connections) == 1

    def busy_twice(request: Request) -> Answers:
        return answer(request, Code.BUSY, "much to do") if len(peer.requests) < 3 else ok(request, 1)

    peer = Peer(answers=busy_twice)
    play(scenario, peer)


def test_nothing_is_sent_of_a_value_that_cannot_be_stored() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        variable, queue = aio.Variable("x", client), aio.Queue("q", client=client)
        with pytest.raises(TypeError, match="set"):
            await variable.set({1, 2})
        with pytest.raises(ValueTooLarge):
            await variable.set(b"x" * 2_000_000)
        with pytest.raises(ValueTooLarge):
            await queue.put_many([b"x" * 1_000_000] * 9)
        with pytest.raises(TypeError, match="str"):
            await variable.add("1")  # type: ignore[arg-type]
        await queue.put_many([])
        assert peer.requests == []

    play(scenario, Peer())


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (Code.WRONG_TYPE, WrongType),
        (Code.CLOSED, QueueClosed),
        (Code.NOT_HOLDER, NotHolder),
        (Code.TOO_LARGE, ValueTooLarge),
        (99, RaftcoordError),
    ],
)
def test_codes_become_exceptions_that_name_the_object(code: int, error: type[Exception]) -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        with pytest.raises(error, match="variable 'x'"):
            await aio.Variable("x", client).add(1)

    def refuse(request: Request) -> Answers:
        return [[request.sequence, int(code), None]]

    play(scenario, Peer(answers=scripted({_O.VARIABLE_ADD: refuse})))


def test_compare_and_set_answers_with_a_bool() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        variable = aio.Variable("x", client)
        assert await variable.compare_and_set(1, 2)
        assert await variable.compare_and_set(value=3, revision=7)
        peer.answers = lambda request: answer(request, Code.CONFLICT, [b"\x09", 4])
        assert not await variable.compare_and_set(aio.UNSET, 4)
        assert [request.arguments[1] for request in peer.requests] == [[b"\x01"], [7], []]
        peer.answers = granted

    play(scenario, Peer())


def test_watch_goes_from_revision_to_revision() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        seen = []
        async for change in aio.Variable("x", client).watch(timeout="5s"):
            seen.append(tuple(change))
            if len(seen) == 3:
                break
        assert seen == [("a", 4), (aio.UNSET, 0), ("b", 9)]

    def changes(request: Request) -> Answers:
        payloads: dict[int, Any] = {0: [pack_value("a"), 4], 4: [None, 0]}
        second_round = len(peer.requests) == 3
        return ok(request, [pack_value("b"), 9] if second_round else payloads[request.arguments[1]])

    peer = Peer(answers=scripted({_O.VARIABLE_WATCH: changes}))
    play(scenario, peer)


def test_close_confirms_and_ends_the_session() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        variable = aio.Variable("x", client)
        hanging = asyncio.ensure_future(aio.Lock("l", client).acquire())
        await peer.until(lambda peer: len(peer.requests) == 1)
        assert await aio.Queue("q", client=client).get() == 1
        await client.close()
        last = peer.requests[-1]
        assert (last.operation, last.acked) == (_O.CLOSE_SESSION, [2, 2])
        with pytest.raises(RaftcoordError):
            await hanging
        with pytest.raises(ClientClosed):
            await variable.set(1)
        await client.close()

    script = {_O.QUEUE_GET: lambda r: ok(r, [b"\x01"]), _O.LOCK_ACQUIRE: waiting}
    play(scenario, Peer(answers=scripted(script)))


def test_close_is_bounded_when_nobody_answers() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        setting = asyncio.ensure_future(aio.Variable("x", client).set(1))
        await peer.until(lambda peer: bool(peer.requests))
        started = asyncio.get_running_loop().time()
        await client.close()
        assert asyncio.get_running_loop().time() - started < 3
        with pytest.raises(RaftcoordError):
            await setting

    play(scenario, Peer(answers=nothing))
