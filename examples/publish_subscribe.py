"""Publish and subscribe: ten messages, two tasks that listen, and both get all ten in order.

    python examples/publish_subscribe.py --kill-leader

Dask removed `Pub` and `Sub` in release 2025.4. Here a topic is replicated: no subscriber misses a message or
gets one twice because a replica has died.
"""

from __future__ import annotations

from both_clusters import Halfway, main, nothing
from distributed import Client

from raftcoord.dask import Pub, Queue, Sub

MESSAGES = 10
SUBSCRIBERS = 2


def listen(number: int) -> list[str]:
    """Subscribe, say so, and return the ten messages that come."""
    subscription = Sub("news")
    Queue("subscribed").put(number)
    return [subscription.get() for _ in range(MESSAGES)]


def received(client: Client, halfway: Halfway = nothing) -> list[list[str]]:
    """Publish ten messages; return what each subscriber got."""
    tasks = client.map(listen, range(SUBSCRIBERS), pure=False)
    subscribed = Queue("subscribed")
    for _ in tasks:
        subscribed.get()
    topic = Pub("news")
    for number in range(MESSAGES // 2):
        topic.put(f"message {number}")
    halfway()
    for number in range(MESSAGES // 2, MESSAGES):
        topic.put(f"message {number}")
    messages: list[list[str]] = client.gather(tasks)
    return messages


def show(client: Client, halfway: Halfway) -> None:
    for number, messages in enumerate(received(client, halfway)):
        print(f"subscriber {number}:", messages)


if __name__ == "__main__":
    main(show, __doc__)
