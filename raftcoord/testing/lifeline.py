"""What ends the replicas when the process that owns them is gone, however it went.

Two pipes whose write ends only the owner holds. Nothing is ever written to the first: every replica
inherits its read end and exits at end of file. The second one tells the reaper process whom to kill and
what to remove, for replicas that cannot read (stopped, or not yet started up).

Invariants:
  1. No other process holds a write end: they are close-on-exec, and a forked child closes them at once.
     Without that, a worker forked by the owner would keep the cluster alive after the owner's death.
  2. The reaper knows every process before it becomes what it is to run (`watched.py`).
  3. The reaper runs before the folder exists, so that there is no moment at which nobody would remove it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_LOG = logging.getLogger(__name__)
_REAPER = Path(__file__).with_name("reaper.py")
_WATCHED = Path(__file__).with_name("watched.py")
_REAPER_END_WAIT_S = 15.0

_fork_lock = threading.Lock()
_open_lifelines: weakref.WeakSet[Lifeline] = weakref.WeakSet()


class Lifeline:
    """The two pipes and the reaper of one cluster.

    Args:
        folder: what the reaper removes in the end; None when nothing is to be removed.
        share: a descriptor that the reaper holds open as long as it lives, e.g. a lock.
    """

    def __init__(self, folder: Path | None, *, share: int | None = None) -> None:
        # A fork between making a pipe and registering it would leave a copy in the child.
        with _fork_lock:
            self.read_end, self._write_end = os.pipe()
            commands, self._commands = os.pipe()
            _open_lifelines.add(self)
        try:
            self._reaper = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_REAPER), str(folder or "")],
                stdin=commands,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                pass_fds=() if share is None else (share,),
                start_new_session=True,  # Ctrl-C in the owner's terminal is not for the reaper
            )
        except BaseException:
            self._close_pipes()
            raise
        finally:
            os.close(commands)

    def __repr__(self) -> str:
        state = "closed" if self._write_end < 0 else "open"
        return f"<Lifeline {state} reaper={self._reaper.pid}>"

    def start(
        self, command: Sequence[str], *, pass_fds: Sequence[int] = (), **options: Any
    ) -> subprocess.Popen[Any]:
        """Start a command that never outlives the owner, whenever that is killed.

        A command that cannot be run ends with 126 or 127, as in a shell, and says so on standard error.

        Args:
            options: as for `subprocess.Popen`.
        """
        starter = [sys.executable, "-I", "-S", str(_WATCHED), str(self._commands)]
        return subprocess.Popen([*starter, *command], pass_fds=(*pass_fds, self._commands), **options)

    def forget(self, pid: int) -> None:
        """Tell the reaper that a process has ended and was waited for."""
        self._tell(f"-{pid}\n")

    def close(self) -> None:
        """End what is still watched, remove the folder, and return when both have happened."""
        self._close_pipes()
        try:
            self._reaper.wait(_REAPER_END_WAIT_S)
        except subprocess.TimeoutExpired:
            self._reaper.kill()
            self._reaper.wait()

    def abandon(self) -> None:
        """Drop the pipes in a forked child: the cluster belongs to the parent."""
        self._close_pipes()
        self._reaper.returncode = 0  # not a child of this process; keeps Popen from complaining

    def _tell(self, line: str) -> None:
        try:
            os.write(self._commands, line.encode())  # below PIPE_BUF, so never half a line
        except BrokenPipeError:
            # Somebody killed the reaper. The replicas still follow their own pipe.
            _LOG.warning("reaper_gone pid=%d", self._reaper.pid)

    def _close_pipes(self) -> None:
        for name in ("read_end", "_write_end", "_commands"):
            descriptor = getattr(self, name)
            setattr(self, name, -1)
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)


def _in_child() -> None:
    _fork_lock.release()
    for lifeline in list(_open_lifelines):
        lifeline.abandon()


os.register_at_fork(before=_fork_lock.acquire, after_in_parent=_fork_lock.release, after_in_child=_in_child)
