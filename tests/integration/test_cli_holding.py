"""`raftcoord queue claim`, `rwlock` and `multilock`: commands that run while something is held."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import processes
import pytest
from processes import CLI, eventually, finished, is_alive

from raftcoord import CallTimeout, Client, MultiLock, Queue, RWLock
from raftcoord.testing import LocalCluster

# Prints what it reads and what it is told, as JSON.
REPORTER = """
import json, os, sys
prefix = "RAFTCOORD_QUEUE_"
told = {name.removeprefix(prefix).lower(): os.environ[name] for name in os.environ if name.startswith(prefix)}
print(json.dumps([sys.stdin.buffer.read().decode("latin-1"), told]), flush=True)
"""
REPORT = (sys.executable, "-c", REPORTER)
# Ends with a status of its own when it is told to.
LISTENER = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(int(sys.argv[1])))
print("up", flush=True)
signal.pause()
"""
LISTEN = (sys.executable, "-c", LISTENER)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(3) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster.address, name="tester", session_ttl="1m") as client:
        yield client


def started(
    cluster: LocalCluster, *arguments: str, **environment: str
) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    return processes.started("--address", cluster.address, *arguments, stdin=subprocess.PIPE, **environment)


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def raftcoord(cluster: LocalCluster) -> Run:
    """Run one command line to its end."""

    def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
        with started(cluster, *arguments, **environment) as process:
            return finished(process)

    return run


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_a_command_that_ends_well_acknowledges_its_item(raftcoord: Run, client: Client) -> None:
    jobs = Queue("acknowledged", client=client)
    jobs.put_many([{"id": 7}, "next"])
    code, out, err = raftcoord("queue", "claim", "acknowledged", "--", *REPORT)
    read, told = json.loads(out)
    assert (code, err, read) == (0, "", '{"id": 7}\n')
    assert int(told.pop("fence")) > 0
    assert told == {"name": "acknowledged", "deliveries": "1", "item": '{"id": 7}'}
    assert jobs.get(timeout=0, batch=True) == ["next"]


def test_a_command_that_fails_puts_its_item_back_until_it_is_dead(raftcoord: Run, client: Client) -> None:
    Queue("failing", client=client).put_many(["poison", "good"])
    claim = ("queue", "claim", "failing", "--max-deliveries", "2", "--dead-letters", "dead", "--timeout", "0")
    script = ("--", "sh", "-c", 'echo "$RAFTCOORD_QUEUE_DELIVERIES $RAFTCOORD_QUEUE_ITEM"; exit 7')
    assert raftcoord(*claim, *script) == (7, '1 "poison"\n', "")
    assert raftcoord(*claim, *script) == (7, '2 "poison"\n', "")
    assert Queue("dead", client=client).get(timeout=0) == "poison"
    assert raftcoord(*claim, "--raw", "--", "cat") == (0, "good\n", "")
    assert raftcoord(*claim, "--", "cat") == (124, "", "raftcoord: queue 'failing': it has too few items\n")


@pytest.mark.parametrize(("command", "code"), [("no-such-command-anywhere", 127), ("/", 126)])
def test_a_command_that_cannot_run_takes_no_item(
    raftcoord: Run, client: Client, command: str, code: int
) -> None:
    jobs = Queue("untouched", client=client)
    jobs.put("item")
    assert raftcoord("queue", "claim", "untouched", "--", command)[0] == code
    assert jobs.get(timeout=0) == "item"


@pytest.mark.parametrize(
    ("value", "flags", "read", "item"),
    [
        ("text", ("--raw",), "text\n", "text"),
        (b"bytes", ("--raw",), "bytes", "bytes"),
        (b"\x00\xff", ("--raw",), "\x00\xff", None),
        (b"\x00\xff", (), '{"base64": "AP8="}\n', '{"base64": "AP8="}'),
        ("x" * 900_000, (), f'"{"x" * 900_000}"\n', None),
    ],
    ids=["text", "bytes", "not text", "bytes as JSON", "large"],
)
def test_an_item_is_handed_over_as_it_is_printed(
    raftcoord: Run, client: Client, value: Any, flags: tuple[str, ...], read: str, item: str | None
) -> None:
    Queue("handed", client=client).put(value)
    code, out, err = raftcoord(
        "queue", "claim", *flags, "handed", "--", *REPORT, RAFTCOORD_QUEUE_ITEM="of an outer claim"
    )
    assert (code, err) == (0, "")
    seen, told = json.loads(out)
    assert seen == read
    assert told.get("item") == item


def test_a_signal_that_ends_the_command_puts_the_item_back(cluster: LocalCluster, client: Client) -> None:
    jobs = Queue("interrupted", client=client)
    jobs.put("item")
    with started(cluster, "queue", "claim", "interrupted", "--", *LISTEN, "33") as run:
        assert line_of(run) == "up\n"
        run.send_signal(signal.SIGTERM)
        assert finished(run)[0] == 33
    with jobs.claim(0) as claim:
        assert (claim.value, claim.deliveries) == ("item", 2)


def test_a_killed_claim_takes_its_command_along(cluster: LocalCluster, client: Client) -> None:
    jobs = Queue("orphaned", client=client)
    jobs.put("item")
    script = ("sh", "-c", "echo $$; sleep 30")
    with started(cluster, "queue", "claim", "orphaned", "--ttl", "1s", "--", *script) as run:
        pid = int(line_of(run))
        with pytest.raises(CallTimeout):
            jobs.get(timeout=0)
        run.kill()
        assert eventually(lambda: not is_alive(pid))
    assert jobs.get(timeout=10) == "item"


def test_a_queue_that_is_closed_meanwhile_is_exit_code_125(cluster: LocalCluster, client: Client) -> None:
    jobs = Queue("closed", client=client)
    jobs.put("item")
    with started(cluster, "queue", "claim", "closed", "--", *LISTEN, "0") as run:
        assert line_of(run) == "up\n"
        jobs.close()
        run.send_signal(signal.SIGTERM)
        code, _, err = finished(run)
    assert (code, err) == (125, "raftcoord: queue 'closed': it was closed, and its claims are void\n")


def test_a_queue_that_is_closed_before_is_exit_code_124(cluster: LocalCluster, client: Client) -> None:
    with started(cluster, "queue", "claim", "never", "--", "echo", "x") as run:
        assert eventually(lambda: cluster.status(cluster.leader())["waiters"] == 1)
        Queue("never", client=client).close()
        code, out, err = finished(run)
    assert (code, out) == (124, "")
    assert err.startswith("raftcoord: queue 'never': ")


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("queue", "claim", "lost"), "the claim on an item of queue 'lost'"),
        (("rwlock", "read", "lost"), "rwlock 'lost'"),
        (("multilock", "lost", "gone"), "multilock 'lost gone'"),
    ],
)
def test_the_command_is_killed_when_what_it_needs_is_lost(
    cluster: LocalCluster, client: Client, arguments: tuple[str, ...], what: str
) -> None:
    jobs = Queue("lost", client=client)
    jobs.put("item")
    script = ("sh", "-c", "trap '' TERM; echo up; sleep 30 & wait; sleep 30")
    with started(cluster, *arguments, "--ttl", "1s", "--kill-after", "300ms", "--", *script) as run:
        assert line_of(run) == "up\n"
        for index in range(3):
            cluster.pause(index)
        try:
            code, _, err = finished(run)
        finally:
            cluster.heal()
    assert code == 125
    assert f"raftcoord: {what} was lost\n" in err
    assert jobs.get(timeout=10) == "item"
    with RWLock("lost", client).write(timeout=10):
        multilock = MultiLock(["lost", "gone"], client)
        assert multilock.acquire(timeout=10)
        multilock.release()


def test_readers_run_together_and_a_writer_alone(cluster: LocalCluster, raftcoord: Run) -> None:
    program = "import os, sys; print(os.environ['RAFTCOORD_RWLOCK_FENCE'], flush=True); sys.stdin.read()"
    read = ("rwlock", "read", "table", "--", sys.executable, "-c", program)
    with started(cluster, *read) as one, started(cluster, *read) as other:
        assert int(line_of(one)) > 0
        assert int(line_of(other)) > 0
        code, out, _ = raftcoord("rwlock", "status", "table")
        assert (code, json.loads(out)) == (0, {"writers": 0, "readers": 2, "waiting": 0})
        refused = raftcoord("rwlock", "write", "--timeout", "0", "table", "--", "echo", "x")
        assert refused == (124, "", "raftcoord: rwlock 'table' was not to be had in time\n")
        assert [finished(one)[0], finished(other)[0]] == [0, 0]
    script = f'echo "$RAFTCOORD_RWLOCK_NAME"; {" ".join(CLI)} --address {cluster.address} rwlock status table'
    code, out, _ = raftcoord("rwlock", "write", "table", "--", "sh", "-c", f"{script}; exit 7")
    name, status = out.splitlines()
    assert (code, name) == (7, "table")
    assert json.loads(status) == {"writers": 1, "readers": 0, "waiting": 0}


def test_a_multilock_takes_all_or_as_many_as_it_needs(raftcoord: Run, client: Client) -> None:
    names = ("gpu-0", "gpu-1", "gpu-2")
    script = ("--", "sh", "-c", 'echo "$RAFTCOORD_MULTILOCK_NAMES"; [ "$RAFTCOORD_MULTILOCK_FENCE" -gt 0 ]')
    code, out, _ = raftcoord("multilock", *names, *script)
    assert (code, json.loads(out)) == (0, list(names))
    with MultiLock(["gpu-1"], client):
        code, out, _ = raftcoord("multilock", "--status", *names)
        holder = {"session": client.session_id, "client": "tester"}
        assert (code, json.loads(out)) == (0, {"gpu-0": None, "gpu-1": holder, "gpu-2": None})
        refused = raftcoord("multilock", *names, "--timeout", "100ms", *script)
        assert refused == (124, "", "raftcoord: multilock 'gpu-0 gpu-1 gpu-2' was not to be had in time\n")
        code, out, _ = raftcoord("multilock", *names, "--num-locks", "2", *script)
        assert (code, json.loads(out)) == (0, ["gpu-0", "gpu-2"])
    assert MultiLock(names, client).holders() == {}
