"""A Dask scheduler, its workers and a client program as processes of their own.

Invariants:
  1. Each process is ended by its own pid, and was waited for when `close` returns.
  2. The port of the scheduler stays ours while the scheduler is down.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from raftcoord.testing.ports import ReservedPort

START_WAIT_S: Final = 60.0
END_WAIT_S: Final = 20.0
POLL_INTERVAL_S: Final = 0.02
LOOPBACK: Final = "127.0.0.1"


class DaskProcesses:
    """One scheduler and its workers; the workers may still be starting up when `start` returns.

    Args:
        folder: where the processes work and write their logs.
        workers: the name of each worker.
        threads: threads of each worker.
        python: the interpreter of the environment whose Dask is to run.
        path: folders that the processes can import from.
        environment: variables besides those of this process.
    """

    def __init__(
        self,
        folder: Path,
        *,
        workers: Sequence[str] = ("one", "two"),
        threads: int = 2,
        python: str = sys.executable,
        path: Sequence[Path] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = folder
        self._names = workers
        self._threads = threads
        self._python = python
        self._environment = os.environ | (environment or {})
        self._environment |= {
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            "DASK_TEMPORARY_DIRECTORY": str(folder),
        }
        self._port = ReservedPort()
        self._scheduler: subprocess.Popen[bytes] | None = None
        self._workers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def address(self) -> str:
        """Where the scheduler listens, also after it was started again."""
        return f"tcp://{self._port.address}"

    @property
    def workers(self) -> int:
        """The number of workers."""
        return len(self._names)

    def start(self) -> None:
        """Start the scheduler, wait until it listens, and start the workers.

        Raises:
            RuntimeError: the scheduler ended, or did not listen in time; the message says what it wrote.
        """
        # Whoever tries to connect too early backs off for seconds.
        self._scheduler = self._run("scheduler", "--port", str(self._port.port), "--dashboard-address", ":0")
        deadline = time.monotonic() + START_WAIT_S
        while not self._listens():
            if self._scheduler.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the scheduler does not listen:\n{self.logs()}")
            time.sleep(POLL_INTERVAL_S)
        options = ("--nthreads", str(self._threads), "--no-nanny")
        self._workers = [
            self._run("worker", self.address, "--name", name, *options, log=name) for name in self._names
        ]

    def kill_scheduler(self) -> None:
        """Kill the scheduler (SIGKILL), and return when its workers, left alone, have ended too."""
        assert self._scheduler is not None
        self._scheduler.kill()
        self._scheduler.wait()
        for worker in self._workers:
            worker.wait(END_WAIT_S)

    def close(self) -> None:
        """End what runs."""
        for process in (*self._workers, self._scheduler):
            if process is not None:
                process.kill()
                process.wait()
        self._port.close()

    def call(self, *arguments: str, timeout_s: float) -> str:
        """Run a Python program next to them and return what it printed.

        Raises:
            RuntimeError: it failed; the message ends with what it wrote.
            subprocess.TimeoutExpired: it took longer than `timeout_s`, and was killed.
        """
        done = subprocess.run(
            [self._python, *arguments],
            capture_output=True,
            text=True,
            cwd=self._folder,
            env=self._environment,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stderr}\n{self.logs()}")
        return done.stdout

    def logs(self) -> str:
        """Return what scheduler and workers wrote."""
        return "\n".join(file.read_text("utf-8", "replace") for file in sorted(self._folder.glob("*.log")))

    def _listens(self) -> bool:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection((LOOPBACK, self._port.port), timeout=1).close()
            return True
        return False

    def _run(self, kind: str, *arguments: str, log: str = "scheduler") -> subprocess.Popen[bytes]:
        with (self._folder / f"{log}.log").open("ab") as file:
            return subprocess.Popen(
                [
                    *(self._python, "-m", f"distributed.cli.dask_{kind}", *arguments),
                    *("--host", LOOPBACK, "--no-dashboard"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=self._folder,
                env=self._environment,
            )
