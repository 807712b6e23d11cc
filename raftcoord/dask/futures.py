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
from collections.abc import AsyncIterator
from typing import Any, Final

from distributed import Client, Future

from raftcoord.dask import bridge
from raftcoord.dask.records import Record
from raftcoord.protocol.errors import Indeterminate

_log = logging.getLogger(__name__)

SCHEDULER_LIMIT_S: Final = 10.0  # for one answer of the Dask scheduler
_AT_ONCE: Final = -1  # as a timeout of Dask's variable_get: 0 would wait for a moment

_LOST: Final = "the Dask scheduler does not have it any more"


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
    record = Record(future.key, f"raftcoord-future-{uuid.uuid4().hex}")
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


async def receive(client: Client, record: Record) -> Future | None:
    """Return the live Future of a record, or None when the scheduler holds nothing for it any more."""
    answer = await _ask(client.scheduler.variable_get(timeout=_AT_ONCE, name=record.holder, client=client.id))
    if answer is None:
        return await _known_anyway(client, record)
    future = _future(client, record, answer["state"], answer)
    client._send_to_scheduler(
        {
            "op": "variable-future-received-confirm",
            "name": record.holder,
            "key": record.key,
            "token": answer["token"],
        }
    )
    return lost(client, record) if answer["state"] == "lost" else future


async def _known_anyway(client: Client, record: Record) -> Future | None:
    """Return the Future if somebody else keeps its result on the scheduler."""
    states = await _ask(client.scheduler.get_task_status(keys=[record.key]))
    if states is None or states.get(record.key) in (None, "forgotten", "released", "erred"):
        return None
    client._send_to_scheduler({"op": "client-desires-keys", "keys": [record.key], "client": client.id})
    return _future(client, record, states[record.key], {})


async def _ask(question: Any) -> Any:
    """Return the scheduler's answer, or None when it has none or is not there."""
    try:
        async with asyncio.timeout(SCHEDULER_LIMIT_S):
            return await question
    except (TimeoutError, OSError) as error:
        _log.info("no_answer_about_future error=%r", error)
        return None


def _future(client: Client, record: Record, state: str, answer: dict[str, Any]) -> Future:
    future = Future(record.key, client, state=state)
    if state == "erred":
        future._state.set_error(answer["exception"], answer["traceback"])
    return future


def lost(client: Client, record: Record) -> Future:
    """Return a cancelled Future for a result that is gone: to ask for it raises an error at once."""
    future = Future(record.key, client)
    future._state.cancel(reason="lost", msg=_LOST)
    return future


def let_go(client: Client | None, record: Record | None) -> None:
    """Tell the scheduler that a record is not in the store any more, from any thread; does not wait."""
    if record is None:
        return
    try:
        client = bridge.dask_client(client)
    except ValueError:
        _log.warning("future_still_held key=%r reason=there is no Dask client here", record.key)
        return
    client._send_to_scheduler({"op": "variable_delete", "name": record.holder})
