"""What one handle holds in the store: locks, leases and claims, each under its fence.

Invariants:
  1. A hold is believed in only while its session's time to live has not run out on this side.
  2. A loss is told once for each session through `on_lost`, and raises `LockLost` when the hold is used next.
  3. A release gives back what its own task or thread acquired; else what the task has that started it, or
     what is left by one that has ended, if that is one thing only; never what any other has that still runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from raftcoord.client import forking
from raftcoord.client.aio_client import Client
from raftcoord.client.core import Core
from raftcoord.client.ownership import Owner, current_owner, current_starter, is_running
from raftcoord.client.session_state import Session
from raftcoord.protocol.errors import LockLost, NotHolder

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Hold:
    """One grant: good for as long as its session lives, and only in this process.

    `detail` is what the kind of object has to remember of it.
    """

    fence: int
    session: Session
    core: Core
    generation: int
    owner: Owner
    detail: Any = None

    def is_alive(self) -> bool:
        return self.generation == forking.generation and self.core.is_alive(self.session)


def hold_of(client: Client, fence: int, detail: Any = None) -> Hold:
    """Return the hold for a grant that the caller's task was just answered."""
    core = client.core
    return Hold(fence, core.session, core, forking.generation, current_owner(), detail)


class Holdings:
    """The holds of one handle, in the order in which they were granted.

    Args:
        what: kind and name of the object, for messages.
        on_lost: called when a hold is lost while it is held.
    """

    def __init__(self, what: str, on_lost: Callable[[], object] | None) -> None:
        self._what = what
        self._on_lost = on_lost
        self._holds: list[Hold] = []
        self._told: Session | None = None

    def __repr__(self) -> str:
        return f"<Holdings of {self._what}: {[hold.fence for hold in self._holds]}>"

    def __iter__(self) -> Iterator[Hold]:
        return iter(tuple(self._holds))

    def add(self, hold: Hold) -> Hold:
        """Remember a grant, and have its loss told."""
        # Nobody will ask for what those lost who are gone.
        self._holds = [other for other in self._holds if other.is_alive() or is_running(other.owner)]
        self._holds.append(hold)
        hold.core.call_when_lost(hold, lambda: self._lost(hold))
        return hold

    def forget_lost(self, owner: Owner) -> None:
        """Forget what an owner lost and has not been told of."""
        self._holds = [hold for hold in self._holds if hold.owner is not owner or hold.is_alive()]

    def forget_all(self) -> None:
        """Forget everything: it is void."""
        holds, self._holds = self._holds, []
        for hold in holds:
            hold.core.forget(hold)

    def newest_of(self, owner: Owner) -> Hold | None:
        """Return what an owner acquired last, lost or not."""
        return next((hold for hold in reversed(self._holds) if hold.owner is owner), None)

    def newest(self) -> Hold | None:
        """Return the hold that a use of the handle is about, lost or not.

        That is the caller's own, acquired last. When it has none: that of the task which started it, as a
        clean-up in a task of its own needs, or what was left by one who ended. Of several things, each may be
        what somebody else works under, as may be what any other has that runs: then it is none.
        """
        own = self.newest_of(current_owner())
        if own is not None:
            return own
        starter = current_starter()
        of_starter = None if starter is None else self.newest_of(starter)
        left = [hold for hold in self if hold.owner is not starter and not is_running(hold.owner)]
        if of_starter is not None:
            left.append(of_starter)
        return left[0] if len(left) == 1 else None

    def current(self, hold: Hold | None = None) -> Hold:
        """Return a hold, by default the one that a use of the handle is about, if it is held.

        Raises:
            NotHolder: it is not, or there is none.
            LockLost: it is lost.
        """
        hold = self._find(hold)
        if not hold.is_alive():
            raise self.lost_error(hold)
        return hold

    def take(self, hold: Hold | None = None) -> Hold:
        """Remove a hold, by default the one that a use of the handle is about, in order to give it back.

        Raises: as `current`; what is lost is removed as well.
        """
        hold = self._find(hold)
        self._holds.remove(hold)
        hold.core.forget(hold)
        if not hold.is_alive():
            raise self.lost_error(hold)
        return hold

    def _find(self, hold: Hold | None) -> Hold:
        if hold is None:
            hold = self.newest()
        if hold is None or hold not in self._holds:
            who = "this task or thread through this handle" if self._holds else "this handle"
            raise NotHolder(f"{self._what} is not held by {who}")
        return hold

    def lost_error(self, hold: Hold) -> LockLost:
        return LockLost(f"{self._what} (fence {hold.fence}) is lost: its session ended")

    def _lost(self, hold: Hold) -> None:
        if hold not in self._holds or self._told is hold.session:
            return
        self._told = hold.session
        _log.warning("lease_lost object=%s fence=%d", self._what, hold.fence)
        if self._on_lost is not None:
            try:
                self._on_lost()
            except Exception:  # the user's fault must not keep others from being told
                _log.exception("on_lost_failed object=%s", self._what)
