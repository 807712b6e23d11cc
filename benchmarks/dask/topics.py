"""How many messages per second go through Pub and Sub.

The subscribers are tasks of one worker; the publisher is the client, or a task of another worker.

Invariants:
  1. Nothing counts before every subscriber has got a message: until then the publisher repeats a first one.
  2. The time runs from the first call of `put` until the last subscriber has the last message.
  3. Each subscriber checks that it got every message, in order.
"""

from __future__ import annotations

import itertools
import time
from typing import Any, Final

from benchmarks.dask.objects import module_of

MESSAGE_BYTES: Final = 100
GREETING: Final = "hello"
GREETING_INTERVAL_S: Final = 0.05
GET_TIMEOUT_S: Final = 60
PUBLISHER, SUBSCRIBER = "publisher", "subscriber"  # names of the two workers


def listen(system: str, topic: str, count: int) -> float:
    """Read `count` messages; return when the last one came, on the clock that all processes share."""
    objects = module_of(system)
    subscription = objects.Sub(topic)
    assert subscription.get(timeout=GET_TIMEOUT_S) == GREETING
    objects.Queue(topic).put("ready")
    expected = 0
    while expected < count:
        message = subscription.get(timeout=GET_TIMEOUT_S)
        if message != GREETING:
            assert message.startswith(f"{expected} "), (message, expected)
            expected += 1
    return time.monotonic()


def publish(system: str, topic: str, count: int, subscribers: int) -> float:
    """Publish `count` messages once all subscribers are there; return when the first one was put."""
    objects = module_of(system)
    publisher, ready = objects.Pub(topic), objects.Queue(topic)
    while ready.qsize() < subscribers:
        publisher.put(GREETING)
        time.sleep(GREETING_INTERVAL_S)
    messages = [f"{number} ".ljust(MESSAGE_BYTES, "x") for number in range(count)]
    began = time.monotonic()
    for message in messages:
        publisher.put(message)
    return began


def per_second(client: Any, system: str, *, topic: str, count: int, subscribers: int, in_task: bool) -> float:
    """Return the messages per second of one publisher, each to all subscribers."""
    listening = [
        client.submit(listen, system, topic, count, workers=[SUBSCRIBER], pure=False)
        for _ in range(subscribers)
    ]
    if in_task:
        task = client.submit(publish, system, topic, count, subscribers, workers=[PUBLISHER], pure=False)
        began = task.result()
    else:
        began = publish(system, topic, count, subscribers)
    return float(count / (max(client.gather(listening)) - began))


def measure(client: Any, system: str, count: int) -> dict[str, list[float]]:
    """Return messages per second with 1 and 10 subscribers, from a client and from a task."""
    return {
        f"Pub to {subscribers} Sub, {'task' if in_task else 'client'}": [
            per_second(
                client,
                system,
                topic=f"topic-{subscribers}-{in_task}",
                count=count,
                subscribers=subscribers,
                in_task=in_task,
            )
        ]
        for subscribers, in_task in itertools.product((1, 10), (False, True))
    }
