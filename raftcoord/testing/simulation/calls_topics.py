"""Calls on topics: who publishes, and who reads on from where it stood, also after a restart."""

from __future__ import annotations

from typing import Any, Final

from raftcoord import aio
from raftcoord.client.errors import TopicDeleted
from raftcoord.testing.simulation.caller import Caller, Work, seconds
from raftcoord.testing.simulation.records import Outcome
from raftcoord.testing.simulation.scenario import Step


async def _publish(caller: Caller, step: Step, value: str) -> None:
    work = _published_one(caller.objects.publisher(step.name), value)
    await caller.call(step, "publish", [value], work)


async def _published_one(publisher: aio.Pub, value: str) -> range:
    offset = await publisher.put(value)
    return range(offset, offset + 1)


async def _publish_many(caller: Caller, step: Step, value: str) -> None:
    values = [f"{value}.{number}" for number in range(step.count)]
    await caller.call(step, "publish", values, caller.objects.publisher(step.name).put_many(values))


async def _topic_status(caller: Caller, step: Step, value: str) -> None:
    await caller.call(step, "topic_status", None, caller.objects.publisher(step.name).status())


async def _delete_topic(caller: Caller, step: Step, value: str) -> None:
    await caller.call(step, "delete_topic", None, caller.objects.publisher(step.name).delete())


async def _read_topic(caller: Caller, step: Step, value: str) -> None:
    """Read the next messages, as many as the step says, each in a call of its own.

    Where the reader stands is kept by the host, as an application would keep it on its disk.
    """
    place = caller.thread, step.name
    kept = caller.host.resume_at
    for _ in range(step.count):
        subscription = caller.objects.subscription(*place, kept.get(place))
        before = _state(subscription)
        record = await caller.call(step, "read_topic", kept.get(place), _read(subscription, step))
        if record.outcome is not Outcome.OK:
            if _state(subscription)[1:] != before[1:] or before[0] not in (None, _state(subscription)[0]):
                caller.fail("topics", f"{record} moved the subscription from {before}")
            return
        if isinstance(record.result, TopicDeleted):
            record.argument = subscription.offset  # which it may have learned during the call
            caller.objects.end_subscription(*place)
            kept.pop(place, None)
            return
        kept[place] = subscription.offset


def _state(subscription: aio.Sub) -> tuple[int | None, int]:
    """Return where a subscription stands, None before it knows, and how many messages it missed."""
    return subscription._offset, subscription.missed


async def _read(subscription: aio.Sub, step: Step) -> tuple[int, int, Any]:
    """Return offset, number of messages missed before it, and value of the next message."""
    missed = subscription.missed
    value = await subscription.get(seconds(step))
    return subscription.offset - 1, subscription.missed - missed, value


WORK: Final[dict[str, Work]] = {
    "publish": _publish,
    "publish_many": _publish_many,
    "read_topic": _read_topic,
    "topic_status": _topic_status,
    "delete_topic": _delete_topic,
}
