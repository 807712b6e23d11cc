"""`raftcoord event`, `semaphore`, `topic` and `lock --status` as a script sees them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from processes import eventually

from raftcoord import Client, Event, Lock, Pub, Semaphore
from raftcoord.cli.app import run
from raftcoord.testing import LocalCluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(3) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster.address, name="tester") as client:
        yield client


@dataclass(frozen=True, slots=True)
class Result:
    """What a script sees of one command."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def raftcoord(cluster: LocalCluster, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run one command line in this process."""

    def run_command(*arguments: str) -> Result:
        code = run(["--address", cluster.address, *arguments])
        return Result(code, *capfd.readouterr())

    return run_command


def start(cluster: LocalCluster, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "raftcoord.cli", "--address", cluster.address, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_events(raftcoord: Run, cluster: LocalCluster, client: Client) -> None:
    assert raftcoord("event", "status", "go") == Result(1, "clear\n", "")
    late = raftcoord("event", "wait", "go", "--timeout", "100ms")
    assert late == Result(1, "", "raftcoord: event 'go' was not set in time\n")
    with start(cluster, "event", "wait", "go") as waiting:
        assert raftcoord("event", "set", "go").code == 0
        assert waiting.wait(10) == 0
    assert raftcoord("event", "status", "go") == Result(0, "set\n", "")
    assert Event("go", client).is_set()
    assert raftcoord("event", "clear", "go").code == 0
    assert not Event("go", client).is_set()


def test_messages_go_out_and_come_in(raftcoord: Run, cluster: LocalCluster, client: Client) -> None:
    published = raftcoord("topic", "publish", "news", '{"n": 1}', "two")
    first = int(published.out)
    read = raftcoord("topic", "subscribe", "news", "--from-start", "--count", "2")
    assert [json.loads(line) for line in read.out.splitlines()] == [
        {"offset": first, "message": {"n": 1}},
        {"offset": first + 1, "message": "two"},
    ]
    offset = ("--from-offset", str(first + 1))
    for more in ((), ("--from-followers",)):
        assert raftcoord("topic", "subscribe", "news", *offset, *more, "--count", "1", "--raw").out == "two\n"
    quiet = raftcoord("topic", "subscribe", "news", "--timeout", "100ms")
    assert quiet == Result(1, "", "raftcoord: topic 'news': the time was over\n")
    both = raftcoord("topic", "subscribe", "news", "--from-start", *offset)
    assert (both.code, both.err.count("\n")) == (2, 1)
    assert json.loads(raftcoord("topic", "status", "news").out)["next_offset"] == first + 2
    assert raftcoord("topic", "delete", "news").code == 0
    assert raftcoord("topic", "delete", "news") == Result(1, "", "raftcoord: topic 'news' does not exist\n")


def test_a_subscriber_follows_and_is_told_what_it_missed(
    raftcoord: Run, cluster: LocalCluster, client: Client
) -> None:
    pub = Pub("flow", client, retention_count=3)
    first = pub.put("before")
    with start(cluster, "topic", "subscribe", "flow", "--from-start", "--count", "2") as following:
        assert following.stdout is not None
        assert json.loads(following.stdout.readline())["message"] == "before"
        pub.put("after")
        assert json.loads(following.stdout.readline())["message"] == "after"
        assert following.wait(10) == 0
    raftcoord("topic", "publish", "flow", "c", "d", "--retain-count", "2", "--retain-for", "1h")
    late = raftcoord("topic", "subscribe", "flow", "--from-offset", str(first), "--count", "2")
    assert [json.loads(line) for line in late.out.splitlines()] == [
        {"missed": 2},
        {"offset": first + 2, "message": "c"},
        {"offset": first + 3, "message": "d"},
    ]


def test_a_semaphore_bounds_how_many_commands_run(
    raftcoord: Run, cluster: LocalCluster, client: Client
) -> None:
    missing = raftcoord("semaphore", "status", "slots")
    assert missing == Result(1, "", "raftcoord: semaphore 'slots' does not exist\n")
    command = ("semaphore", "run", "--max-leases", "2", "slots", "--", sys.executable, "-c")
    program = "import os, sys; print(os.environ['RAFTCOORD_SEMAPHORE_FENCE'], flush=True); sys.stdin.read()"
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "raftcoord.cli", "--address", cluster.address, *command, program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in running:
        assert process.stdout is not None
        assert int(process.stdout.readline()) > 0
    assert json.loads(raftcoord("semaphore", "status", "slots").out) == {
        "max_leases": 2,
        "leases": 2,
        "waiting": 0,
    }
    refused = raftcoord("semaphore", "run", "--max-leases", "2", "--timeout", "0", "slots", "--", "true")
    assert (refused.code, refused.err) == (124, "raftcoord: semaphore 'slots' was not to be had in time\n")
    other = raftcoord("semaphore", "run", "--max-leases", "3", "slots", "--", "true")
    assert (other.code, other.err.count("max_leases")) == (1, 1)
    for process in running:
        process.communicate(timeout=10)
        assert process.returncode == 0
    assert raftcoord("semaphore", "run", "--max-leases", "2", "slots", "--", "sh", "-c", "exit 7").code == 7
    assert Semaphore(2, "slots", client).get_value() == 0
    assert raftcoord("semaphore", "close", "slots").code == 0
    assert raftcoord("semaphore", "status", "slots").code == 1


def test_the_status_of_a_lock(raftcoord: Run, cluster: LocalCluster, client: Client) -> None:
    assert json.loads(raftcoord("lock", "--status", "door").out) == {"holder": None, "waiters": []}
    other = Client(cluster.address, name="next", set_as_default=False)
    with ThreadPoolExecutor(1) as threads, Lock("door", client) as held:
        waiting = threads.submit(Lock("door", other).acquire)
        assert eventually(lambda: bool(held.waiters()))
        shown = json.loads(raftcoord("lock", "--status", "door").out)
        assert shown["holder"] == {"session": client.session_id, "client": "tester"}
        assert [waiter["client"] for waiter in shown["waiters"]] == ["next"]
        held.release()
        assert waiting.result()
        other.close()
        assert held.acquire(timeout="5s")
    wrong = raftcoord("lock", "--status", "door", "--", os.devnull)
    assert (wrong.code, wrong.err) == (2, "raftcoord: --status runs no command\n")
