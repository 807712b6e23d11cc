"""Broken variants of the client: repeating, confirming, giving back, and believing in its session."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from broken.registry import patched, variant
from raftcoord.client import exchange
from raftcoord.client.calls import Undo
from raftcoord.client.exchange import Exchange
from raftcoord.client.leases import Holdings
from raftcoord.client.session_state import Session, SessionState
from raftcoord.protocol.errors import CallTimeout

# Repeating and confirming.


@variant
def repeated_under_new_sequence() -> Iterator[None]:
    """On a new connection a request is repeated as if it were another one."""
    repeatable = SessionState.repeatable

    def broken(state: Any) -> Any:
        for call in repeatable(state):
            if state.blocking.pop(call.sequence, None) is not None:
                state.assign(call)
        return repeatable(state)

    with patched(SessionState, repeatable=broken):
        yield


@variant
def not_repeated_on_new_connection() -> Iterator[None]:
    """What was sent and not answered is not repeated on a new connection."""
    with patched(SessionState, repeatable=lambda state: []):
        yield


@variant
def floor_raised_early() -> Iterator[None]:
    """The client confirms everything that it has sent, answered or not."""
    with patched(SessionState, floor=property(lambda state: state.last_sequence)):
        yield


@variant
def items_confirmed_before_taken() -> Iterator[None]:
    """Items are confirmed when they arrive, and not when their caller has them."""
    deliver = Exchange._deliver

    def broken(self: Any, call: Any, code: int, payload: Any) -> None:
        deliver(self, call, code, payload)
        if call.held:
            call.held = False
            self._state.settle(call, took=True)
            self._confirm_soon()

    with patched(Exchange, _deliver=broken):
        yield


# Giving back.


@variant
def items_of_cancelled_get_kept() -> Iterator[None]:
    """Items that were handed to a caller who gave up are not returned."""
    undo = Exchange._undo

    def broken(self: Any, call: Any, payload: Any) -> None:
        if call.traits.undo is Undo.RETURN:
            self._state.settle(call)
        else:
            undo(self, call, payload)

    with patched(Exchange, _undo=broken):
        yield


@variant
def lock_of_cancelled_acquire_kept() -> Iterator[None]:
    """A lock that was granted to a caller who gave up is not released."""
    undo = Exchange._undo

    def broken(self: Any, call: Any, payload: Any) -> None:
        if call.traits.undo is Undo.RELEASE:
            self._state.settle(call)
        else:
            undo(self, call, payload)

    with patched(Exchange, _undo=broken):
        yield


@variant
def taken_items_returned() -> Iterator[None]:
    """Items go back to the queue although their caller has them."""
    take = Exchange._take

    def broken(self: Any, call: Any) -> None:
        if call.traits.undo is Undo.RETURN:
            call.held = False
            self._undo(call, None)
        else:
            take(self, call)

    with patched(Exchange, _take=broken):
        yield


@variant
def released_under_wrong_fence() -> Iterator[None]:
    """A lock is released under the fence of an earlier grant."""
    take = Holdings.take

    def broken(holdings: Any, hold: Any = None) -> Any:
        taken = take(holdings, hold)
        return dataclasses.replace(taken, fence=taken.fence - 1)

    with patched(Holdings, take=broken):
        yield


@variant
def unknown_told_as_not_done() -> Iterator[None]:
    """A call that was sent and not answered in time is told to have had no effect."""
    with patched(exchange, OutcomeUnknown=CallTimeout):
        yield


# Its session.


@variant
def ttl_counted_from_answer() -> Iterator[None]:
    """The client counts its time to live from the answer to a keep-alive, and not from its request."""
    renew = Session.renew
    with patched(Session, renew=lambda session, sent_at, now: renew(session, now, now)):
        yield


@variant
def session_believed_beyond_ttl() -> Iterator[None]:
    """The client believes in its session for longer than its time to live."""
    renew = Session.renew

    def broken(session: Any, sent_at: float, now: float) -> None:
        renew(session, sent_at + session.ttl_s, now)

    with patched(Session, renew=broken):
        yield


@variant
def session_believed_until_told() -> Iterator[None]:
    """The client believes in its session until a timer or a replica says otherwise."""
    with patched(Session, is_alive=lambda session, now: session.id != 0 and not session.lost):
        yield
