"""The one thread per process on which the synchronous objects run their event loop.

Invariants:
  1. There is at most one loop thread in a process; a forked child starts its own. One that nobody needs any
     more can be stopped, and no call is lost by that: a later one starts the next thread.
  2. An interrupted wait cancels its call, so that nothing is taken for a caller who is gone.
  3. Callbacks of users run on a second thread, in order, so that they may block and use the objects.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import queue
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

import uvloop

from raftcoord.client import forking
from raftcoord.client.ownership import on_behalf_of_this_thread

_log = logging.getLogger(__name__)

_T = TypeVar("_T")


class LoopStopped(Exception):
    """The loop thread ended before it took a call."""


class LoopThread:
    """An event loop on a daemon thread of its own."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        poll_set: Callable[[], int] = getattr(self._loop, "_get_backend_id")  # noqa: B009  # not in the stubs
        forking.watch(self, poll_set())
        self._thread = threading.Thread(target=self._run, name="raftcoord-loop", daemon=True)
        self._thread.start()
        self._lock = threading.Lock()
        self._submitted = 0
        self._stopped = False
        self._callbacks: queue.SimpleQueue[Callable[[], object] | None] | None = None

    def __repr__(self) -> str:
        return f"<LoopThread alive={self._thread.is_alive()}>"

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def submit(self, coroutine: Coroutine[Any, Any, _T]) -> concurrent.futures.Future[_T]:
        """Run a coroutine on the loop; from any thread.

        Raises:
            LoopStopped: it was not started, because the loop has ended.
        """
        with self._lock:
            if self._stopped:
                raise LoopStopped
            self._submitted += 1
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def call(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine on the loop and return its result; from any thread but the loop's own.

        Raises:
            LoopStopped: it was not started, because the loop has ended.
        """
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("a synchronous call on the event loop of raftcoord would wait for itself")
        with on_behalf_of_this_thread():
            future = self.submit(coroutine)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # when it was this thread that was interrupted
            raise

    def stop(self) -> bool:
        """End the loop and its threads, from outside of them, unless it has tasks; tell whether it did."""
        stopped: concurrent.futures.Future[bool] = concurrent.futures.Future()
        with self._lock:
            if self._stopped:
                return False
            self._loop.call_soon_threadsafe(self._stop_if_idle, self._submitted, stopped)
        if not stopped.result():
            return False
        self._thread.join()
        if self._callbacks is not None:
            self._callbacks.put(None)
        forking.unwatch(self)
        self._loop.close()
        return True

    def _stop_if_idle(self, submitted: int, stopped: concurrent.futures.Future[bool]) -> None:
        with self._lock:
            # What was submitted since is not a task yet.
            self._stopped = self._submitted == submitted and not asyncio.all_tasks(self._loop)
        if self._stopped:
            self._loop.stop()
        stopped.set_result(self._stopped)

    def call_back(self, function: Callable[[], object]) -> None:
        """Have a function of the user run soon, outside of the loop."""
        if self._callbacks is None:
            self._callbacks = queue.SimpleQueue()
            threading.Thread(
                target=_run_callbacks, args=(self._callbacks,), name="raftcoord-callbacks", daemon=True
            ).start()
        self._callbacks.put(function)


def _run_callbacks(callbacks: queue.SimpleQueue[Callable[[], object] | None]) -> None:
    while (function := callbacks.get()) is not None:
        try:
            function()
        except Exception:  # a user's fault must not keep later callbacks from running
            _log.exception("callback_failed function=%r", function)


class _Holder:
    """The loop thread of this process, once there is one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.thread: LoopThread | None = None


_holder: Final = _Holder()


def loop_thread() -> LoopThread:
    """Return the loop thread of this process; start it when needed."""
    thread = _holder.thread
    if thread is None:
        with _holder.lock:
            thread = _holder.thread
            if thread is None:
                thread = _holder.thread = LoopThread()
    return thread


def call(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine on this process's loop thread and return its result."""
    while True:
        try:
            return loop_thread().call(coroutine)
        except LoopStopped:
            with _holder.lock:  # until whoever stops it is done
                continue


def submit(coroutine: Coroutine[Any, Any, _T]) -> concurrent.futures.Future[_T]:
    """Run a coroutine on this process's loop thread."""
    while True:
        try:
            return loop_thread().submit(coroutine)
        except LoopStopped:
            with _holder.lock:  # until whoever stops it is done
                continue


def stop_loop_thread() -> bool:
    """End this process's loop thread unless it has something to do; tell whether there is none any more.

    A later call starts another one. Not to be called on the loop thread itself.
    """
    with _holder.lock:
        thread = _holder.thread
        if thread is None:
            return True
        if thread.stop():
            _holder.thread = None
        return _holder.thread is None


def _after_fork() -> None:
    # The thread does not exist in the child; its loop must not be torn down there (see `forking`).
    forking.leak(_holder.thread)
    _holder.thread = None
    _holder.lock = threading.Lock()


forking.call_in_child(_after_fork)
