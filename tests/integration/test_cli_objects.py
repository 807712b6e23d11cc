"""`raftcoord variable`, `queue` and `status` as a script sees them: output, exit codes, one-line errors."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from raftcoord import UNSET, Client, Queue, Variable
from raftcoord.cli.app import run
from raftcoord.testing import LocalCluster
from raftcoord.version import __version__

NOBODY = "127.0.0.1:1"


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(3) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster.address) as client:
        yield client


@dataclass(frozen=True, slots=True)
class Result:
    """What a script sees of one command."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def raftcoord(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run one command line in this process; `address` goes into the environment."""

    def run_command(*arguments: str, address: str | None = None) -> Result:
        monkeypatch.delenv("RAFTCOORD_ADDRESS", raising=False)
        if address is not None:
            monkeypatch.setenv("RAFTCOORD_ADDRESS", address)
        code = run(list(arguments))
        return Result(code, *capfd.readouterr())

    return run_command


def test_variables_go_in_and_come_out(raftcoord: Run, cluster: LocalCluster, client: Client) -> None:
    assert raftcoord("variable", "set", "answer", '{"n": 42}', address=cluster.address).code == 0
    assert Variable("answer", client=client).get(timeout=0) == {"n": 42}
    shown = raftcoord("variable", "get", "answer", address=cluster.address)
    assert (shown.code, json.loads(shown.out)) == (0, {"n": 42})
    assert raftcoord("variable", "delete", "answer", address=cluster.address).code == 0
    again = raftcoord("variable", "delete", "answer", address=cluster.address)
    assert (again.code, again.err) == (1, "raftcoord: variable 'answer': it is not set\n")


def test_raw_text_is_left_alone(raftcoord: Run, cluster: LocalCluster, client: Client) -> None:
    raftcoord("variable", "set", "--raw", "text", "42", address=cluster.address)
    assert Variable("text", client=client).get(timeout=0) == "42"
    assert raftcoord("variable", "get", "text", address=cluster.address).out == '"42"\n'
    assert raftcoord("variable", "get", "--raw", "text", address=cluster.address).out == "42\n"
    Variable("text", client=client).set(b"\x00bytes")
    assert raftcoord("variable", "get", "--raw", "text", address=cluster.address).out == "\x00bytes"


def test_an_unset_variable_is_exit_code_1(raftcoord: Run, cluster: LocalCluster) -> None:
    missing = raftcoord("variable", "get", "missing", "--timeout", "200ms", address=cluster.address)
    assert (missing.code, missing.out) == (1, "")
    assert missing.err == "raftcoord: variable 'missing': the time was over\n"


def test_a_value_with_a_ttl_unsets_itself(raftcoord: Run, cluster: LocalCluster, client: Client) -> None:
    variable = Variable("brief", client=client)
    assert raftcoord("variable", "set", "brief", "1", "--ttl", "1h", address=cluster.address).code == 0
    value, revision = variable.get_versioned(timeout=0)
    assert value == 1
    assert raftcoord("variable", "set", "brief", "2", "--ttl", "100ms", address=cluster.address).code == 0
    seen = variable.next_change(revision, timeout=10)
    while seen.value is not UNSET:
        assert seen.value == 2
        seen = variable.next_change(seen.revision, timeout=10)


def test_watch_shows_changes_and_deletion(raftcoord: Run, cluster: LocalCluster, client: Client) -> None:
    variable = Variable("followed", client=client)
    variable.set("first")
    command = [sys.executable, "-m", "raftcoord.cli", "--address", cluster.address]
    with subprocess.Popen(
        [*command, "variable", "watch", "followed", "--count", "3"], stdout=subprocess.PIPE, text=True
    ) as watch:
        assert watch.stdout is not None
        assert json.loads(watch.stdout.readline())["value"] == "first"
        variable.set((1, 2))
        assert json.loads(watch.stdout.readline())["value"] == [1, 2]
        variable.delete()
        assert json.loads(watch.stdout.readline()) == {"revision": 0, "deleted": True}
        assert watch.wait(10) == 0


def test_queues_go_in_and_come_out(raftcoord: Run, cluster: LocalCluster, client: Client) -> None:
    assert raftcoord("queue", "put", "jobs", "1", "two", "[3]", address=cluster.address).code == 0
    assert raftcoord("queue", "size", "jobs", address=cluster.address).out == "3\n"
    assert raftcoord("queue", "get", "jobs", address=cluster.address).out == "1\n"
    assert raftcoord("queue", "get", "jobs", "--all", address=cluster.address).out == '"two"\n[3]\n'
    assert Queue("jobs", client=client).qsize() == 0
    empty = raftcoord("queue", "get", "jobs", "--timeout", "0.1", address=cluster.address)
    assert (empty.code, empty.err) == (1, "raftcoord: queue 'jobs': the time was over\n")


def test_a_full_queue_is_exit_code_1(raftcoord: Run, cluster: LocalCluster) -> None:
    put = ("queue", "put", "--maxsize", "1", "bounded")
    assert raftcoord(*put, "a", address=cluster.address).code == 0
    full = raftcoord(*put, "b", address=cluster.address)
    assert (full.code, full.err) == (1, "raftcoord: queue 'bounded': it is full\n")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("variable", "get", "x"), 2, "no address: use --address"),
        (("--address", "nonsense:port", "variable", "get", "x"), 2, "cannot read the address"),
        (("--address", NOBODY, "variable", "get", "x"), 3, NOBODY),
        (("--address", NOBODY, "lock", "x", "--", "true"), 3, NOBODY),
        (("--address", NOBODY, "variable", "get", "x", "--timeout", "soon"), 2, "not a duration"),
        (("--address", NOBODY, "queue", "get", "x", "--all", "--count", "2"), 2, "exclude each other"),
        (("variable", "get"), 2, "Missing argument 'NAME'"),
        (("no-such-command",), 2, "No such command"),
        ((), 2, "Missing command"),
        (("lock", "x"), 2, "COMMAND"),
        (("--address", NOBODY, "queue", "claim", "x", "--", "true"), 3, NOBODY),
        (("queue", "claim", "x"), 2, "COMMAND"),
        (("queue", "claim", "x", "true"), 2, "unexpected extra argument"),
        (("queue", "claim", "x", "--dead-letters", "y", "--", "true"), 2, "needs --max-deliveries"),
        (("rwlock", "read", "x"), 2, "COMMAND"),
        (("multilock", "x", "true"), 2, "COMMAND"),
        (("multilock", "--", "true"), 2, "Missing argument 'NAME...'"),
        (("multilock", "x", "y", "--num-locks", "3", "--", "true"), 2, "number of names"),
        (("multilock", "--status", "x", "--", "true"), 2, "--status runs no command"),
    ],
)
def test_errors_are_one_line(raftcoord: Run, arguments: tuple[str, ...], code: int, text: str) -> None:
    failed = raftcoord(*arguments)
    assert failed.code == code, failed
    assert failed.out == ""
    assert failed.err.startswith("raftcoord: ")
    assert failed.err.count("\n") == 1
    assert text in failed.err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("variable", "set", "", "1"), "must not be empty"),
        (("variable", "set", "x" * 600, "1"), "over the limit"),
        (("variable", "set", "x", "99999999999999999999"), "64 bits"),
        (("variable", "set", "x", "1", "--ttl", "0"), "above 0"),
    ],
)
def test_names_and_values_that_cannot_be_are_one_line(
    raftcoord: Run, cluster: LocalCluster, arguments: tuple[str, ...], text: str
) -> None:
    failed = raftcoord(*arguments, address=cluster.address)
    assert failed.code in (1, 2)
    assert failed.err.count("\n") == 1
    assert text in failed.err


@pytest.mark.parametrize(
    "command",
    [
        *((), ("up",), ("serve",), ("status",), ("variable",), ("queue",), ("lock",), ("demo",)),
        *(("multilock",), ("rwlock",)),
        *((("variable", name)) for name in ("get", "set", "delete", "watch")),
        *((("queue", name)) for name in ("put", "get", "claim", "size")),
        *((("rwlock", name)) for name in ("read", "write", "status")),
        *((("event", name)) for name in ("set", "clear", "wait", "status")),
        *((("semaphore", name)) for name in ("run", "status", "close")),
        *((("topic", name)) for name in ("publish", "subscribe", "status", "delete")),
    ],
)
def test_every_command_has_help(raftcoord: Run, command: tuple[str, ...]) -> None:
    shown = raftcoord(*command, "--help")
    assert shown.code == 0, shown
    assert "sage: raftcoord" in shown.out


def test_version(raftcoord: Run) -> None:
    assert raftcoord("--version").out == f"raftcoord {__version__}\n"


def test_status_shows_every_replica_and_exit_codes_tell_the_state(
    raftcoord: Run, cluster: LocalCluster, client: Client
) -> None:
    cluster.heal()
    Variable("counted", client=client).set(1)
    shown = raftcoord("status", "--json", address=cluster.address)
    summary = json.loads(shown.out)
    leader = cluster.leader()
    assert shown.code == 0
    assert summary["leader"] == cluster.status(leader)["name"]
    assert summary["leader_address"] == cluster.addresses[leader]
    assert summary["sessions"] >= 1
    assert sum(summary["objects"].values()) >= 1
    assert [row["reachable"] for row in summary["replicas"]] == [True] * 3
    assert all(row["lag"] >= 0 for row in summary["replicas"])

    cluster.kill(leader)
    cluster.leader()
    degraded = raftcoord("status", address=cluster.address)
    assert degraded.code == 0
    assert "unreachable" in degraded.out

    cluster.kill(cluster.leader())
    assert raftcoord("status", "--json", address=cluster.address).code in (0, 1)
    cluster.kill(next(index for index in range(3) if cluster.pid(index)))
    nobody = raftcoord("status", "--json", address=cluster.address)
    assert nobody.code == 3
    assert json.loads(nobody.out)["reachable"] == 0
    cluster.heal()


def test_a_reader_that_goes_away_ends_the_command_quietly(cluster: LocalCluster, client: Client) -> None:
    Queue("many", client=client).put_many(["x" * 1000] * 1000)
    command = [
        sys.executable,
        "-m",
        "raftcoord.cli",
        "--address",
        cluster.address,
        "queue",
        "get",
        "many",
        "--all",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as get:
        assert get.stdout is not None
        assert get.stderr is not None
        assert get.stdout.readline()
        get.stdout.close()
        assert get.stderr.read() == ""
        assert get.wait(20) == 1


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_the_command_says_what_to_install(missing: str) -> None:
    script = f"import sys; sys.modules[{missing!r}] = None; from raftcoord.cli import main; main()"
    failed = subprocess.run(
        [sys.executable, "-c", script, "status"], capture_output=True, text=True, timeout=30, check=False
    )
    assert failed.returncode == 2
    assert failed.stderr == 'raftcoord: the command line needs more: pip install "raftcoord[cli]"\n'
