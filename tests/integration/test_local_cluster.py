"""LocalCluster on real processes: what its controls do, and that nothing outlives its owner."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import eventually, is_alive

from raftcoord import Client, Variable
from raftcoord.testing import LocalCluster, LocalClusterError
from raftcoord.testing.observer import ObserveError, ask
from raftcoord.testing.replica_process import ProcessState

OWNER = """
import os, sys, time
from raftcoord.testing import LocalCluster

cluster = LocalCluster(3, *sys.argv[1:])
cluster.pause(0)  # cannot see the end of its pipe
child = os.fork()
if child == 0:
    time.sleep(30)
    os._exit(0)
print("child", child, flush=True)
print("replicas", *(cluster.pid(index) for index in range(3)), flush=True)
print("folder", os.readlink(f"/proc/{cluster.pid(0)}/cwd"), flush=True)
print("ports", *(address.rpartition(":")[2] for address in cluster.addresses), flush=True)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(3) as cluster:
        yield cluster


@pytest.fixture
def healthy(cluster: LocalCluster) -> LocalCluster:
    cluster.heal()
    return cluster


def can_listen(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen()
        except OSError:
            return False
    return True


def ports_of(cluster: LocalCluster) -> list[int]:
    return [int(address.rpartition(":")[2]) for address in cluster.addresses]


def test_it_serves_and_leaves_nothing_behind() -> None:
    with LocalCluster(3) as cluster:
        pids = [cluster.pid(index) for index in range(3)]
        folder = Path(os.readlink(f"/proc/{pids[0]}/cwd")).parent
        statuses = cluster.statuses()
        leader = cluster.leader()
        assert cluster.replicas == 3
        assert cluster.address.count(":") == 3
        assert {status["leader"] for status in statuses.values()} == {statuses[leader]["name"]}
    assert not [pid for pid in pids if pid is not None and is_alive(pid)]
    assert not folder.exists()
    assert all(map(can_listen, ports_of(cluster)))
    cluster.close()
    with pytest.raises(LocalClusterError, match="closed"):
        cluster.kill(0)


@pytest.mark.parametrize("kept", [False, True])
def test_a_killed_owner_leaves_nothing_behind(kept: bool, tmp_path: Path) -> None:
    arguments = [str(tmp_path / "data")] if kept else []
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, *arguments], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert owner.stdout is not None
    told = {}
    with owner, contextlib.ExitStack() as undo:
        undo.callback(owner.kill)
        for line in owner.stdout:
            key, *words = line.split()
            told[key] = words
            if key == "child":
                undo.callback(os.kill, int(words[0]), signal.SIGKILL)
            if key == "ready":
                break
        assert "ready" in told
        owner.kill()
        pids = list(map(int, told["replicas"]))
        # The forked child lives on all the while, and must not keep anything of the cluster.
        assert eventually(lambda: not any(map(is_alive, pids)))
        assert eventually(lambda: kept or not Path(told["folder"][0]).parent.exists())
        assert eventually(lambda: all(can_listen(int(port)) for port in told["ports"]))
        assert is_alive(int(told["child"][0]))
    if kept:
        with LocalCluster(3, tmp_path / "data") as cluster:
            assert cluster.leader() in range(3)


def test_an_owner_killed_while_it_starts_leaves_nothing_behind(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", OWNER], stdout=subprocess.DEVNULL, env=environment
        ) as owner:
            time.sleep(rng.uniform(0.1, 0.8))
            owner.kill()
    assert eventually(lambda: not list(tmp_path.iterdir())), f"seed {seed}"
    assert eventually(lambda: not any(str(tmp_path) in line for line in command_lines())), f"seed {seed}"


def command_lines() -> list[str]:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
    return lines


def test_a_killed_leader_is_replaced_and_comes_back(healthy: LocalCluster) -> None:
    killed = healthy.leader()
    term = healthy.status(killed)["term"]
    healthy.kill(killed)
    assert healthy.state(killed) is ProcessState.DOWN
    with pytest.raises(ObserveError, match="refused"):
        healthy.status(killed)
    successor = healthy.leader()
    assert successor != killed
    assert healthy.status(successor)["term"] > term
    addresses = healthy.addresses
    healthy.restart(killed)
    healthy.wait_ready()
    assert healthy.addresses == addresses
    assert healthy.status(killed)["leader"] == healthy.status(successor)["leader"]


def test_a_stopped_leader_hands_over(healthy: LocalCluster) -> None:
    stopped = healthy.leader()
    healthy.stop(stopped)
    assert healthy.leader() != stopped
    assert "hand" in healthy.logs(stopped) or "stopped" in healthy.logs(stopped)


def test_a_paused_leader_is_replaced_and_follows_when_it_wakes_up(healthy: LocalCluster) -> None:
    paused = healthy.leader()
    healthy.pause(paused)
    assert healthy.state(paused) is ProcessState.PAUSED
    successor = healthy.leader()
    assert successor != paused
    with pytest.raises(ObserveError, match="no answer"):
        healthy.status(paused, timeout=0.1)
    healthy.resume(paused)
    healthy.wait_ready()
    assert healthy.status(paused)["role"] == "follower"


def test_two_of_three_down_means_no_leader(healthy: LocalCluster) -> None:
    survivor = healthy.leader()
    for index in {0, 1, 2} - {survivor}:
        healthy.kill(index)
    assert eventually(lambda: not healthy.status(survivor)["ready"])
    with pytest.raises(LocalClusterError, match=r"no leader within 0\.2 s"):
        healthy.leader(timeout=0.2)


def test_transfer_moves_the_leadership(healthy: LocalCluster) -> None:
    leader = healthy.leader()
    target = (leader + 1) % 3
    assert ask(healthy.addresses[leader], "transfer", healthy.status(target)["name"], timeout_s=5.0) is True
    assert eventually(lambda: healthy.leader() == target)


def test_a_replica_that_does_not_start_says_why() -> None:
    with pytest.raises(LocalClusterError, match=r"(?s)ended with exit code 2.*heartbeat_ms"):
        LocalCluster(3, heartbeat_ms=-1)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((0,), {}, ValueError, "from 1 to 9"),
        ((10,), {}, ValueError, "from 1 to 9"),
        ((3,), {"listen": "127.0.0.1:1"}, TypeError, "sets listen itself"),
        ((3, "/proc/nowhere"), {}, LocalClusterError, "cannot use the folder"),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: tuple[object, ...], options: dict[str, object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        LocalCluster(*arguments, **options)  # type: ignore[arg-type]


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LocalClusterError, match=f"cannot use port {port}"):
            LocalCluster(1, port=port)


def test_a_kept_folder_belongs_to_one_cluster_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raftcoord.testing.cluster_folder.LOCK_WAIT_S", 0.1)
    with LocalCluster(1, tmp_path) as first:
        identity = first.status(0)["identity"]
        address = first.address
        with pytest.raises(LocalClusterError, match="another cluster uses the folder"):
            LocalCluster(1, tmp_path)
    with LocalCluster(1, tmp_path) as again:
        assert again.status(0)["identity"] == identity
        assert again.address == address
    with pytest.raises(LocalClusterError, match="holds 1 replicas, not 3"):
        LocalCluster(3, tmp_path)


def test_a_forked_child_has_no_power_over_the_cluster(healthy: LocalCluster) -> None:
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            healthy.close()
            try:
                healthy.kill(0)
            except LocalClusterError:
                os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert [healthy.state(index) for index in range(3)] == [ProcessState.RUNNING] * 3


def test_the_pytest_plugin_loads_nothing_but_itself() -> None:
    script = """
import sys, pytest, raftcoord
before = set(sys.modules)
import raftcoord.testing.pytest_plugin
print(*sorted(set(sys.modules) - before))
"""
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert loaded.split() == ["raftcoord.testing", "raftcoord.testing.pytest_plugin"]


def test_the_fixtures_give_a_cluster_and_a_client(
    raftcoord_cluster: LocalCluster, raftcoord_client: Client
) -> None:
    variable = Variable("through-the-fixtures", client=raftcoord_client)
    variable.set("value")
    raftcoord_cluster.kill(raftcoord_cluster.leader())
    assert variable.get() == "value"
