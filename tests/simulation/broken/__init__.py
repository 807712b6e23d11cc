"""Deliberately broken variants of the production code: the simulator must catch each of them.

Each is one small patch of a method, applied as a context manager, so that what the checks are worth can be
measured: `find_broken.py` says how many seeds each one takes, and by which invariant it is caught.

    durability          what is on the disk when it is said to be
    replication         logs, answers and the commit index
    elections           votes and leadership
    snapshots           writing, sending and installing them, and what is in them
    machine_variants    sessions, locks, queues
    object_variants     the other kinds of objects, claims, and what goes by time
    gateway             what clients are told by a replica: reads, keep-alives, expiry
    client              what a client makes of it
    handles             subscriptions, re-entrant locks, updates

A variant that breaks nothing that anybody could observe is worth nothing, and is not here.
"""

from __future__ import annotations

from broken import (
    client,
    durability,
    elections,
    gateway,
    handles,
    machine_variants,
    object_variants,
    replication,
    snapshots,
)
from broken.registry import VARIANTS, Variant, patched, variant

__all__ = [
    "VARIANTS",
    "Variant",
    "client",
    "durability",
    "elections",
    "gateway",
    "handles",
    "machine_variants",
    "object_variants",
    "patched",
    "replication",
    "snapshots",
    "variant",
]
