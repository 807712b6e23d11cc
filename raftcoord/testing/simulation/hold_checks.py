"""What callers saw of what they held: locks of all sorts, leases of semaphores.

Whoever gave something back, and was told that this worked, had it all the time from when the grant was told
until the release was called. That needs no clock but the world's, and no look inside.

Invariants of what is checked:
  1. No two of these have a lock at a time, or a name of a MultiLock; nobody has a read-write lock beside its
     writer; no more have a lease than a semaphore has.
  2. A grant that was asked for after another one was told has a larger fence, whatever the two are about.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from raftcoord.protocol.errors import Rejected
from raftcoord.testing.simulation.objects import number_in
from raftcoord.testing.simulation.records import Outcome, Record
from raftcoord.testing.simulation.violation import Violation

_RELEASE_OF: Final = {
    "acquire": "release",
    "acquire_many": "release_many",
    "acquire_read": "release_read",
    "acquire_write": "release_write",
    "acquire_lease": "release_lease",
}
_WHOLE: Final = 1_000_000  # the share of one who has something alone


class Holding(NamedTuple):
    """Something that a caller had for a while. `share` is its part of `of`."""

    what: str
    share: int
    of: int
    begin: float
    end: float
    fence: int
    client: str


def check_holds(records: list[Record]) -> None:
    """Judge all that was held. Raises Violation."""
    grants = [record for record in records if record.kind in _RELEASE_OF and _is_granted(record)]
    _check_fences(grants)
    ends = {
        (record.kind, record.name, record.argument): record
        for record in records
        if record.kind in _RELEASE_OF.values()
        and record.outcome is Outcome.OK
        and not isinstance(record.result, Rejected)
    }
    by_object: dict[str, list[Holding]] = {}
    for grant in grants:
        end = ends.get((_RELEASE_OF[grant.kind], grant.name, grant.result))
        if end is not None:
            for holding in _holdings(grant, end):
                by_object.setdefault(holding.what, []).append(holding)
    for holdings in by_object.values():
        _check_shares(holdings)


def _is_granted(record: Record) -> bool:
    return (
        record.outcome is Outcome.OK
        and bool(record.result)
        and not isinstance(record.result, bool | Rejected)
    )


def _fence(grant: Record) -> int:
    fence: int = grant.result[0] if grant.kind == "acquire_many" else grant.result
    return fence


def _check_fences(grants: list[Record]) -> None:
    events: list[tuple[float, int, Record]] = []
    for grant in grants:
        events += [(grant.call_at, 0, grant), (grant.return_at, 1, grant)]
    told = 0
    told_at_call: dict[Record, int] = {}
    for _, is_return, grant in sorted(events, key=lambda event: event[:2]):
        if not is_return:
            told_at_call[grant] = told
            continue
        if _fence(grant) <= told_at_call[grant]:
            raise Violation("fences grow", f"{grant} came after fence {told_at_call[grant]}")
        told = max(told, _fence(grant))


def _holdings(grant: Record, end: Record) -> Iterator[Holding]:
    def holding(what: str, share: int, of: int) -> Holding:
        return Holding(what, share, of, grant.return_at, end.call_at, _fence(grant), grant.client)

    if grant.kind == "acquire_many":
        fence_and_names: tuple[int, tuple[Any, ...]] = grant.result
        for name in fence_and_names[1]:
            yield holding(f"multilock {name}", 1, 1)
    elif grant.kind == "acquire_lease":
        yield holding(f"semaphore {grant.name}", 1, number_in(grant.name, "s"))
    elif grant.kind == "acquire":
        yield holding(f"lock {grant.name}", 1, 1)
    else:
        yield holding(f"rwlock {grant.name}", 1 if grant.kind == "acquire_read" else _WHOLE, _WHOLE)


def _check_shares(holdings: list[Holding]) -> None:
    held: list[Holding] = []
    for holding in sorted(holdings, key=lambda one: one.begin):
        held = [other for other in held if other.end > holding.begin]
        held.append(holding)
        if sum(one.share for one in held) > holding.of:
            raise Violation("one holder", f"{holding.what} was held by these at a time: {held}")
