"""What tests of real processes share: starting them, waiting with a bound, looking at them from outside."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

CLI = (sys.executable, "-m", "raftcoord.cli")


@contextlib.contextmanager
def started(*arguments: str, stdin: int | None = None, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command line of raftcoord in a process group of its own for as long as the block lasts."""
    process = subprocess.Popen(
        [*CLI, *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    try:
        with process:
            yield process
    finally:
        process.kill()


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait until a process ends; return its exit status and what it wrote to stdout and stderr."""
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def eventually(holds: Callable[[], bool], within_s: float = 10.0) -> bool:
    """Wait until something holds; tell whether it did in time."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended but was not waited for does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
