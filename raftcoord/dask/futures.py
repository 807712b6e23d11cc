"""Dask Futures as values: who keeps their results alive, and how a reader gets at them.

The key travels through the store. The result is kept alive by a variable of the Dask scheduler's own, with a
name that nobody else knows (`Record.holder`). So it needs nothing on the scheduler but Dask itself, and does
not depend on the client that made it.

Invariants:
  1. The result is held on the scheduler before its record is in the store, and let go of after it is not.
  2. A reader never waits for a result that the scheduler does not know.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Final, TypeVar

from distributed import Client, Future

from raftcoord.dask import bridge
from raftcoord.dask.records import Record
from raftcoord.protocol.errors import Indeterminate

_log = logging.getLogger(__name__)

SCHEDULER_LIMIT_S: Final = 10.0  # for one answer of the Dask scheduler
_LOST: Final = "the Dask scheduler does not have it any more"

_T = TypeVar("_T")


def client_for_future(explicit: Client | None, what: str) -> Client:
    """Return the Dask client to make a Future with. Raises RuntimeError: there is none."""
    try:
        return bridge.dask_client(explicit)
    except ValueError:
        raise RuntimeError(
            f"{what} holds a Future, and there is no Dask client here to get it with"
        ) from None


@contextlib.asynccontextmanager
async def held(
    client: Client, future: Future, timeout_s: float | None
) -> AsyncIterator[tuple[Record, float | None]]:
    """Have the scheduler hold a result for a record that is put into the store in this block.

    Yields the record and the seconds that are left. When the block fails it is let go of again, unless the
    record may be in the store after all.

    Raises:
        TimeoutError: the scheduler does not know the Future, or does not answer.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    record = Record(future.key, _new_holder())
    limit_s = SCHEDULER_LIMIT_S if timeout_s is None else min(timeout_s, SCHEDULER_LIMIT_S)
    try:
        async with asyncio.timeout(limit_s + 1):
            await client.scheduler.variable_set(key=record.key, name=record.holder, timeout=limit_s)
        yield record, None if timeout_s is None else max(0.001, timeout_s - (loop.time() - began))
    except Indeterminate:
        raise
    except BaseException:
        let_go(client, record)
        raise


def _new_holder() -> str:
    return f"raftcoord-future-{uuid.uuid4().hex}"


async def receive(client: Client, record: Record) -> Future | None:
    """Return the live Future of a record, or None when the scheduler does not know its key any more.

    The reader has the scheduler hold the result under a name of its own until its client is known to want it.
    Dask's own `variable_get` is not used: the end of a variable waits, and with it everything else that its
    client has to say, for readers that may be dead.
    """
    own = Record(record.key, _new_holder())
    question = asyncio.gather(
        client.scheduler.variable_set(key=own.key, name=own.holder, timeout=0),
        client.scheduler.get_task_status(keys=[own.key]),
    )
    answers = await _ask(question)
    if answers is None:
        return None
    state = answers[1].get(own.key)
    future = Future(own.key, client, state="memory" if state == "memory" else None)
    client._send_to_scheduler({"op": "client-desires-keys", "keys": [own.key], "client": client.id})
    let_go(client, own)
    if state == "erred":
        await _ask(future._state.wait())  # the scheduler answers with the error
    elif state != "memory" and await _is_unknown(client, own.key):
        return None  # it was cancelled before this client could be told
    return future


async def _is_unknown(client: Client, key: Any) -> bool:
    states = await _ask(client.scheduler.get_task_status(keys=[key]))
    return states is None or states.get(key) is None


async def _ask(question: Awaitable[_T]) -> _T | None:
    """Return the scheduler's answer, or None when it has none or is not there."""
    try:
        async with asyncio.timeout(SCHEDULER_LIMIT_S):
            return await question
    except (TimeoutError, OSError) as error:
        _log.info("no_answer_about_future error=%r", error)
        return None


def lost(client: Client, record: Record) -> Future:
    """Return a cancelled Future for a result that is gone: to ask for it raises an error at once."""
    future = Future(record.key, client)
    future._state.cancel(reason="lost", msg=_LOST)
    return future


def let_go(client: Client | None, *records: Record | None) -> None:
    """Tell the scheduler that records are not in the store any more, from any thread; does not wait."""
    for record in records:
        if record is None:
            continue
        try:
            client = bridge.dask_client(client)
        except ValueError:
            _log.warning("future_still_held key=%r reason=there is no Dask client here", record.key)
            return
        client._send_to_scheduler({"op": "variable_delete", "name": record.holder})
