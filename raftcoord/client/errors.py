"""Exceptions that say more about an answer than its code alone, because they know which object gave it."""

from __future__ import annotations

from raftcoord.protocol.errors import Conflict, Rejected


class SemaphoreClosed(Rejected, RuntimeError):
    """The semaphore was closed; a new handle of that name starts a new one."""


class InconsistentMaxLeases(Conflict, ValueError):
    """The semaphore exists with another `max_leases`."""


class TopicDeleted(Rejected):
    """The topic was deleted; a new subscription starts over."""
