"""Faults on real processes: what was acknowledged stays, what was held passes on, nobody is served stale."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import eventually
from raw_session import RawSession

from raftcoord import Client, Lock, Queue, Variable
from raftcoord.client.states import ClientState
from raftcoord.protocol.errors import Code, LockLost, RaftcoordError
from raftcoord.protocol.operations import Operation
from raftcoord.protocol.values import pack_name, pack_value
from raftcoord.testing import LocalCluster

TTL_S = 1.0
HAND_ON_S = TTL_S + 4.0  # generous for a busy machine; what counts is that it does not take for ever
WRITERS = 3

HOLDER = """
import sys, threading, time
from raftcoord import Client, Lock
from raftcoord.protocol.errors import LockLost

told = threading.Event()
with Client(sys.argv[1], session_ttl=float(sys.argv[2])) as client:
    lock = Lock("held", client=client, on_lost=told.set)
    try:
        with lock:
            print("holding", lock.fence, flush=True)
            sys.stdin.readline()
            time.sleep(0.2)
    except LockLost as error:
        print("LockLost", told.wait(5), flush=True)
"""

GETTER = """
import sys
from raftcoord import Client, Queue

with Client(sys.argv[1], session_ttl=float(sys.argv[2])) as client:
    print("connected", Queue("jobs", client=client).qsize(), flush=True)
    print("got", Queue("jobs", client=client).get(), flush=True)
"""


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[LocalCluster]:
    with LocalCluster(3) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: LocalCluster) -> LocalCluster:
    shared_cluster.heal()
    return shared_cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster.address, session_ttl=TTL_S) as client:
        yield client


class Writer(threading.Thread):
    """Sets a variable and fills a queue with 0, 1, 2, …, and knows what was acknowledged."""

    def __init__(self, number: int, address: str) -> None:
        super().__init__(daemon=True)
        self.acknowledged = -1
        self.error: Exception | None = None
        self._address = address
        self._number = number
        self._stopping = threading.Event()

    @property
    def name_in_store(self) -> tuple[str, int]:
        return ("written", self._number)

    def run(self) -> None:
        try:
            with Client(self._address, session_ttl=30, set_as_default=False) as client:
                variable = Variable(self.name_in_store, client=client)
                queue = Queue(self.name_in_store, client=client)
                while not self._stopping.is_set():
                    variable.set(self.acknowledged + 1)
                    queue.put(self.acknowledged + 1)
                    self.acknowledged += 1
        except Exception as error:
            self.error = error

    def finish(self) -> None:
        self._stopping.set()
        self.join(40)
        assert not self.is_alive()
        assert self.error is None, self.error


def check_written(writers: list[Writer], client: Client, note: str) -> None:
    for writer in writers:
        count = writer.acknowledged + 1
        assert count > 0, note
        value = Variable(writer.name_in_store, client=client).get(timeout=10)
        items = Queue(writer.name_in_store, client=client).get(batch=True)
        assert value == writer.acknowledged, (note, writer.name_in_store)
        assert items == list(range(count)), (note, writer.name_in_store)
        Variable(writer.name_in_store, client=client).delete()


def start_writers(address: str) -> list[Writer]:
    writers = [Writer(number, address) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    return writers


def test_acknowledged_writes_survive_any_kill(cluster: LocalCluster, client: Client) -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    writers = start_writers(cluster.address)
    for _ in range(6):
        time.sleep(rng.uniform(0.05, 0.4))
        index = cluster.leader() if rng.random() < 0.5 else rng.randrange(3)
        cluster.kill(index)
        time.sleep(rng.uniform(0.0, 0.3))
        cluster.restart(index, wait=False)
    for writer in writers:
        writer.finish()
    check_written(writers, client, f"seed {seed}")


def test_acknowledged_writes_survive_the_kill_of_all(cluster: LocalCluster, client: Client) -> None:
    writers = start_writers(cluster.address)
    for _ in range(2):
        time.sleep(0.5)
        for index in range(3):
            cluster.kill(index)
        for index in range(3):
            cluster.restart(index, wait=False)
        cluster.wait_ready()
    for writer in writers:
        writer.finish()
    check_written(writers, client, "all killed")


def start_script(script: str, cluster: LocalCluster) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, cluster.address, str(TTL_S)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def read_words(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.readline().split()


def test_an_item_handed_to_a_client_that_is_killed_inside_get_returns(
    cluster: LocalCluster, client: Client
) -> None:
    jobs = Queue("jobs", client=client)
    with start_script(GETTER, cluster) as getter:
        try:
            assert read_words(getter) == ["connected", "0"]
            assert eventually(lambda: cluster.status(cluster.leader())["waiters"] == 1)
            getter.send_signal(signal.SIGSTOP)
            jobs.put("first")
            jobs.put("second")
            assert jobs.qsize() == 1  # the first one is on its way to the getter
        finally:
            getter.kill()
    started = time.monotonic()
    assert jobs.get(timeout=HAND_ON_S) == "second"  # a dead session's loan may be overtaken
    assert jobs.get(timeout=HAND_ON_S) == "first"
    assert time.monotonic() - started < HAND_ON_S


def test_a_lock_passes_on_when_its_holder_is_killed(cluster: LocalCluster, client: Client) -> None:
    with start_script(HOLDER, cluster) as holder:
        try:
            _, fence = read_words(holder)
        finally:
            holder.kill()
    lock = Lock("held", client=client)
    assert not lock.acquire(blocking=False)
    assert lock.acquire(timeout=HAND_ON_S)
    assert lock.fence > int(fence)
    lock.release()


def test_a_holder_that_slept_too_long_is_told(cluster: LocalCluster, client: Client) -> None:
    with start_script(HOLDER, cluster) as holder:
        try:
            _, fence = read_words(holder)
            holder.send_signal(signal.SIGSTOP)
            lock = Lock("held", client=client)
            assert lock.acquire(timeout=HAND_ON_S)
            assert lock.fence > int(fence)
            holder.send_signal(signal.SIGCONT)
            assert holder.stdin is not None
            holder.stdin.write("\n")
            holder.stdin.flush()
            assert read_words(holder) == ["LockLost", "True"]
            assert lock.locked()
            lock.release()
        finally:
            holder.kill()


def test_a_lock_is_lost_on_this_side_while_nobody_can_be_reached(
    cluster: LocalCluster, client: Client
) -> None:
    lost = threading.Event()
    lock = Lock("cut-off", client=client, on_lost=lost.set)
    assert lock.acquire()
    for index in range(3):
        cluster.pause(index)
    assert lost.wait(HAND_ON_S)
    assert client.state is ClientState.LOST
    with pytest.raises(LockLost):
        lock.fence  # noqa: B018 - the access itself is what raises
    for index in range(3):
        cluster.resume(index)
    cluster.wait_ready()
    with pytest.raises(LockLost):
        lock.release()
    assert lock.acquire(timeout=HAND_ON_S)
    lock.release()


def test_a_leader_that_wakes_up_after_its_successor_answers_nothing_stale(
    cluster: LocalCluster, client: Client
) -> None:
    name, lock_name = pack_name("watched"), pack_name("guarded")
    variable, lock = Variable("watched", client=client), Lock("guarded", client=client)
    variable.set("old")
    old_leader = cluster.leader()
    with RawSession(cluster.addresses[old_leader]) as raw:
        cluster.pause(old_leader)
        # These wait in the paused leader's socket until it wakes up.
        raw.send(1, Operation.VARIABLE_GET, name, False)
        raw.send(2, Operation.LOCK_ACQUIRE, lock_name, False)
        raw.send(3, Operation.VARIABLE_SET, name, pack_value("from the past"))
        raw.send_control(-1, "keep_alive")
        variable.set("new", timeout=20)
        assert lock.acquire(timeout=20)
        assert cluster.leader() != old_leader
        cluster.resume(old_leader)
        answers = raw.receive_all()
    granted = [answer for answer in answers if answer[0] != 0 and answer[1] == Code.OK]
    assert not granted, answers
    assert variable.get() == "new"
    lock.release()


def test_a_client_survives_the_pause_of_the_leader(cluster: LocalCluster, client: Client) -> None:
    variable = Variable("through-a-pause", client=client)
    variable.set(1)
    cluster.pause(cluster.leader())
    started = time.monotonic()
    assert variable.add(1, timeout=20) == 2
    assert time.monotonic() - started < 10


def test_a_wiped_replica_is_refused_with_a_reason(tmp_path: Path) -> None:
    with LocalCluster(3, tmp_path / "data") as cluster, Client(cluster.address) as client:
        Variable("kept", client=client).set("value")
        wiped = next(index for index in range(3) if index != cluster.leader())
        cluster.kill(wiped)
        folder = tmp_path / "data" / f"replica-{wiped}" / "data"
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        cluster.restart(wiped, wait=False)
        cluster.kill(next(index for index in range(3) if index not in (wiped, cluster.leader())))
        # Two of three would be a majority if the wiped one voted under its old identity.
        with pytest.raises(RaftcoordError):
            Variable("kept", client=client).set("other", timeout=2)
