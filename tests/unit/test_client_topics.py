"""Pub and Sub against a scripted replica: positions, batches, gaps, and what is resumed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from client_peer import Answers, Peer, Request, answer, lose_session, nothing, ok, play, scripted, waiting

import raftcoord
from raftcoord import aio
from raftcoord.client.errors import TopicDeleted
from raftcoord.protocol.errors import BadRequest, CallTimeout, Code, SessionLost, ValueTooLarge
from raftcoord.protocol.operations import BATCH_ITEMS_MAX, Operation
from raftcoord.protocol.values import pack_value

_O = Operation


class Topic:
    """A topic of numbers that are their own offsets; what is before `first` is gone."""

    def __init__(self, first: int, following: int) -> None:
        self.first, self.following = first, following

    def read(self, request: Request) -> Answers:
        _, offset, count_max, wait = request.arguments
        if offset >= self.following:
            return answer(request, Code.WAITING if wait else Code.EMPTY)
        begin = max(offset, self.first)
        end = min(self.following, begin + count_max)
        return ok(request, [end, begin - offset, [pack_value(number) for number in range(begin, end)]])

    def script(self) -> Callable[[Request], Answers]:
        return scripted(
            {
                _O.TOPIC_READ: self.read,
                _O.TOPIC_STATUS: lambda r: ok(r, [self.first, self.following, 0]),
                _O.CANCEL: lambda r: ok(r, [int(Code.CANCELLED), None]),
            }
        )


def test_a_subscription_begins_where_it_was_awaited() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        sub = aio.Sub("t", client=client)
        with pytest.raises(RuntimeError, match="await"):
            _ = sub.offset
        assert await sub is sub
        assert sub.offset == 40
        topic.following = 43
        assert [await sub.get("5s") for _ in range(3)] == [40, 41, 42]
        assert (sub.offset, sub.missed) == (43, 0)
        assert len(peer.of(_O.TOPIC_STATUS)) == 1
        assert peer.of(_O.TOPIC_READ)[0].arguments == [b"\xa1t", 40, 100, True]
        lazily = aio.Sub("t", client=client)
        with pytest.raises(CallTimeout):
            await lazily.get(0)
        assert lazily.offset == 43
        assert (await aio.Sub("t", "start", client)).offset == 7
        assert (await aio.Sub("t", 9, client)).offset == 9

    topic = Topic(7, 40)
    play(scenario, Peer(answers=topic.script()))


@pytest.mark.parametrize("kind", ["silent", "session lost"])
def test_waiting_for_a_message_begins_however_long_that_takes(kind: str) -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        reading = asyncio.create_task(aio.Sub("t", "start", client).get())
        await peer.until(lambda peer: len(peer.of(_O.TOPIC_STATUS)) == 1)
        if kind == "session lost":
            await lose_session(peer, client, session=9)
        else:
            await peer.until(lambda peer: len(peer.of(_O.TOPIC_STATUS)) == 2)
        peer.answers = Topic(7, 40).script()
        peer.connections[-1].transport.abort()  # what is unanswered is asked again
        assert await reading == 7
        peer.answers = nothing
        with pytest.raises(CallTimeout):
            await aio.Sub("t", "start", client).get("20ms")

    play(scenario, Peer(answers=nothing), timeout="100ms")


def test_messages_are_fetched_in_batches_and_a_cancelled_get_loses_none() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        sub = aio.Sub("t", 10, client, prefetch=4)
        assert await sub.get() == 10
        getting = asyncio.ensure_future(sub.get())
        assert await getting == 11
        reads = len(peer.of(_O.TOPIC_READ))
        assert reads == 1
        assert [await sub.get() for _ in range(8)] == list(range(12, 20))
        waiting_for = asyncio.ensure_future(sub.get())
        await peer.until(lambda peer: len(peer.of(_O.TOPIC_READ)) == 4)
        waiting_for.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting_for
        topic.following = 22
        with pytest.raises(CallTimeout):
            await aio.Sub("t", 99, client).get("20ms")
        seen = []
        async for message in sub:
            seen.append(message)
            if message == 21:
                break
        assert seen == [20, 21]

    topic = Topic(0, 20)
    play(scenario, Peer(answers=topic.script()))


def test_many_tasks_on_one_subscription_get_each_message_once() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        sub = aio.Sub("t", 0, client, prefetch=3)
        got = await asyncio.gather(*(sub.get() for _ in range(20)))
        assert sorted(got) == list(range(20))
        assert sub.offset == 20

    play(scenario, Peer(answers=Topic(0, 50).script()))


def test_large_messages_are_confirmed_though_nothing_else_is_sent() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        subs = [await aio.Sub(number, 1, client) for number in range(3)]
        getting = [asyncio.ensure_future(sub.get()) for sub in subs]
        await peer.until(lambda peer: len(peer.of(_O.TOPIC_READ)) == 3)
        for request, length in zip(peer.of(_O.TOPIC_READ), (1, 200_000, 70_000), strict=True):
            peer.send(*ok(request, [2, 0, [pack_value(b"x" * length)]]))
        await asyncio.gather(*getting)
        await peer.until(lambda peer: bool(peer.of(_O.CONFIRM)))
        sequences = [request.sequence for request in peer.of(_O.TOPIC_READ)]
        assert peer.of(_O.CONFIRM)[0].acked == [max(sequences), *sequences]

    play(scenario, Peer(answers=scripted({_O.TOPIC_READ: waiting})))


def test_what_was_missed_is_counted_and_told() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        def on_missed(count: int) -> None:
            told.append(count)
            raise ZeroDivisionError

        told: list[int] = []
        sub = aio.Sub("t", 5, client, prefetch=10, on_missed=on_missed)
        assert await sub.get() == 8
        assert (sub.missed, sub.offset) == (3, 9)
        topic.first, topic.following = 100, 110
        assert [await sub.get() for _ in range(3)] == [9, 100, 101], "what was fetched is not missed"
        assert (sub.missed, told) == (3 + 90, [3, 90])

    topic = Topic(8, 10)
    play(scenario, Peer(answers=topic.script()))


def test_a_lost_session_is_no_gap() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        sub = aio.Sub("t", 4, client)
        getting = asyncio.ensure_future(sub.get("10s"))
        await peer.until(lambda peer: bool(peer.requests))
        topic.following = 6
        await lose_session(peer, client, session=8)
        assert await getting == 4
        assert await sub.get() == 5
        assert [r.arguments[1] for r in peer.of(_O.TOPIC_READ)] == [4, 4]
        getting = asyncio.ensure_future(sub.get())
        await peer.until(lambda peer: len(peer.of(_O.TOPIC_READ)) == 3)
        await client.close()
        with pytest.raises(SessionLost):
            await getting

    topic = Topic(0, 4)
    play(scenario, Peer(answers=topic.script()))


def test_a_deleted_topic_ends_its_subscriptions() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        with pytest.raises(TopicDeleted, match="topic 't'"):
            await aio.Sub("t", 4, client).get()
        with pytest.raises(TopicDeleted):
            await anext(aio.Sub("t", 4, client))
        assert await aio.Pub("t", client).delete() is True

    script = {_O.TOPIC_READ: lambda r: answer(r, Code.CLOSED), _O.TOPIC_DELETE: lambda r: ok(r, True)}
    play(scenario, Peer(answers=scripted(script)))


def test_a_damaged_message_is_passed_over() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        sub = aio.Sub("t", 0, client)
        with pytest.raises(BadRequest):
            await sub.get()
        assert await sub.get() == 1

    play(scenario, Peer(answers=scripted({_O.TOPIC_READ: lambda r: ok(r, [2, 0, [b"\xc1", b"\x01"]])})))


def test_publishing_carries_the_retention_and_returns_offsets() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        pub = aio.Pub("t", client, retention_count=5, retention_bytes=1000, retention_age="1500ms")
        assert await pub.put("a") == 6
        assert await pub.put_many(iter("bc")) == range(6, 8)
        assert await pub.put_many([]) == range(0)
        assert await aio.Pub("t", client).put(None) == 6
        assert [r.arguments for r in peer.requests] == [
            [b"\xa1t", [5, 1000, 1500], [b"\xa1a"]],
            [b"\xa1t", [5, 1000, 1500], [b"\xa1b", b"\xa1c"]],
            [b"\xa1t", [10_000, 64 << 20, 0], [b"\xc0"]],
        ]

    play(scenario, Peer(answers=lambda r: ok(r, [6, 6 + len(r.arguments[2])])))


def test_nothing_is_sent_of_what_cannot_be() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        pub = aio.Pub("t", client)
        with pytest.raises(TypeError):
            await pub.put({1})
        with pytest.raises(ValueTooLarge):
            await pub.put_many([b"x" * 1_000_000] * 9)
        refused: list[tuple[type[Exception], Callable[[], Any]]] = [
            (ValueError, lambda: aio.Pub("t", client, retention_count=0)),
            (ValueError, lambda: aio.Pub("t", client, retention_bytes=2**31)),
            (TypeError, lambda: aio.Pub("t", client, retention_count=1.5)),  # type: ignore[arg-type]
            (ValueError, lambda: aio.Pub("t", client, retention_age=0)),
            (ValueError, lambda: aio.Pub("t", client, retention_age="9999999d")),
            (ValueError, lambda: aio.Sub("t", "end", client)),
            (ValueError, lambda: aio.Sub("t", -1, client)),
            (TypeError, lambda: aio.Sub("t", True, client)),
            (ValueError, lambda: aio.Sub("t", client=client, prefetch=0)),
            (TypeError, lambda: aio.Sub("t", client=client, prefetch=True)),
            (ValueError, lambda: aio.Sub("", client=client)),
            (TypeError, lambda: aio.Event(1.5, client)),  # type: ignore[arg-type]
            (TypeError, lambda: aio.Semaphore(True, "s", client)),
            (ValueError, lambda: aio.Semaphore(0, "s", client)),
            (TypeError, lambda: aio.MultiLock("names", client)),
            (ValueError, lambda: aio.MultiLock([], client)),
            (ValueError, lambda: aio.MultiLock(range(1001), client)),
            (ValueError, lambda: aio.Queue("q", client=client, dead_letter="dead")),
            (ValueError, lambda: aio.Queue("q", client=client, deliveries_max=-1)),
            (ValueError, lambda: aio.Queue("q", client=client, deliveries_max=1, dead_letter="q")),
            (TypeError, lambda: aio.Queue("q", client=client, deliveries_max=1.0)),  # type: ignore[arg-type]
        ]
        for error, make in refused:
            with pytest.raises(error):
                make()
        multilock, variable = aio.MultiLock(["a", "b"], client), aio.Variable("v", client)
        for num_locks in (0, 3):
            with pytest.raises(ValueError):
                await multilock.acquire(num_locks=num_locks)
        with pytest.raises(TypeError):
            await multilock.acquire(num_locks=True)
        with pytest.raises(ValueError, match="timeout"):
            await aio.RWLock("rw", client).acquire_read(blocking=False, timeout=1)
        with pytest.raises(ValueError):
            await variable.set(1, ttl=-1)
        with pytest.raises(ValueError):
            await aio.Event("e", client).wait("soon")
        assert peer.requests == []

    play(scenario, Peer())


def test_a_queue_is_drained_within_the_timeout() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        queue = aio.Queue("q", client=client)
        with pytest.raises(CallTimeout):
            await queue.get("30ms", batch=True)
        first_part = [pack_value(number) for number in range(BATCH_ITEMS_MAX)]
        parts = iter([first_part])
        peer.answers = scripted({_O.QUEUE_GET: lambda r: [m for part in parts for m in ok(r, part)][:1]})
        items = await queue.get("1s", batch=True)
        assert items == list(range(BATCH_ITEMS_MAX)), "what came in time"
        assert [r.arguments for r in peer.of(_O.QUEUE_GET)] == [[b"\xa1q", 0, -1, False]] * 3

    play(scenario, Peer(answers=nothing), timeout="1h")


def test_a_synchronous_subscription_without_a_replica_fails_in_time() -> None:
    client = raftcoord.Client("127.0.0.1:1", timeout="100ms", set_as_default=False)
    with pytest.raises(CallTimeout):
        raftcoord.Sub("t", client=client)
    sub = raftcoord.Sub("t", 3, client)
    assert (sub.offset, sub.missed) == (3, 0)
    with pytest.raises(CallTimeout):
        sub.get("50ms")
    client.close()


# Variables and events.


def test_an_update_is_tried_again_with_what_somebody_else_set() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        variable = aio.Variable("v", client)
        seen: list[Any] = []

        async def double(value: int) -> int:
            seen.append(value)
            await asyncio.sleep(0)
            return value * 2

        assert await variable.update(double) == 10
        assert seen == [3, 5]
        assert [r.arguments[1:] for r in peer.of(_O.VARIABLE_COMPARE_AND_SET)] == [
            [[7], b"\x06"],
            [[9], b"\x0a"],
        ]

    def compare(request: Request) -> Answers:
        first = request.arguments[1] == [7]
        return answer(request, Code.CONFLICT, [b"\x05", 9]) if first else ok(request, 10)

    script = {_O.VARIABLE_GET: lambda r: ok(r, [b"\x03", 7]), _O.VARIABLE_COMPARE_AND_SET: compare}
    play(scenario, Peer(answers=scripted(script)))


def test_an_update_of_an_unset_variable_takes_the_default_or_waits() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        variable = aio.Variable("v", client)
        assert await variable.update(lambda items: [*items, 1], default=[]) == [1]
        assert peer.of(_O.VARIABLE_COMPARE_AND_SET)[0].arguments[1] == []
        with pytest.raises(CallTimeout):
            await variable.update(lambda value: value, "20ms")
        with pytest.raises(CallTimeout):
            await variable.update(lambda value: value, 0)
        peer.answers = scripted({_O.VARIABLE_GET: unset, _O.VARIABLE_COMPARE_AND_SET: deleted_meanwhile})
        assert await variable.update(lambda items: items.append(1) or items, default=[]) == [1], (
            "a fresh one each time"
        )
        with pytest.raises(TypeError, match="set"):
            await variable.update(lambda value: {value}, default=0)

    def unset(request: Request) -> Answers:
        return waiting(request) if request.arguments[1] else answer(request, Code.UNSET)

    def deleted_meanwhile(request: Request) -> Answers:
        again = len(peer.of(_O.VARIABLE_COMPARE_AND_SET)) > 2
        return ok(request, 3) if again else answer(request, Code.CONFLICT)

    script = {
        _O.VARIABLE_GET: unset,
        _O.VARIABLE_COMPARE_AND_SET: lambda r: ok(r, 1),
        _O.CANCEL: lambda r: ok(r, [int(Code.CANCELLED), None]),
    }
    peer = Peer(answers=scripted(script))
    play(scenario, peer)


def test_an_update_ends_with_its_timeout_however_often_it_conflicts() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        with pytest.raises(
            TimeoutError
        ):  # CallTimeout, or OutcomeUnknown if it ends during a compare_and_set
            await aio.Variable("v", client).update(lambda value: value, "50ms")
        assert len(peer.requests) > 2

    script = {
        _O.VARIABLE_GET: lambda r: ok(r, [b"\x03", 7]),
        _O.VARIABLE_COMPARE_AND_SET: lambda r: answer(r, Code.CONFLICT, [b"\x03", 7 + r.sequence]),
    }
    play(scenario, Peer(answers=scripted(script)))


def test_a_value_with_an_end_is_another_operation() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        variable = aio.Variable("v", client)
        await variable.set(1)
        await variable.set(1, ttl="1.5s")
        await variable.set(1, ephemeral=True)
        await variable.set(1, ttl=0.0001, ephemeral=True)
        assert [r.arguments[2:] for r in peer.requests] == [[], [1500, False], [0, True], [1, True]]
        assert [r.operation for r in peer.requests] == [_O.VARIABLE_SET, *[_O.VARIABLE_SET_WITH] * 3]

    play(scenario, Peer(answers=lambda r: ok(r, 1)))


def test_however_often_the_session_is_lost_watching_ends_with_its_timeout() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        watching = asyncio.ensure_future(aio.Variable("v", client).next_change(3, "2s"))
        await peer.until(lambda peer: bool(peer.requests))
        session = 7
        while not watching.done():
            session += 1
            await lose_session(peer, client, session=session)
        with pytest.raises(CallTimeout):
            await watching
        assert session > 8

    play(scenario, Peer(answers=scripted({_O.VARIABLE_WATCH: waiting})))


def test_waiting_for_an_event_goes_on_in_the_next_session() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        event = aio.Event("e", client)
        pending = asyncio.ensure_future(event.wait("10s"))
        await peer.until(lambda peer: bool(peer.requests))
        peer.answers = scripted({_O.EVENT_WAIT: ok})
        await lose_session(peer, client, session=8)
        assert await pending is True
        peer.answers = scripted({_O.EVENT_WAIT: waiting, _O.CANCEL: lambda r: ok(r, [12, None])})
        assert await event.wait("20ms") is False
        peer.answers = scripted(
            {_O.EVENT_IS_SET: lambda r: ok(r, True), _O.EVENT_SET: lambda r: ok(r, False)}
        )
        assert await event.wait(0) is True
        assert await event.is_set() is True
        assert await event.set() is False
        peer.answers = scripted({_O.EVENT_WAIT: waiting})
        pending = asyncio.ensure_future(event.wait())
        await peer.until(lambda peer: peer.requests[-1].operation is _O.EVENT_WAIT)
        await client.close()
        with pytest.raises(SessionLost):
            await pending

    play(scenario, Peer(answers=scripted({_O.EVENT_WAIT: nothing})))
