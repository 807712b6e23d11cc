"""Exit codes, and how an error becomes one line on standard error and one of them.

Invariants:
  1. A code means the same for every command; those of `lock` do not collide with the others.
  2. An expected error never shows a traceback, and never takes more than one line.
"""

from __future__ import annotations

import os
import sys
from enum import IntEnum

import click

from raftcoord.protocol.errors import LockLost, NotConnected, RaftcoordError
from raftcoord.testing.local_cluster import LocalClusterError


class Exit(IntEnum):
    """What the status of the command means."""

    OK = 0
    NO = 1  # the answer is no: unset, empty, full, timed out, no leader
    USAGE = 2  # arguments, names or values that cannot be right
    UNREACHABLE = 3  # no replica could be reached, or none leads
    LOCK_TIMEOUT = 124  # `lock`: not acquired in time; the command was not started
    LOCK_LOST = 125  # `lock`: the lock was lost, and the command was killed
    CANNOT_RUN = 126  # `lock`: the command exists but cannot be executed
    NOT_FOUND = 127  # `lock`: there is no such command
    INTERRUPTED = 130  # Ctrl-C


class CommandError(Exception):
    """A command cannot go on; the text is one line for the user."""

    def __init__(self, message: str, code: Exit = Exit.NO) -> None:
        super().__init__(message)
        self.code = code


_CODE_BY_ERROR: tuple[tuple[type[BaseException], Exit], ...] = (
    # The first match counts, so what is more special comes first.
    (click.ClickException, Exit.USAGE),
    (NotConnected, Exit.UNREACHABLE),
    (LockLost, Exit.LOCK_LOST),
    (RaftcoordError, Exit.NO),
    (LocalClusterError, Exit.NO),
    (TypeError, Exit.USAGE),  # a value that cannot be stored
    (ValueError, Exit.USAGE),
    (OSError, Exit.NO),
)
EXPECTED_ERRORS: tuple[type[BaseException], ...] = (
    CommandError,
    KeyboardInterrupt,
    click.Abort,
    *(kind for kind, _ in _CODE_BY_ERROR),
)


def report(error: BaseException) -> Exit:
    """Print one of `EXPECTED_ERRORS` in one line and return the exit code that stands for it."""
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return Exit.INTERRUPTED
    if isinstance(error, BrokenPipeError):
        # The reader of our output went away, as `head` does. Nothing more can be printed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.NO
    if isinstance(error, click.ClickException):
        text = error.format_message()
    else:
        text = str(error) or type(error).__name__
    # A failed replica's log explains more than its exit code, so it is the one text of several lines.
    if not isinstance(error, LocalClusterError):
        text = " ".join(text.split())
    print(f"raftcoord: {text}", file=sys.stderr)
    if isinstance(error, CommandError):
        return error.code
    return next(code for kind, code in _CODE_BY_ERROR if isinstance(error, kind))
