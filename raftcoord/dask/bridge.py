"""From the threads and event loops of Dask to the loop thread of raftcoord, and back.

All objects of a process share the connection on that one thread, whatever kind of caller they have.

Invariants:
  1. A caller that is cancelled cancels its call.
  2. What was granted (an item, a lock) is either with the caller or given back, however late the caller is
     cancelled.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from distributed import Client, get_worker

from raftcoord.client.deadline import Deadline
from raftcoord.client.hand_over import handed_over_by
from raftcoord.client.loop_thread import call, submit
from raftcoord.client.ownership import current_owner, for_its_caller, on_behalf_of
from raftcoord.protocol.errors import SessionLost

_T = TypeVar("_T")

__all__ = [
    "bounded",
    "call",
    "call_async",
    "call_granting",
    "call_undoable",
    "current_worker",
    "dask_client",
    "is_asynchronous",
    "is_open",
    "known_client",
    "repeated",
    "start",
    "start_now",
]


def current_worker() -> Any:
    """Return the Dask worker whose task this is, or None. Asks nobody."""
    try:
        return get_worker()
    except ValueError:
        return None


def known_client() -> Client | None:
    """Return the Dask client of this process or context, if there is one. Makes none."""
    try:
        return Client.current()
    except ValueError:
        return None


def is_open(client: Client | None) -> bool:
    """Tell whether there is a Dask client that has neither been closed nor lost its scheduler for good."""
    return client is not None and client.status != "closed"


def is_asynchronous(client: Client | None) -> bool:
    """Tell whether a call made here and now must return an awaitable, by Dask's rule.

    It must on the event loop of the Dask client or worker, and on any loop where there is neither.
    """
    if client is not None:
        return bool(client.asynchronous)
    running = asyncio._get_running_loop()  # as get_running_loop, which raises in most calls
    if running is None:
        return False
    worker = current_worker()
    if worker is not None and worker.loop.asyncio_loop is running:
        return True
    known = known_client()
    if known is not None:
        return known.loop.asyncio_loop is running
    return worker is None


def start(coroutine: Coroutine[Any, Any, _T]) -> concurrent.futures.Future[_T]:
    """Run a coroutine on the loop thread, on behalf of whoever calls."""
    with on_behalf_of(current_owner()):
        return submit(coroutine)


def start_now(coroutine: Coroutine[Any, Any, _T], asynchronous: bool) -> asyncio.Future[_T] | _T:
    """Run a coroutine here, or begin with it at once and return what may, but need not, be awaited."""
    if not asynchronous:
        return call(coroutine)
    return asyncio.wrap_future(start(coroutine))


@for_its_caller
async def call_async(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine on the loop thread and return its result."""
    return await asyncio.wrap_future(start(coroutine))


async def call_granting(
    function: Callable[[], Coroutine[Any, Any, _T]], check: Callable[[Any], None] | None = None
) -> tuple[Any, _T | None]:
    """Run a coroutine that makes one granting call; return what was granted, else None and the result.

    Args:
        check: what it raises for is given back instead.
    """
    hand_over = _HandOver()
    ended = asyncio.wrap_future(start(hand_over.run(function)))
    ended.add_done_callback(_look_at_exception)
    try:
        await asyncio.wait({ended, hand_over.offer}, return_when=asyncio.FIRST_COMPLETED)
        if check is not None and hand_over.offer.done():
            check(hand_over.offer.result())
    except BaseException:
        ended.cancel()
        raise
    if hand_over.offer.done():
        hand_over.take()
        return hand_over.offer.result(), None
    return None, ended.result()


@for_its_caller
async def call_undoable(
    function: Callable[[], Coroutine[Any, Any, _T]], undo: Callable[[], Coroutine[Any, Any, Any]]
) -> _T:
    """Run a coroutine on the loop thread and return its result.

    Args:
        undo: called there when the coroutine returned something true, and the caller was cancelled meanwhile.
    """
    tasks: list[asyncio.Task[Any]] = []

    async def run() -> _T:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        return await function()

    async def take_back() -> None:
        if not tasks:
            return
        await asyncio.wait(tasks)
        if not tasks[0].cancelled() and tasks[0].exception() is None and tasks[0].result():
            await undo()

    try:
        return await asyncio.wrap_future(start(run()))
    except asyncio.CancelledError:
        start(take_back())
        raise


def _look_at_exception(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()  # so that nobody is told that nobody looked at it


async def repeated(function: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Make a call again for as long as the session is lost meanwhile: what it was granted went back."""
    while True:
        try:
            return await function()
        except SessionLost:
            continue  # when the client is closed, that ends with ClientClosed


def bounded(
    timeout_s: float | None, what: str, function: Callable[[float | None], Coroutine[Any, Any, _T]]
) -> Callable[[], Coroutine[Any, Any, _T]]:
    """Return a function that makes a call, and repeats it, within one timeout that begins with the first."""
    deadlines: list[Deadline] = []

    async def attempt() -> _T:
        if not deadlines:
            deadlines.append(Deadline(timeout_s, asyncio.get_running_loop().time, what))
        return await function(deadlines[0].left_s())

    return attempt


class _HandOver:
    """One grant on its way to the event loop of its caller."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.offer: asyncio.Future[Any] = self._loop.create_future()
        self._taken: asyncio.Future[None] | None = None

    async def run(self, function: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        while True:
            try:
                with handed_over_by(self._accept):
                    return await function()
            except SessionLost:
                if self._taken is not None and self._taken.done():
                    raise  # the caller has it, and will learn of the loss when it uses it

    async def _accept(self, payload: Any) -> None:
        self._taken = asyncio.get_running_loop().create_future()
        self._loop.call_soon_threadsafe(self._set_offer, payload)
        await self._taken

    def _set_offer(self, payload: Any) -> None:
        if not self.offer.done():
            self.offer.set_result(payload)

    def take(self) -> None:
        """The caller has it; from the caller's loop."""
        assert self._taken is not None
        self._taken.get_loop().call_soon_threadsafe(self._set_taken, self._taken)

    @staticmethod
    def _set_taken(taken: asyncio.Future[None]) -> None:
        if not taken.done():
            taken.set_result(None)


def dask_client(explicit: Client | None) -> Client:
    """Return the Dask client to work with, as Dask's own objects find theirs.

    Args:
        explicit: the one that is preferred, unless it was closed or lost its scheduler.

    Raises:
        ValueError: there is none.
    """
    if is_open(explicit):
        return explicit
    from distributed import get_client

    return get_client()
