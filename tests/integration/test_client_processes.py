"""The objects across processes: paused, forked, interrupted, ended; pickled handles and embedded clusters."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

import raftcoord
from raftcoord.testing.local_cluster import LocalCluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as cluster:
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[raftcoord.Client]:
    with raftcoord.Client(cluster.address, session_ttl="2s") as client:
        yield client


def script(source: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", source, *arguments],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], *, status: int = 0) -> str:
    try:
        out, error = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"the script hangs; it printed {process.communicate()}") from None
    assert process.returncode == status, f"{out}\n{error}"
    return out


def test_a_paused_client_knows_that_it_lost_its_lock(cluster: LocalCluster, client: raftcoord.Client) -> None:
    holder = script(
        """
import sys, time, raftcoord
lost = []
with raftcoord.Client(sys.argv[1], session_ttl="1s"):
    lock = raftcoord.Lock("paused", on_lost=lambda: lost.append(True))
    lock.acquire()
    print("holding", lock.fence, flush=True)
    sys.stdin.readline()
    try:
        lock.fence
    except raftcoord.LockLost:
        print("fence refused")
    while not lost:
        time.sleep(0.01)
    try:
        lock.release()
    except raftcoord.LockLost:
        print("release refused")
    print("again", lock.acquire(timeout="10s"))
""",
        cluster.address,
    )
    assert holder.stdout is not None
    fence = int(holder.stdout.readline().split()[1])
    lock = raftcoord.Lock("paused")
    holder.send_signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        assert lock.acquire(timeout="10s")
        assert 0.5 < time.monotonic() - started < 4
        assert lock.fence > fence
    finally:
        holder.send_signal(signal.SIGCONT)
    lock.release()
    assert finish_with(holder, "\n") == "fence refused\nrelease refused\nagain True\n"


def finish_with(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdin is not None
    process.stdin.write(text)
    process.stdin.flush()
    return finish(process)


def test_a_forked_child_goes_on_with_a_session_of_its_own(cluster: LocalCluster) -> None:
    out = finish(
        script(
            """
import os, sys, raftcoord
client = raftcoord.Client(sys.argv[1], session_ttl="1s")
variable, lock, queue = raftcoord.Variable("forked"), raftcoord.Lock("forked"), raftcoord.Queue("forked")
variable.set(0)
lock.acquire()
parent = client.session_id
for generation in range(2):
    child = os.fork()
    if child == 0:
        assert client.session_id is None
        variable.add(1)
        assert client.session_id not in (None, parent), client.session_id
        try:
            lock.fence
        except raftcoord.LockLost:
            pass
        else:
            os._exit(3)
        assert not lock.acquire(blocking=False)
        queue.put(generation)
        client.close()
        if generation:
            sys.exit(0)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    for _ in range(20):
        variable.add(1)
    assert client.session_id == parent
    assert lock.fence
lock.release()
print(variable.get(), queue.get(batch=True))
client.close()
""",
            cluster.address,
        )
    )
    assert out == "42 [0, 1]\n"


def test_an_interrupted_wait_takes_nothing(cluster: LocalCluster, client: raftcoord.Client) -> None:
    waiter = script(
        """
import signal, sys, raftcoord
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where tests run in the background
with raftcoord.Client(sys.argv[1]):
    queue = raftcoord.Queue("interrupted")
    print("waiting", flush=True)
    try:
        queue.get()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        sys.stdin.readline()
        print(queue.get())
""",
        cluster.address,
    )
    assert waiter.stdout is not None
    assert waiter.stdout.readline() == "waiting\n"
    time.sleep(0.3)
    waiter.send_signal(signal.SIGINT)
    assert waiter.stdout.readline() == "interrupted\n"
    queue = raftcoord.Queue("interrupted")
    queue.put("mine")
    assert queue.get("5s") == "mine"
    queue.put("yours")
    assert finish_with(waiter, "\n") == "yours\n"


def test_handles_work_where_they_wake_up(cluster: LocalCluster, client: raftcoord.Client) -> None:
    raftcoord.Variable("carried").set("over")
    handles = pickle.dumps([raftcoord.Variable("carried"), raftcoord.Lock("carried"), client])
    out = finish(
        script(
            """
import pickle, sys
variable, lock, client = pickle.loads(bytes.fromhex(sys.argv[1]))
with lock:
    print(variable.get(), variable.client is lock.client is client)
""",
            handles.hex(),
        )
    )
    assert out == "over True\n"


def test_a_process_that_ends_leaves_no_session_behind(
    cluster: LocalCluster, client: raftcoord.Client
) -> None:
    finish(
        script(
            """
import sys, raftcoord
raftcoord.Client(sys.argv[1], session_ttl="1h")
raftcoord.Lock("exit").acquire()
""",
            cluster.address,
        )
    )
    assert raftcoord.Lock("exit").acquire(timeout="2s")


def test_a_call_on_the_loop_thread_is_refused_and_listeners_may_call(client: raftcoord.Client) -> None:
    async def inside() -> None:
        raftcoord.Variable("x").get()

    with pytest.raises(RuntimeError, match="wait for itself"):
        client.run(inside())
    seen: list[object] = []
    done = threading.Event()
    variable = raftcoord.Variable("told", client)
    variable.set("value")

    def listener(state: raftcoord.ClientState) -> None:
        if state is raftcoord.ClientState.CONNECTED:
            seen.append(variable.get())
            done.set()

    client.add_listener(listener)
    core = client.aio.core
    core.loop.call_soon_threadsafe(core.leave, "the test wants it")
    assert done.wait(10)
    client.remove_listener(listener)
    assert seen == ["value"]


def test_without_an_address_a_client_brings_its_own_cluster() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "RAFTCOORD_ADDRESS"}
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            """
import asyncio, raftcoord
from raftcoord import aio
with raftcoord.Client() as client:
    raftcoord.Variable("x").set(len(client.addresses))
    print(raftcoord.Variable("x").get())
async def main():
    async with aio.Client() as client:
        await aio.Variable("x").set("aio")
        print(await aio.Variable("x").get())
asyncio.run(main())
""",
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout == "3\naio\n"
