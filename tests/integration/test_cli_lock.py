"""`raftcoord lock`, `up` and `serve`: commands that run other processes."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import CLI, eventually, finished, is_alive, started

from raftcoord import Client, Lock, Variable
from raftcoord.testing import LocalCluster
from raftcoord.testing.observer import observe
from raftcoord.testing.ports import reserve

LISTENER = """
import signal, sys
signal.signal(int(sys.argv[1]), lambda *_: sys.exit(33))
print("up", flush=True)
signal.pause()
"""
COUNTER = """
import signal, sys, time
count = 0
def interrupted(*_):
    global count
    count += 1
signal.signal(signal.SIGINT, interrupted)
print("up", flush=True)
while not count:
    time.sleep(0.01)
time.sleep(0.5)
print("count", count, flush=True)
sys.exit(5)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(3) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster.address) as client:
        yield client


def lock_command(
    cluster: LocalCluster, *arguments: str
) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    return started("lock", "--address", cluster.address, "--ttl", "1s", *arguments)


def test_the_command_runs_under_the_lock(cluster: LocalCluster) -> None:
    with lock_command(
        cluster, "a", "--", "sh", "-c", 'echo "$RAFTCOORD_LOCK_NAME $RAFTCOORD_LOCK_FENCE"'
    ) as run:
        code, out, err = finished(run)
    name, fence = out.split()
    assert (code, name, err) == (0, "a", "")
    assert int(fence) > 0


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", "kill -TERM $$"), 128 + signal.SIGTERM),
        (("no-such-command-anywhere",), 127),
        (("/",), 126),
        (("sh", "-c", "yes | head -1 >/dev/null; exit 3"), 3),
    ],
)
def test_the_exit_status_is_the_commands(cluster: LocalCluster, command: tuple[str, ...], code: int) -> None:
    with lock_command(cluster, "a", "--", *command) as run:
        assert finished(run)[0] == code


def test_a_lock_that_is_held_is_exit_code_124(cluster: LocalCluster, client: Client) -> None:
    with (
        Lock("held", client=client),
        lock_command(cluster, "--timeout", "100ms", "held", "--", "echo", "x") as run,
    ):
        code, out, err = finished(run)
    assert (code, out) == (124, "")
    assert err == "raftcoord: lock 'held' was not to be had in time\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_reach_the_command(cluster: LocalCluster, client: Client, number: signal.Signals) -> None:
    with lock_command(cluster, "signals", "--", sys.executable, "-c", LISTENER, str(int(number))) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "up\n"
        run.send_signal(number)
        assert finished(run)[0] == 33
    assert not Lock("signals", client=client).locked()


def test_a_signal_while_waiting_ends_the_wait(cluster: LocalCluster, client: Client) -> None:
    with Lock("busy", client=client), lock_command(cluster, "busy", "--", "echo", "x") as run:
        assert eventually(lambda: cluster.status(cluster.leader())["waiters"] == 1)
        run.send_signal(signal.SIGTERM)
        code, out, _ = finished(run)
        assert (code, out) == (128 + signal.SIGTERM, "")
        assert cluster.status(cluster.leader())["waiters"] == 0


def test_the_command_is_killed_when_the_lock_is_lost(cluster: LocalCluster) -> None:
    script = "trap '' TERM; echo up; sleep 30 & wait; sleep 30"
    with lock_command(cluster, "--kill-after", "300ms", "lost", "--", "sh", "-c", script) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "up\n"
        for index in range(3):
            cluster.pause(index)
        try:
            code, _, err = finished(run)
        finally:
            cluster.heal()
    assert code == 125
    assert "raftcoord: lock 'lost' was lost\n" in err


def test_the_command_does_not_outlive_a_killed_guard(cluster: LocalCluster, client: Client) -> None:
    with lock_command(cluster, "orphan", "--", "sh", "-c", "echo $$; sleep 30") as run:
        assert run.stdout is not None
        command_pid = int(run.stdout.readline())
        run.kill()
        assert eventually(lambda: not is_alive(command_pid))
    assert Lock("orphan", client=client).acquire(timeout=10)


def read_until(terminal: int, text: bytes) -> None:
    """Read from a terminal until a text comes; fail when it does not come in time."""
    shown = b""
    while text not in shown:
        readable, _, _ = select.select([terminal], [], [], 20)
        assert readable, shown
        shown += os.read(terminal, 1024)


def test_ctrl_c_at_a_terminal_reaches_the_command_once(cluster: LocalCluster) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        arguments = ("lock", "--address", cluster.address, "terminal", "--", sys.executable, "-c", COUNTER)
        os.execv(sys.executable, [*CLI, *arguments])
    try:
        read_until(terminal, b"up")
        os.write(terminal, b"\x03")
        read_until(terminal, b"count 1")
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(terminal)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(status) == 5


def test_up_runs_until_interrupted_and_keeps_its_data(tmp_path: Path) -> None:
    for expected in (None, "kept"):
        up = subprocess.Popen(
            [*CLI, "up", "--replicas", "3", "--data-dir", str(tmp_path / "data")],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert up.stdout is not None
            assert "3 replicas are up" in up.stdout.readline()
            name, _, address = up.stdout.readline().strip().partition("=")
            assert name == "export RAFTCOORD_ADDRESS"
            with Client(address) as client:
                variable = Variable("data", client=client)
                if expected:
                    assert variable.get(timeout=10) == expected
                variable.set("kept")
            up.send_signal(signal.SIGINT)
            assert up.wait(20) == 0
        finally:
            up.kill()
            up.communicate()


def test_serve_runs_one_replica(tmp_path: Path) -> None:
    flags = ["--name", "solo", "--data-dir", str(tmp_path), "--ops-listen", ""]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAFTCOORD_")}
    client_port, peer_port = ports = reserve([0, 0])
    serve = subprocess.Popen(
        [*CLI, "serve", *flags, "--listen", client_port.address, "--peer-listen", peer_port.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert serve.stdout is not None
        assert serve.stdout.readline().startswith("ready name=solo")
        assert observe(client_port.address)["name"] == "solo"
        serve.send_signal(signal.SIGTERM)
        assert serve.wait(20) == 0
    finally:
        serve.kill()
        serve.communicate()
        for port in ports:
            port.close()


def test_serve_says_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    failed = subprocess.run(
        [*CLI, "serve", "--name", "solo", "--data-dir", str(tmp_path), "--listen", "nowhere"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert failed.returncode == 2
    assert failed.stderr.count("\n") == 1
    assert "listen" in failed.stderr
