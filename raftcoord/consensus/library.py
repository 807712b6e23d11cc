"""The library behind the engine, checked before it is used.

PySyncObj's core is driven through private names (all of them are in `core.py`). That is sound only for the
very source it was tested with, so a digest is compared at import.

The core reads time through a module-level function. Several replicas may live in one process, so that
function is replaced by one which asks the clock of whichever replica is running on this thread; `use_clock`
says which that is.

Invariants:
  1. No source of the core but the tested one is ever run.
  2. Every call into the core is preceded by `use_clock`, or happens inside `running`.
  3. The rest of the process does not notice that the library was imported.
"""

from __future__ import annotations

import _socket
import hashlib
import logging
import socket
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pysyncobj.syncobj as syncobj
from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from raftcoord.consensus.interface import ConsensusError
from raftcoord.runtime import Clock

# Importing the library replaces these by versions that work on Windows only.
socket.inet_ntop, socket.inet_pton = _socket.inet_ntop, _socket.inet_pton

__all__ = [
    "Node",
    "NullPoller",
    "PeerNode",
    "SyncObj",
    "SyncObjConf",
    "Transport",
    "journal_for_construction",
    "running",
    "use_clock",
]

TESTED_VERSION: Final = "0.3.17"
TESTED_DIGEST: Final = "e8bdf06797085d734df86e24ab4802fe87893dff77268565ec036f7ad4a1cfe4"


class UntestedLibraryError(ConsensusError, ImportError):
    """The installed PySyncObj is not the one that the engine was tested with."""


def check_source(source: bytes) -> None:
    """Refuse any source of the core but the tested one.

    Raises:
        UntestedLibraryError: the digest differs.
    """
    digest = hashlib.sha256(source).hexdigest()
    if digest != TESTED_DIGEST:
        raise UntestedLibraryError(
            f"the installed pysyncobj is not the tested release {TESTED_VERSION} "
            f"(sha256 of syncobj.py is {digest}, expected {TESTED_DIGEST}); "
            f"install it with: pip install --force-reinstall pysyncobj=={TESTED_VERSION}"
        )


check_source(Path(syncobj.__file__).read_bytes())
logging.getLogger("pysyncobj").setLevel(logging.CRITICAL)

_local = threading.local()
_library_create_journal = syncobj.createJournal


def _now() -> float:
    now: float = _local.clock.now()
    return now


syncobj.monotonicTime = _now


def use_clock(clock: Clock) -> None:
    """Let the core on this thread see `clock` from now on."""
    _local.clock = clock


class PeerNode(Node):  # type: ignore[misc]
    """A member by name; the core looks nodes up in sets and dicts all the time.

    Its hash does not differ from process to process, so that the core's sets have one order everywhere.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._hash = zlib.crc32(name.encode())

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Node) and self._id == other.id)


@contextmanager
def running(clock: Clock) -> Iterator[None]:
    """Let the core on this thread see `clock` while the block runs; blocks may nest."""
    before = getattr(_local, "clock", None)
    _local.clock = clock
    try:
        yield
    finally:
        _local.clock = before


@contextmanager
def journal_for_construction(journal: Any) -> Iterator[None]:
    """Let a core that is constructed inside the block use `journal` instead of one of the library's."""
    syncobj.createJournal = lambda _file: journal
    try:
        yield
    finally:
        syncobj.createJournal = _library_create_journal


class NullPoller:
    """Stands in for the library's socket poller: the event loop does that work."""

    def poll(self, _timeout: float) -> None:
        """Do nothing."""
