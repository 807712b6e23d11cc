"""The replica as a process: signals, exit codes, the lifeline, and connections up to the limit."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from raftcoord.protocol.errors import Code
from raftcoord.protocol.frames import FrameDecoder, encode_frame
from raftcoord.protocol.operations import Operation
from raftcoord.protocol.values import pack_name, pack_value

START_TIMEOUT_S = 20.0
NAME, VALUE = pack_name("name"), pack_value("value")


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class Process:
    """One replica of a cluster of one, in a process of its own."""

    def __init__(self, folder: Path, *flags: str, pass_fds: Sequence[int] = (), listen: str = "") -> None:
        self.address = listen or free_address()
        self.process = subprocess.Popen(
            [
                *(
                    sys.executable,
                    "-m",
                    "raftcoord.server",
                    "--name",
                    "r1",
                    "--data-dir",
                    str(folder / "data"),
                ),
                *("--listen", self.address, "--peer", f"r1={free_address()}", "--ops-listen", "", *flags),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=pass_fds,
            text=True,
        )

    def ready_line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready "), line + self.finish()[1]
        return line

    def finish(self, timeout_s: float = START_TIMEOUT_S) -> tuple[int, str]:
        """Wait for the end; return exit code and standard error."""
        _, errors = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, errors

    def connect(self) -> Talk:
        host, port = self.address.split(":")
        return Talk(socket.create_connection((host, int(port)), timeout=10))


class Talk:
    """A blocking connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._decoder = FrameDecoder()
        self._messages: list[Any] = []

    def ask(self, message: Any) -> Any:
        self.socket.sendall(encode_frame(message))
        return self.receive()

    def receive(self) -> Any:
        while not self._messages:
            data = self.socket.recv(65_536)
            if not data:
                return None
            self._messages += self._decoder.feed(data)
        return self._messages.pop(0)

    def open_session(self, nonce: bytes = b"n" * 16, session: int = 0) -> int:
        options = {"session": session, "nonce": nonce, "ttl_ms": 30_000, "name": "test"}
        answer = self.ask(["raftcoord", 1, "session", options])
        assert answer[2] == Code.OK, answer
        return int(answer[3]["session"])


@contextlib.contextmanager
def replica(folder: Path, *flags: str, **options: Any) -> Iterator[Process]:
    running = Process(folder, *flags, **options)
    try:
        running.ready_line()
        _wait_for_leader(running)
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.process.communicate()


def _wait_for_leader(running: Process) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    with contextlib.closing(running.connect().socket) as connection:
        observer = Talk(connection)
        assert observer.ask(["raftcoord", 1, "observer", {}])[2] == Code.OK
        while not observer.ask([-1, "status"])[2]["ready"]:
            assert time.monotonic() < deadline, "the replica never became ready"
            time.sleep(0.02)


def failing(folder: Path, *flags: str, **options: Any) -> tuple[int, str]:
    return Process(folder, *flags, **options).finish()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_gracefully_and_nothing_is_lost(number: signal.Signals, tmp_path: Path) -> None:
    with replica(tmp_path) as first:
        talk = first.connect()
        session = talk.open_session()
        assert talk.ask([1, 0, int(Operation.VARIABLE_SET), NAME, VALUE])[1] == Code.OK
        first.process.send_signal(number)
        assert talk.receive()[:2] == [0, Code.NOT_LEADER]
        assert talk.receive() is None
        talk.socket.close()
        code, errors = first.finish()
        assert code == 0, errors
        assert "Traceback" not in errors
    with replica(tmp_path) as second:
        talk = second.connect()
        talk.open_session(session=session)
        assert talk.ask([2, 1, int(Operation.VARIABLE_GET), NAME, False])[2][0] == VALUE
        talk.socket.close()


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    with replica(tmp_path) as first:
        talk = first.connect()
        session = talk.open_session()
        for sequence in range(1, 51):
            value = pack_value(sequence)
            assert talk.ask([sequence, sequence - 1, int(Operation.VARIABLE_SET), NAME, value])[1] == Code.OK
        first.process.kill()
        talk.socket.close()
    with replica(tmp_path) as second:
        talk = second.connect()
        talk.open_session(session=session)
        assert talk.ask([51, 50, int(Operation.VARIABLE_GET), NAME, False])[2][0] == pack_value(50)
        talk.socket.close()


def test_a_port_in_use_is_exit_code_3(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, errors = failing(tmp_path, listen=address)
    assert code == 3
    assert errors.splitlines()[-1] == f"raftcoord: listen: cannot listen on {address}: address already in use"


def test_wrong_settings_are_exit_code_2(tmp_path: Path) -> None:
    path = tmp_path / "replica.toml"
    path.write_text("heart = 5\n")
    code, errors = failing(tmp_path, "--config", str(path))
    assert (code, errors.count("\n")) == (2, 1)
    assert errors.startswith(f"raftcoord: configuration: {path}: unknown key 'heart'")
    code, errors = failing(tmp_path, "--heartbeat-ms", "0")
    assert (code, errors.count("\n")) == (2, 1)


def test_an_unusable_data_folder_is_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where a folder should be")
    code, errors = failing(tmp_path)
    assert code == 1
    assert errors.splitlines()[-1].startswith("raftcoord: ")
    assert "Traceback" not in errors


def test_a_data_folder_of_another_replica_is_exit_code_1(tmp_path: Path) -> None:
    with replica(tmp_path):
        pass
    code, errors = failing(tmp_path, "--name", "r2", "--peer", f"r2={free_address()}")
    assert code == 1
    assert "r1" in errors.splitlines()[-1]
    assert "Traceback" not in errors


def test_two_replicas_cannot_share_a_data_folder(tmp_path: Path) -> None:
    with replica(tmp_path):
        code, errors = failing(tmp_path)
    assert code == 1
    assert "Traceback" not in errors


def test_it_ends_when_its_owner_dies(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    try:
        with replica(tmp_path, "--lifeline", str(read_end), pass_fds=(read_end,)) as running:
            os.close(write_end)
            code, errors = running.finish(timeout_s=5)
            assert code == 0, errors
    finally:
        os.close(read_end)


def test_json_logs_are_json(tmp_path: Path) -> None:
    with replica(tmp_path, "--log-format", "json") as running:
        running.process.terminate()
        _, errors = running.finish()
    entries = [json.loads(line) for line in errors.splitlines()]
    assert {"leader_ready", "serving"} <= {entry["event"] for entry in entries}


def test_thousands_of_idle_connections_up_to_the_limit(tmp_path: Path) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(2000, soft - 200)
    with (
        replica(tmp_path, "--limits-connections-max", str(count)) as running,
        contextlib.ExitStack() as stack,
    ):
        talk = running.connect()
        stack.callback(talk.socket.close)
        talk.open_session()
        for _ in range(count - 1):
            idle = running.connect()
            stack.callback(idle.socket.close)
            idle.socket.sendall(encode_frame(["raftcoord", 1, "observer", {}]))
        assert idle.receive()[2] == Code.OK
        surplus = running.connect()
        stack.callback(surplus.socket.close)
        assert surplus.ask(["raftcoord", 1, "observer", {}])[2] == Code.LIMIT
        assert surplus.receive() is None
        started = time.monotonic()
        for sequence in range(1, 201):
            answer = talk.ask([sequence, sequence - 1, int(Operation.VARIABLE_SET), NAME, VALUE])
            assert answer[1] == Code.OK
        assert time.monotonic() - started < 10.0
