"""The commands `raftcoord` and `raftcoord-sim`: parsing and printing; the work is done by the packages below.

Nothing is imported before the command runs, so that a missing extra is a sentence and not a traceback.
"""

from __future__ import annotations

import importlib
import sys

_EXTRA_MODULES = frozenset({"click", "rich"})


def main() -> None:
    """Run `raftcoord` with the arguments of this process and exit with its status."""
    _run("raftcoord.cli.app")


def simulate() -> None:
    """Run `raftcoord-sim` with the arguments of this process and exit with its status."""
    _run("raftcoord.cli.simulate_command")


def _run(module: str) -> None:
    try:
        run = importlib.import_module(module).run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA_MODULES:
            raise
        print('raftcoord: the command line needs more: pip install "raftcoord[cli]"', file=sys.stderr)
        sys.exit(2)
    sys.exit(run(sys.argv[1:]))
