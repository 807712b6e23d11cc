"""Lock, Semaphore and MultiLock as Dask documents them, and what becomes of them when a worker dies."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from dask_world import kill_worker
from distributed import Client

from raftcoord.dask import Event, Lock, MultiLock, Semaphore

pytest_plugins = ["dask_fixtures"]


def test_lock(client: Client, name: str) -> None:
    lock, other = Lock(name), Lock(name)
    assert lock.acquire() is True
    assert other.acquire(timeout="100ms") is False
    assert other.acquire(blocking=False) is False
    assert other.locked() is True
    assert lock.release() is True
    assert other.locked() is False
    with other:
        assert lock.locked()
    with pytest.raises(RuntimeError):
        lock.release()
    with pytest.raises(ValueError, match="timeout"):
        lock.acquire(blocking=False, timeout=1)


def test_a_lock_is_given_back_by_any_thread(client: Client, name: str) -> None:
    lock = Lock(name)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lock.acquire).result()
    assert lock.release()


def test_a_block_keeps_its_own_exception(client: Client, name: str) -> None:
    with pytest.raises(KeyError), Lock(name):
        raise KeyError(name)
    assert not Lock(name).locked()


def test_semaphore(client: Client, name: str) -> None:
    seats = Semaphore(2, name)
    assert seats.acquire()
    assert seats.acquire(timeout=5)
    assert seats.acquire(timeout="100ms") is False
    assert Semaphore(2, name).acquire(timeout=0) is False
    assert seats.get_value() == 2
    assert seats.release() is True
    with Semaphore(2, name) as other:
        assert other.get_value() == 2
    assert seats.release() is True
    with pytest.raises(RuntimeError):
        seats.release()


def test_the_number_of_leases_is_agreed_on(client: Client, name: str) -> None:
    Semaphore(1, name).register()
    for use in (Semaphore(3, name).register, Semaphore(3, name).acquire):
        with pytest.raises(ValueError, match="leases"):
            use()
    assert Semaphore(1, name).get_value() == 0


def test_a_closed_semaphore_is_refused(client: Client, name: str) -> None:
    seats = Semaphore(1, name)
    assert seats.acquire()
    seats.close()
    with pytest.raises(RuntimeError):
        seats.acquire()
    assert Semaphore(5, name).acquire(timeout=5)


def test_multilock(client: Client, name: str) -> None:
    both, one, third = MultiLock([name, (name, 2)]), MultiLock([name]), MultiLock([(name, 3)])
    assert both.locked() is False
    assert both.acquire() is True
    assert both.locked() is True
    assert one.acquire(blocking=False) is False
    assert one.acquire(timeout="100ms") is False
    assert one.locked() is False
    assert third.acquire(timeout=5) is True
    assert both.release() is None
    with one:
        assert both.acquire(timeout="5s", num_locks=1)
    both.release()
    with pytest.raises(ValueError, match="not acquired"):
        both.release()
    with pytest.raises(ValueError, match="names"):
        MultiLock().acquire()


def test_multilocks_in_any_order_do_not_block_each_other_for_ever(client: Client, name: str) -> None:
    def use(names: list[str]) -> bool:
        for _ in range(10):
            with MultiLock(names):
                pass
        return True

    first, second = f"{name}-1", f"{name}-2"
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(use, [[first, second], [second, first]], timeout=60)) == [True, True]


def count_with_seat(name: str, seats: Semaphore, inside: Semaphore) -> bool:
    with seats:
        return bool(inside.acquire(timeout=0) and inside.release())


def test_a_semaphore_is_never_overbooked_by_tasks(client: Client, name: str) -> None:
    seats, inside = Semaphore(2, name), Semaphore(2, (name, "inside"))
    inside.register()
    tasks = [client.submit(count_with_seat, name, seats, inside, pure=False) for _ in range(16)]
    assert client.gather(tasks) == [True] * 16


def hold_for_ever(name: str) -> None:
    locks: list[Any] = [Lock(name), Semaphore(1, name), MultiLock([name, "other"])]
    for lock in locks:
        assert lock.acquire()
    Event((name, "held")).set()
    Event((name, "never")).wait()


def test_a_worker_that_dies_frees_what_its_tasks_held(client: Client, name: str) -> None:
    address = next(iter(client.scheduler_info()["workers"]))
    future = client.submit(hold_for_ever, name, workers=[address], allow_other_workers=False)
    assert Event((name, "held")).wait(timeout=20)
    assert Lock(name).acquire(timeout=0) is False
    kill_worker(client, address)
    future.cancel()
    started = time.monotonic()
    for lock in (Lock(name), Semaphore(1, name), MultiLock([name])):
        assert lock.acquire(timeout=20)
        lock.release()
    assert time.monotonic() - started < 10  # the session's time to live is two seconds


def wait_for_a_lock(name: str) -> None:
    Event((name, "waits")).set()
    Lock(name).acquire()
    Semaphore(1, name).acquire()


def test_a_dead_acquirer_is_not_granted(client: Client, name: str) -> None:
    lock, seat = Lock(name), Semaphore(1, name)
    assert lock.acquire()
    assert seat.acquire()
    address = next(iter(client.scheduler_info()["workers"]))
    future = client.submit(wait_for_a_lock, name, workers=[address], allow_other_workers=False)
    assert Event((name, "waits")).wait(timeout=20)
    kill_worker(client, address)
    future.cancel()
    lock.release()
    seat.release()
    assert Lock(name).acquire(timeout=20)
    assert Semaphore(1, name).acquire(timeout=20)
