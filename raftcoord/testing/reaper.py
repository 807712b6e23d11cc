"""The process that cleans up after a LocalCluster whose owner was killed.

Run as `python reaper.py FOLDER`; standard input is a pipe whose other end only the owner holds for longer
than a moment. Each process that the owner starts writes `+PID` before anything else, and the owner writes
`-PID` after it saw it end. At end of file the owner is gone: what is left is killed (SIGKILL also ends a
stopped process), and FOLDER is removed unless it is "".

Standard library only, and no import of raftcoord: it must start in milliseconds and depend on nothing.

Invariants:
  1. Only processes that named themselves are killed: each is held by a pidfd from then on, so that a number
     that was used again is never hit.
  2. FOLDER is removed only after these processes have ended, so that none can write into it any more.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import time

END_WAIT_S = 10.0
REMOVE_TRIES = 20


def follow_owner(source: int) -> dict[int, int]:
    """Read until the owner is gone; return the pidfd of every process that is left, by pid."""
    left: dict[int, int] = {}
    pending = b""
    while data := os.read(source, 4096):
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            pid = int(line[1:])
            if line[:1] == b"+":
                try:
                    left[pid] = os.pidfd_open(pid)
                except ProcessLookupError:
                    continue
            elif pid in left:
                os.close(left.pop(pid))
    return left


def kill_group(pid: int, descriptor: int) -> None:
    """Kill a process, and with it the process group that it leads, if it does."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        signal.pidfd_send_signal(descriptor, signal.SIGSTOP)  # stopped, it cannot give up its number
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)


def kill(left: dict[int, int]) -> None:
    """Kill the processes and wait until they have ended, for a bounded time."""
    waiting = select.poll()
    for pid, descriptor in left.items():
        kill_group(pid, descriptor)
        waiting.register(descriptor, select.POLLIN)
    deadline = time.monotonic() + END_WAIT_S
    open_count = len(left)
    while open_count and (rest_s := deadline - time.monotonic()) > 0:
        ended = waiting.poll(rest_s * 1000)
        if not ended:
            break
        for descriptor, _ in ended:
            waiting.unregister(descriptor)
        open_count -= len(ended)


def remove(folder: str) -> None:
    """Remove the folder; something may still be on its way out of it, so try more than once."""
    for _ in range(REMOVE_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.lexists(folder):
            return
        time.sleep(0.05)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends when its owner does, and not before
    kill(follow_owner(sys.stdin.fileno()))
    if sys.argv[1]:
        remove(sys.argv[1])


if __name__ == "__main__":
    main()
