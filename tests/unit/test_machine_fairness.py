"""Semaphores, MultiLocks and RWLocks under random use: never overbooked, never overtaken, nobody starves.

What is granted is watched from outside, by fences and answers alone.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from machine_harness import Client, Harness

from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import Operation

N = b"n"
SEMAPHORE, MULTILOCK, RWLOCK = (
    Operation.SEMAPHORE_ACQUIRE,
    Operation.MULTILOCK_ACQUIRE,
    Operation.RWLOCK_ACQUIRE,
)


@dataclass(eq=False)
class Request:
    """One acquire, in the order in which they were made."""

    client: Client
    sequence: int
    arguments: list[Any]
    granted: Any = None  # the payload of the grant
    order: int = 0  # of the grant among all


@dataclass
class Watch:
    """Clients that acquire and release, and what they were granted."""

    operation: Operation
    harness: Harness = field(default_factory=Harness)
    requests: list[Request] = field(default_factory=list)
    grants: int = 0

    def __post_init__(self) -> None:
        self.clients = [self.harness.open() for _ in range(6)]

    def acquire(self, client: Client, *arguments: Any) -> Request:
        code, payload = client.send(self.operation, *arguments, True)
        request = Request(client, client.sequence, list(arguments))
        self.requests.append(request)
        if code is Code.OK:
            self._grant(request, payload)
        return request

    def _grant(self, request: Request, payload: Any) -> None:
        self.grants += 1
        request.granted, request.order = payload, self.grants

    def take_grants(self) -> None:
        for session, sequence, code, payload in self.harness.take_completed():
            assert code is Code.OK
            (request,) = (r for r in self.requests if (r.client.session, r.sequence) == (session, sequence))
            self._grant(request, payload)

    def release(self, request: Request) -> None:
        if self.operation is MULTILOCK:
            arguments = [request.granted[0]]
        else:
            arguments = [request.arguments[0], request.granted]
        release = Operation[self.operation.name.replace("ACQUIRE", "RELEASE")]
        assert request.client.send(release, *arguments) == (Code.OK, None)
        self.requests.remove(request)
        self.take_grants()

    def give_up(self, request: Request) -> None:
        request.client.send(Operation.CANCEL, request.sequence)
        self.requests.remove(request)
        self.take_grants()

    def end(self, client: Client) -> None:
        self.harness.expire(client)
        self.clients.remove(client)
        self.clients.append(self.harness.open())
        self.requests = [request for request in self.requests if request.client is not client]
        self.take_grants()

    @property
    def held(self) -> list[Request]:
        return [request for request in self.requests if request.granted is not None]

    @property
    def waiting(self) -> list[Request]:
        return [request for request in self.requests if request.granted is None]

    def anything(self, rng: random.Random, *arguments: Any) -> None:
        """Do one of all the things that may be done."""
        chance = rng.random()
        if chance < 0.45 or not self.requests:
            self.acquire(rng.choice(self.clients), *arguments)
        elif chance < 0.85 and self.held:
            self.release(rng.choice(self.held))
        elif chance < 0.93 and self.waiting:
            self.give_up(rng.choice(self.waiting))
        elif chance < 0.96:
            self.end(rng.choice(self.clients))
        else:
            self.harness.restore()

    def drain(self) -> None:
        """Release whatever is granted until nobody waits: nobody may be left."""
        while self.held:
            self.release(self.held[0])
        assert not self.waiting
        self.harness.restore()


@pytest.mark.parametrize("seed", range(20))
def test_a_semaphore_is_never_overbooked_and_never_idle(seed: int) -> None:
    rng = random.Random(seed)
    watch = Watch(SEMAPHORE)
    max_leases = rng.choice([1, 2, 5])
    for _ in range(300):
        watch.anything(rng, N, max_leases)
        assert len(watch.held) <= max_leases
        assert not watch.waiting or len(watch.held) == max_leases
        line = [request for request in watch.requests if request.granted is None]
        after = watch.requests.index(line[0]) if line else len(watch.requests)
        assert all(request.granted is None for request in watch.requests[after:]), "overtaken"
        status = watch.harness.ask(Operation.SEMAPHORE_STATUS, N)
        if status[1] is not None:
            assert status[1] == [max_leases, len(watch.held), len(watch.waiting)]
    watch.drain()


@pytest.mark.parametrize("seed", range(20))
def test_an_rwlock_has_readers_or_one_writer_and_nobody_overtakes(seed: int) -> None:
    rng = random.Random(seed)
    watch = Watch(RWLOCK)
    for _ in range(300):
        watch.anything(rng, N, rng.random() < 0.6)
        writers = [request for request in watch.held if not request.arguments[1]]
        assert not writers or len(watch.held) == 1
        # Whoever came after the first in line waits too, whatever it wants.
        if watch.waiting:
            first = watch.requests.index(watch.waiting[0])
            assert all(request.granted is None for request in watch.requests[first:]), "overtaken"
            assert writers or not watch.waiting[0].arguments[1], "a reader waits while there is no writer"
            assert watch.held, "free, and somebody waits"
    watch.drain()


def shares(one: Request, other: Request) -> set[bytes]:
    return set(one.arguments[0]) & set(other.arguments[0])


@pytest.mark.parametrize("seed", range(30))
def test_multilocks_exclude_each_other_and_older_requests_come_first(seed: int) -> None:
    rng = random.Random(seed)
    watch = Watch(MULTILOCK)
    names = [b"%d" % n for n in range(rng.choice([3, 6]))]
    for _ in range(250):
        wanted = rng.sample(names, rng.randint(1, len(names)))
        watch.anything(rng, wanted, rng.randint(1, len(wanted)))
        taken = [name for request in watch.held for name in request.granted[1]]
        assert len(taken) == len(set(taken)), "one name, two holders"
        for request in watch.held:
            wanted, count = request.arguments
            assert len(request.granted[1]) == count
            assert request.granted[1] == [name for name in wanted if name in request.granted[1]]
        for place, request in enumerate(watch.requests):
            if request.granted is None:
                older = [one for one in watch.requests[:place] if one.granted is None]
                blocked = {*taken, *(name for one in older for name in one.arguments[0])}
                free = [name for name in request.arguments[0] if name not in blocked]
                assert len(free) < request.arguments[1], "could be served, and waits"
                for younger in watch.requests[place + 1 :]:
                    if younger.granted is not None:
                        assert not shares(request, younger) & set(younger.granted[1]), "overtaken"
    watch.drain()


def test_a_request_for_many_names_is_not_starved_by_requests_for_one() -> None:
    watch = Watch(MULTILOCK)
    one, other, greedy = watch.clients[:3]
    held = [watch.acquire(one, [b"a"], 1), watch.acquire(other, [b"b"], 1)]
    many = watch.acquire(greedy, [b"a", b"b"], 2)
    for request in held:
        # As soon as one has released, it asks again: without a line, both names would never be free at once.
        watch.release(request)
        watch.acquire(request.client, request.arguments[0], 1)
    assert many.granted is not None
    assert len(watch.waiting) == 2


def test_dining_philosophers_all_eat() -> None:
    watch = Watch(MULTILOCK)
    forks = [b"%d" % n for n in range(5)]
    for _ in range(3):
        for place in range(5):
            watch.acquire(watch.clients[place], [forks[place], forks[(place + 1) % 5]], 2)
    assert len(watch.held) == 1  # each of the others is behind its neighbour: the price of being fair
    watch.drain()


def test_requests_that_share_no_name_never_wait_for_each_other() -> None:
    watch = Watch(MULTILOCK)
    watch.acquire(watch.clients[0], [b"a", b"b"], 2)
    watch.acquire(watch.clients[1], [b"b", b"c"], 2)
    assert watch.acquire(watch.clients[2], [b"d", b"e"], 2).granted is not None
    assert (
        watch.acquire(watch.clients[3], [b"a", b"c"], 1).granted is None
    )  # c is wanted by the one before it


def test_the_end_of_several_sessions_serves_the_oldest_request_that_can_be_served() -> None:
    watch = Watch(MULTILOCK)
    one, other, *rest = watch.clients
    watch.acquire(one, [b"a"], 1), watch.acquire(other, [b"b"], 1)
    watch.acquire(one, [b"a", b"b"], 2)
    younger = [watch.acquire(rest[0], [b"b"], 1), watch.acquire(rest[1], [b"a", b"b"], 1)]
    watch.harness.expire(one, other)
    watch.requests = younger
    watch.take_grants()
    assert [request.order for request in younger] == [3, 4]
    assert [request.granted[1] for request in younger] == [[b"b"], [b"a"]]


@pytest.mark.parametrize("operation", [SEMAPHORE, RWLOCK, MULTILOCK], ids=lambda operation: operation.name)
def test_only_the_holder_releases(operation: Operation) -> None:
    arguments = {SEMAPHORE: (N, 1), RWLOCK: (N, False), MULTILOCK: ([N], 1)}[operation]
    watch = Watch(operation)
    request = watch.acquire(watch.clients[0], *arguments)
    fence = request.granted[0] if operation is MULTILOCK else request.granted
    release = Operation[operation.name.replace("ACQUIRE", "RELEASE")]
    name = () if operation is MULTILOCK else (N,)
    assert watch.clients[1].send(release, *name, fence) == (Code.NOT_HOLDER, None)
    assert watch.clients[0].send(release, *name, fence + 1) == (Code.NOT_HOLDER, None)
    assert watch.clients[0].send(Operation.LOCK_RELEASE, N, fence) == (Code.NOT_HOLDER, None)
    watch.harness.restore()
    watch.release(request)
    assert watch.clients[0].send(release, *name, fence) == (Code.NOT_HOLDER, None)


def test_leases_of_a_closed_semaphore_are_void_and_never_free_one_of_the_next() -> None:
    watch = Watch(SEMAPHORE)
    one, other = watch.clients[:2]
    old = watch.acquire(one, N, 2).granted
    one.send(Operation.SEMAPHORE_CLOSE, N)
    assert watch.acquire(other, N, 1).granted is not None
    watch.harness.restore()
    assert one.send(Operation.SEMAPHORE_RELEASE, N, old) == (Code.NOT_HOLDER, None)
    watch.harness.expire(one)
    assert watch.harness.ask(Operation.SEMAPHORE_STATUS, N) == (Code.OK, [1, 1, 0])
