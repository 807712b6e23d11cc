"""Grants that have a longer way to go than to the task that asked for them.

A caller on another event loop may be cancelled after the answer came and before it crossed over. So what was
granted counts as taken only once `accept`, which sees it over, has returned.

Invariants:
  1. When `accept` raises or is cancelled, what was granted is given back, as if the call had been cancelled.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from typing import Any, Final, TypeAlias

Accept: TypeAlias = Callable[[Any], Awaitable[None]]

_accept: Final[ContextVar[Accept | None]] = ContextVar("accept", default=None)


def acceptance() -> Accept | None:
    """Return what must accept the grants of this task, or None when the task itself does."""
    return _accept.get()


@contextlib.contextmanager
def handed_over_by(accept: Accept) -> Iterator[None]:
    """Have `accept(payload)` awaited with what calls in this block are granted, before it counts as taken."""
    token = _accept.set(accept)
    try:
        yield
    finally:
        _accept.reset(token)
