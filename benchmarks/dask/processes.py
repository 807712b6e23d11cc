"""A Dask scheduler, its workers and a client program as processes of their own.

Invariants:
  1. Each process is ended by its own pid, and was waited for when `close` returns.
  2. The port of the scheduler stays ours while the scheduler is down.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from raftcoord.testing.ports import ReservedPort

END_WAIT_S: Final = 20.0
LOOPBACK: Final = "127.0.0.1"


class DaskProcesses:
    """One scheduler and its workers; returns at once, a client waits until they serve.

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
        self._environment = os.environ | (environment or {}) | {"PYTHONPATH": os.pathsep.join(map(str, path))}
        self._port = ReservedPort()
        self._scheduler: subprocess.Popen[bytes] | None = None
        self._workers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self.start()
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
        """Start the scheduler and the workers."""
        self._scheduler = self._run("scheduler", "--port", str(self._port.port))
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
