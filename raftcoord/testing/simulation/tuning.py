"""Constants of production code that a scenario may change: how much is done at a time, and how much at once.

With the values of production most of what comes in several parts comes in one here, as runs are short.

Invariants:
  1. A promise holds whatever these constants are, as long as they are at least 1.
  2. After a run they are what they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Final
from unittest import mock

from raftcoord.client import exchange, session_state
from raftcoord.consensus import journal, replication, snapshot_sender, snapshot_store
from raftcoord.machine import snapshot
from raftcoord.server import batcher

TUNABLE: Final[dict[str, tuple[ModuleType, str]]] = {
    "batches_in_flight": (batcher, "BATCHES_IN_FLIGHT_MAX"),
    "batch_commands": (batcher, "BATCH_COMMANDS_MAX"),
    "append_bytes": (replication, "APPEND_BYTES"),
    "append_window": (replication, "WINDOW"),
    "journal_batch_bytes": (journal, "BATCH_BYTES_MAX"),
    "snapshot_slice_bytes": (snapshot, "_SLICE_BYTES"),
    "snapshot_write_bytes": (snapshot_store, "_WRITE_BYTES"),
    "snapshot_yield_bytes": (snapshot_store, "_YIELD_BYTES"),
    "snapshot_chunks_in_flight": (snapshot_sender, "CHUNKS_IN_FLIGHT"),
    "client_requests_in_flight": (exchange, "IN_FLIGHT_MAX"),
    "client_confirmations_listed": (session_state, "LISTED_MAX"),
}


@contextmanager
def tuned(values: Mapping[str, int]) -> Iterator[None]:
    """Give production code these constants. Raises KeyError for a name that is not in `TUNABLE`."""
    with ExitStack() as stack:
        for name, value in values.items():
            module, constant = TUNABLE[name]
            stack.enter_context(mock.patch.object(module, constant, value))
        yield
