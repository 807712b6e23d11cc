"""One replica of a LocalCluster as a process of the operating system: start, signals, log.

What the replicas are to each other is not known here.

Invariants:
  1. `kill` and `stop` return only after the process has ended and was waited for, so its port is free.
  2. A process is under the lifeline's watch from its start until it was waited for.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from raftcoord.testing.lifeline import Lifeline

LOG_BYTES_MAX = 16 * 1024 * 1024  # a longer log is started anew when its replica is
LOG_TAIL_BYTES = 64 * 1024
STOP_WAIT_S = 5.0
_PACKAGE_PARENT = Path(__file__).resolve().parents[2]


class ProcessState(Enum):
    """What a replica's process is at the moment."""

    DOWN = "down"
    RUNNING = "running"
    PAUSED = "paused"


class ReplicaProcess:
    """One replica: its folder, its config file and, while it runs, its process."""

    def __init__(self, name: str, folder: Path, config_text: str, lifeline: Lifeline) -> None:
        self.name = name
        self._log_path = folder / "server.log"
        self._config_path = folder / "config.toml"
        self._folder = folder
        self._lifeline = lifeline
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False
        folder.mkdir(mode=0o700, exist_ok=True)
        # The config carries the secret of the members, so nobody else may read it at any moment.
        with contextlib.suppress(FileNotFoundError):
            self._config_path.unlink()
        descriptor = os.open(self._config_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(config_text)

    def __repr__(self) -> str:
        return f"<ReplicaProcess {self.name} {self.state.value} pid={self.pid}>"

    @property
    def pid(self) -> int | None:
        """The process id, or None while it is down."""
        return None if self._process is None else self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code of a process that ended by itself (negative: a signal), else None."""
        return None if self._process is None else self._process.poll()

    @property
    def state(self) -> ProcessState:
        if self._process is None or self._process.poll() is not None:
            return ProcessState.DOWN
        return ProcessState.PAUSED if self._paused else ProcessState.RUNNING

    def start(self) -> None:
        """Start the process and return at once; it serves a little later.

        Raises:
            OSError: no process could be made.
        """
        self._forget_ended()
        with self._open_log() as log:
            self._process = self._lifeline.start(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,  # modules in the owner's working directory must not shadow anything
                env=_environment(os.environ),
                pass_fds=(self._lifeline.read_end,),
                start_new_session=True,  # Ctrl-C in the owner's terminal is not for the replicas
            )
        self._paused = False

    def kill(self) -> None:
        """End the process with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._forget_ended()

    def terminate(self) -> None:
        """Ask the process to stop (SIGTERM), waking it up when it is paused; does not wait."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self.resume()

    def wait_stopped(self, wait_s: float = STOP_WAIT_S) -> bool:
        """Wait for the end of the process; kill it after `wait_s`. Tells whether it ended by itself."""
        if self._process is None:
            return True
        try:
            self._process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        self._forget_ended()
        return True

    def pause(self) -> None:
        """Stop the process with SIGSTOP, and return when it no longer runs."""
        if self.state is ProcessState.RUNNING and self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            # The signal is taken a moment later; until then the replica could still answer.
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            self._paused = True

    def resume(self) -> None:
        """Let a paused process go on with SIGCONT."""
        if self._paused and self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._paused = False

    def abandon(self) -> None:
        """Forget the process in a forked child: it is a child of the parent."""
        if self._process is not None:
            self._process.returncode = 0  # keeps Popen from complaining about a process that runs on
            self._process = None

    def log_tail(self, lines: int) -> str:
        """Return the last lines that the process wrote; empty when it wrote nothing."""
        try:
            with self._log_path.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
                text = file.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def _command(self) -> list[str]:
        server = [sys.executable, "-m", "raftcoord.server"]
        return [*server, "--config", str(self._config_path), "--lifeline", str(self._lifeline.read_end)]

    def _open_log(self) -> BinaryIO:
        too_long = self._log_path.exists() and self._log_path.stat().st_size > LOG_BYTES_MAX
        return self._log_path.open("wb" if too_long else "ab")

    def _forget_ended(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            self._lifeline.forget(self._process.pid)
            self._process = None
            self._paused = False


def _environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a replica: settings for servers and clients elsewhere are not for it."""
    environment = {name: value for name, value in inherited.items() if not name.startswith("RAFTCOORD_")}
    if not {"site-packages", "dist-packages"} & set(_PACKAGE_PARENT.parts):
        # The owner runs from a checkout; the replicas must run the same code.
        known = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_PACKAGE_PARENT), known)))
    return environment
