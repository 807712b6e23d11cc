"""The worker processes: started together, given the same task, waited for together, never left behind."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from raftcoord.testing.lifeline import Lifeline

FINISH_WAIT_S: Final = 60.0


class WorkerFailed(Exception):
    """A worker ended with an error or not at all; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one worker printed: its result, and when it was done (seconds of the machine's clock)."""

    result: Any
    finished_s: float


class _Worker:
    """One process, and a thread that reads its reports, so that it never waits for its reader."""

    def __init__(self, number: int, address: str, lifeline: Lifeline) -> None:
        self.number = number
        self._complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it lives as long as the worker
        self._process: subprocess.Popen[str] = lifeline.start(
            [sys.executable, "-m", "raftcoord.demo.worker", str(number), address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
        )
        self._lifeline = lifeline
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __repr__(self) -> str:
        return f"<Worker {self.number} exit={self._process.poll()}>"

    def assign(self, task: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(task + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self.raise_if_ended()

    def report(self, wait_s: float) -> Report:
        try:
            line = self._lines.get(timeout=max(0.0, wait_s))
        except queue.Empty:
            raise WorkerFailed(f"worker {self.number} has not finished in {FINISH_WAIT_S:g} s") from None
        if not line:
            self._process.wait()
            self.raise_if_ended()
        return Report(**json.loads(line))

    def raise_if_ended(self) -> None:
        if self._process.poll() is not None:
            self._complaints.seek(0)
            lines = self._complaints.read().strip().splitlines() or ["it said nothing"]
            raise WorkerFailed(f"worker {self.number} ended with {self._process.returncode}: {lines[-1]}")

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._lifeline.forget(self._process.pid)
        self._reader.join()
        for file in (self._process.stdin, self._process.stdout, self._complaints):
            assert file is not None
            with contextlib.suppress(BrokenPipeError):  # a task that an ended worker never took
                file.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")


class Crew:
    """Workers 1 to `count`."""

    def __init__(self, count: int, address: str) -> None:
        self._lifeline = Lifeline(None)  # ends the workers when the director is killed
        self._workers = [_Worker(number, address, self._lifeline) for number in range(1, count + 1)]

    def __repr__(self) -> str:
        return f"<Crew {self._workers}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.end()
        self._lifeline.close()

    def assign(self, task: str) -> None:
        """Give every worker the same task. Raises WorkerFailed."""
        for worker in self._workers:
            worker.assign(task)

    def raise_if_failed(self) -> None:
        """Raise WorkerFailed when a worker has ended."""
        for worker in self._workers:
            worker.raise_if_ended()

    def reports(self) -> list[Report]:
        """Wait until all have done their task and return their reports by number. Raises WorkerFailed."""
        deadline = time.monotonic() + FINISH_WAIT_S
        return [worker.report(deadline - time.monotonic()) for worker in self._workers]
