"""What becomes a command that must not outlive its owner: `python watched.py DESCRIPTOR COMMAND…`.

It names itself to the reaper through the inherited pipe, and only then becomes the command. Were the owner to
name it, an owner that is killed right after starting it would leave it behind unnamed.

Standard library only, and no import of raftcoord: it starts with every command.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

NOT_FOUND = 127
CANNOT_RUN = 126


def main(descriptor: int, command: list[str]) -> int:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an early Ctrl-C ends it as it would end the command
    with contextlib.suppress(BrokenPipeError):  # somebody killed the reaper; that must not stop the work
        os.write(descriptor, f"+{os.getpid()}\n".encode())
    # Gone when the command starts: only the owner may keep the reaper's pipe open.
    os.set_inheritable(descriptor, False)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # Python ignores these two, and the command would inherit that
    try:
        os.execvp(command[0], command)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        print(f"raftcoord: cannot run {command[0]!r}: {reason}", file=sys.stderr)
        return NOT_FOUND if isinstance(error, FileNotFoundError) else CANNOT_RUN


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
