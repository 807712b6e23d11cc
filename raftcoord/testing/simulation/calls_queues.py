"""Calls on queues: items, and claims of items."""

from __future__ import annotations

import asyncio
from typing import Final

from raftcoord import aio
from raftcoord.testing.simulation.caller import Caller, Work, seconds, took
from raftcoord.testing.simulation.objects import DEAD_LETTERS
from raftcoord.testing.simulation.scenario import Step


async def _put(caller: Caller, step: Step, value: str) -> None:
    await caller.call(step, "put", [value], caller.objects.queue(step.name).put(value, seconds(step)))


async def _put_many(caller: Caller, step: Step, value: str) -> None:
    values = [f"{value}.{number}" for number in range(step.count)]
    work = caller.objects.queue(step.name).put_many(values, seconds(step))
    await caller.call(step, "put", values, work)


async def _take(caller: Caller, step: Step, value: str) -> None:
    await caller.call(step, "take", 1, caller.objects.queue(step.name).get(seconds(step)))


async def _take_batch(caller: Caller, step: Step, value: str) -> None:
    work = caller.objects.queue(step.name).get(seconds(step), batch=step.count)
    await caller.call(step, "take_batch", step.count, work)


async def _drain(caller: Caller, step: Step, value: str) -> None:
    await caller.call(step, "drain", None, caller.objects.queue(step.name).get(batch=True))


async def _qsize(caller: Caller, step: Step, value: str) -> None:
    await caller.call(step, "qsize", None, caller.objects.queue(step.name).qsize())


async def _close_queue(caller: Caller, step: Step, value: str) -> None:
    await caller.call(step, "close_queue", None, caller.objects.queue(step.name).close())


async def _claim(caller: Caller, step: Step) -> aio.Claim | None:
    """Claim an item and work on it for a while; return the claim if there was an item."""
    claim = caller.objects.claim(step.name, seconds(step))
    record = await caller.call(step, "claim", None, _taken(claim))
    if not took(record):
        caller.objects.forget(claim)
        return None
    await asyncio.sleep(step.hold_ms / 1000)
    return claim


async def _taken(claim: aio.Claim) -> tuple[str, int]:
    await claim
    return claim.value, claim.deliveries


async def _settle(caller: Caller, step: Step, kind: str) -> None:
    claim = await _claim(caller, step)
    if claim is None:
        return
    work = claim.ack() if kind == "ack" else claim.nack()
    record = await caller.call(step, kind, claim.value, work)
    if took(record) and caller.objects.was_told_of_loss(claim):
        caller.fail("one holder", f"{record} worked after the claim was lost")
    caller.objects.forget(claim)


async def _claim_ack(caller: Caller, step: Step, value: str) -> None:
    await _settle(caller, step, "ack")


async def _claim_nack(caller: Caller, step: Step, value: str) -> None:
    await _settle(caller, step, "nack")


async def _claim_abandon(caller: Caller, step: Step, value: str) -> None:
    """Claim an item and never settle it; sometimes the process dies of it."""
    if await _claim(caller, step) is not None and step.count == 1:
        caller.host.kill()
        await asyncio.sleep(0)  # from which a killed process does not come back


async def _take_dead(caller: Caller, step: Step, value: str) -> None:
    name = DEAD_LETTERS
    await caller.call(
        Step(kind=step.kind, name=name), "drain", None, caller.objects.queue(name).get(batch=True)
    )


WORK: Final[dict[str, Work]] = {
    "put": _put,
    "put_many": _put_many,
    "take": _take,
    "take_batch": _take_batch,
    "drain": _drain,
    "qsize": _qsize,
    "close_queue": _close_queue,
    # Queues whose items are claimed as well.
    "put_work": _put,
    "put_much_work": _put_many,
    "take_work": _take,
    "claim_ack": _claim_ack,
    "claim_nack": _claim_nack,
    "claim_abandon": _claim_abandon,
    "take_dead": _take_dead,
    "close_work": _close_queue,
}
