"""Who is calling: a task in asyncio, a thread that uses the synchronous objects.

Invariants:
  1. A call of a synchronous object is its thread's, although a task on the loop thread carries it out.
  2. A call of an asyncio object is the task's that makes it, although another one may carry it out:
     `asyncio.wait_for` (before Python 3.12) and `gather` await what they are given in tasks of their own.
  3. A task knows which one, of those that make calls, it was started by. Neither keeps the other alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar
from weakref import ReferenceType, ref

Owner: TypeAlias = "asyncio.Task[Any] | threading.Thread"

_P = ParamSpec("_P")
_T = TypeVar("_T")

_caller: Final[ContextVar[Owner | None]] = ContextVar("caller", default=None)

# With the task that carries the call out: other tasks, and callbacks, that inherit the context are not in it.
_calling_task: Final[ContextVar[tuple[object, Owner] | None]] = ContextVar("calling_task", default=None)

# Who made a call in this context last, and who did in the context that this one began with.
_lineage: Final[ContextVar[tuple[ReferenceType[Owner], ReferenceType[Owner] | None] | None]] = ContextVar(
    "lineage", default=None
)


def current_owner() -> Owner:
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
    call = _calling_task.get()
    if call is not None and call[0] is task:
        return call[1]
    return task or threading.current_thread()


def current_starter() -> Owner | None:
    """Return the task that made calls and then started the present one, directly or not; None if none did."""
    lineage = _lineage.get()
    if lineage is None:
        return None
    last, before = lineage
    if last() is not current_owner():
        return last()
    return None if before is None else before()


def is_running(owner: Owner) -> bool:
    """Whether an owner may yet come to use what it has."""
    return owner.is_alive() if isinstance(owner, threading.Thread) else not owner.done()


def for_its_caller(
    method: Callable[_P, Coroutine[Any, Any, _T]],
) -> Callable[_P, Coroutine[Any, Any, _T]]:
    """Have what a coroutine method does count as done by the one who calls it, whoever awaits it."""

    @functools.wraps(method)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> Coroutine[Any, Any, _T]:
        owner, lineage = current_owner(), _lineage.get()
        if lineage is None or lineage[0]() is not owner:
            _lineage.set((ref(owner), None if lineage is None else lineage[0]))
        return _run_for(owner, method, *args, **kwargs)

    return call


async def _run_for(
    owner: Owner, method: Callable[_P, Coroutine[Any, Any, _T]], *args: _P.args, **kwargs: _P.kwargs
) -> _T:
    before = _calling_task.get()
    _calling_task.set((asyncio.current_task(), owner))
    try:
        return await method(*args, **kwargs)
    finally:
        _calling_task.set(before)


@contextlib.contextmanager
def on_behalf_of(owner: Owner) -> Iterator[None]:
    """Have calls of asyncio objects, and the tasks that are started for them, count as somebody else's."""
    token = _caller.set(owner)
    try:
        yield
    finally:
        _caller.reset(token)


def on_behalf_of_this_thread() -> contextlib.AbstractContextManager[None]:
    """Have calls of asyncio objects, and the tasks that are started for them, count as this thread's."""
    return on_behalf_of(threading.current_thread())
