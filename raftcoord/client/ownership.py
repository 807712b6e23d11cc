"""Who is calling: a task in asyncio, a thread that uses the synchronous objects.

Invariants:
  1. A call of a synchronous object is its thread's, although a task on the loop thread carries it out.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Final

_caller: Final[ContextVar[object | None]] = ContextVar("caller", default=None)


def current_owner() -> object:
    """Return the task or thread that what is acquired now belongs to.

    The object itself and not its number: numbers of threads that ended are given again.
    """
    caller = _caller.get()
    if caller is not None:
        return caller
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs in this thread
        task = None
    return task or threading.current_thread()


@contextlib.contextmanager
def on_behalf_of(owner: object) -> Iterator[None]:
    """Have calls of asyncio objects, and the tasks that are started for them, count as somebody else's."""
    token = _caller.set(owner)
    try:
        yield
    finally:
        _caller.reset(token)


def on_behalf_of_this_thread() -> contextlib.AbstractContextManager[None]:
    """Have calls of asyncio objects, and the tasks that are started for them, count as this thread's."""
    return on_behalf_of(threading.current_thread())
