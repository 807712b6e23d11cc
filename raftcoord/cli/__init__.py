"""The command `raftcoord`: parsing and printing only. What it does is done by the packages below it.

Nothing is imported before the command runs, so that a missing extra is a sentence and not a traceback.
"""

from __future__ import annotations

import sys

_EXTRA_MODULES = frozenset({"click", "rich"})


def main() -> None:
    """Run the command line of this process and exit with its status."""
    try:
        from raftcoord.cli.app import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA_MODULES:
            raise
        print('raftcoord: the command line needs more: pip install "raftcoord[cli]"', file=sys.stderr)
        sys.exit(2)
    sys.exit(run(sys.argv[1:]))
