"""Calls on variables and events."""

from __future__ import annotations

from typing import Final

from raftcoord import aio
from raftcoord.testing.simulation.caller import Caller, Work, seconds
from raftcoord.testing.simulation.records import Outcome
from raftcoord.testing.simulation.scenario import Step


async def _set(caller: Caller, step: Step, value: str) -> None:
    await caller.call(step, "set", value, caller.objects.variable(step.name).set(value))


async def _set_for_a_while(caller: Caller, step: Step, value: str) -> None:
    ttl_s = step.hold_ms / 1000
    work = caller.objects.variable(step.name).set(value, ttl=ttl_s)
    await caller.call(step, "set_for_a_while", (value, ttl_s), work)


async def _set_ephemeral(caller: Caller, step: Step, value: str) -> None:
    work = caller.objects.variable(step.name).set(value, ephemeral=True)
    await caller.call(step, "set_ephemeral", value, work)


async def _get(caller: Caller, step: Step, value: str) -> None:
    variable = caller.objects.variable(step.name)
    record = await caller.call(step, "get", None, variable.get_versioned(seconds(step)))
    if record.outcome is Outcome.OK:
        caller.objects.read[step.name] = record.result


async def _compare_and_set(caller: Caller, step: Step, value: str) -> None:
    seen = caller.objects.read.get(step.name)
    expected = aio.UNSET if seen is None else seen.value
    work = caller.objects.variable(step.name).compare_and_set(expected, value)
    await caller.call(step, "compare_and_set", (expected, value), work)


async def _compare_revision_and_set(caller: Caller, step: Step, value: str) -> None:
    seen = caller.objects.read.get(step.name)
    revision = 0 if seen is None else seen.revision
    work = caller.objects.variable(step.name).compare_and_set(value=value, revision=revision)
    await caller.call(step, "compare_revision_and_set", (revision, value), work)


async def _add(caller: Caller, step: Step, value: str) -> None:
    await caller.call(step, "add", step.count, caller.objects.variable(step.name).add(step.count))


async def _update(caller: Caller, step: Step, value: str) -> None:
    def function(present: int) -> int:
        return present + step.count

    work = caller.objects.variable(step.name).update(function, seconds(step), default=0)
    await caller.call(step, "update", step.count, work)


async def _delete(caller: Caller, step: Step, value: str) -> None:
    await caller.call(step, "delete", None, caller.objects.variable(step.name).delete())


async def _watch(caller: Caller, step: Step, value: str) -> None:
    seen = caller.objects.read.get(step.name)
    revision = 0 if seen is None else seen.revision
    work = caller.objects.variable(step.name).next_change(revision, seconds(step))
    await caller.call(step, "watch", revision, work)


async def _event_set(caller: Caller, step: Step, value: str) -> None:
    await caller.call(step, "event_set", None, caller.objects.event(step.name).set())


async def _event_clear(caller: Caller, step: Step, value: str) -> None:
    await caller.call(step, "event_clear", None, caller.objects.event(step.name).clear())


async def _event_wait(caller: Caller, step: Step, value: str) -> None:
    work = caller.objects.event(step.name).wait(seconds(step))
    await caller.call(step, "event_wait", step.timeout_ms != 0, work)


async def _event_is_set(caller: Caller, step: Step, value: str) -> None:
    await caller.call(step, "event_is_set", None, caller.objects.event(step.name).is_set())


WORK: Final[dict[str, Work]] = {
    "set": _set,
    "get": _get,
    "compare_and_set": _compare_and_set,
    "compare_revision_and_set": _compare_revision_and_set,
    "add": _add,
    "delete": _delete,
    "watch": _watch,
    # Numbers that are changed by reading them.
    "update": _update,
    # Variables that are unset by themselves.
    "set_for_a_while": _set_for_a_while,
    "set_ephemeral": _set_ephemeral,
    "get_mortal": _get,
    "watch_mortal": _watch,
    "replace_mortal": _compare_revision_and_set,
    "event_set": _event_set,
    "event_clear": _event_clear,
    "event_wait": _event_wait,
    "event_is_set": _event_is_set,
}
