"""Finds the leader, attaches the session there, and starts over when the connection breaks.

Invariants:
  1. At most one connection is attached at a time, always under the session that is current at that moment.
  2. Every step of finding a leader is bounded: connecting and the hello each have a limit that grows while an
     address stays silent, so that a paused replica is left soon and a busy one is waited for in the end.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import Any, Final, Protocol

from raftcoord.client.addresses import ADDRESSES_MAX, Addresses, split_address
from raftcoord.client.backoff import Backoff
from raftcoord.client.connection import Connection
from raftcoord.client.hello import HOPELESS, is_hello, say_hello
from raftcoord.client.session_state import Session
from raftcoord.protocol.errors import Code, RaftcoordError, exception_for
from raftcoord.runtime import Runtime

_log = logging.getLogger(__name__)

TRY_LIMIT_FIRST_S: Final = 0.5  # for connecting and hello together
TRY_LIMIT_LAST_S: Final = 4.0
LIFETIME_MIN_S: Final = 0.1  # a connection that ends earlier counts as a failed attempt


class LinkOwner(Protocol):
    """What the link tells its owner, always from the event loop."""

    @property
    def session(self) -> Session: ...

    def on_attached(self, connection: Connection) -> None:
        """The session is attached; the owner takes over `connection.on_message`."""

    def on_detached(self) -> None:
        """The connection that was attached is gone."""

    def on_session_lost(self, session: Session, reason: str) -> None: ...

    def on_refused(self, error: RaftcoordError) -> None:
        """Every replica refuses this client for good."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why one address did not take the session. `code` is None when it could not be reached."""

    code: int | None
    payload: Any


class Link:
    """The connection of one client, made anew as often as needed.

    Args:
        addresses: where the replicas listen for clients.
        client_name: free text that the replicas show.
    """

    def __init__(self, owner: LinkOwner, addresses: Addresses, client_name: str, runtime: Runtime) -> None:
        self._owner = owner
        self._addresses = addresses
        self._client_name = client_name
        self._runtime = runtime
        self._backoff = Backoff(runtime.rng)
        self._connection: Connection | None = None
        self._hint: str | None = None
        self._try_limits_s: dict[str, float] = {}  # only of addresses that were silent or left
        self._task: asyncio.Task[None] | None = None
        self._gone: asyncio.Event | None = None
        self.last_problem = "no attempt was made yet"
        self.server: object = None  # the name of the replica that attached a session last

    def __repr__(self) -> str:
        return f"<Link {','.join(self._addresses)} {self._connection!r} problem={self.last_problem!r}>"

    def start(self) -> None:
        """Keep a connection from now on; does nothing when already started."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="raftcoord-link")

    async def stop(self) -> None:
        """Stop, and close the connection once what was sent is written."""
        connection, task, self._task = self._connection, self._task, None
        if connection is not None:
            connection.finish()
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def leave(self, reason: str, hint: Any = None) -> None:
        """Drop the connection and look for the leader anew, at `hint` first."""
        connection = self._connection
        if connection is None:
            return
        _log.info("connection_left address=%s reason=%s hint=%s", connection.address, reason, hint)
        self.last_problem = f"{connection.address}: {reason}"
        valid = _valid_hint(hint)
        self._hint = valid if valid != connection.address else None
        connection.close()

    async def _run(self) -> None:
        while True:
            try:
                attached = await self._round()
            except Exception as error:  # a client that stopped looking would hang for good
                _log.exception("attach_failed")
                self.last_problem = f"{type(error).__name__}: {error}"
                attached = False
            if not attached:
                await asyncio.sleep(self._backoff.next_s())
                continue
            attached_at = self._runtime.clock.now()
            assert self._gone is not None
            await self._gone.wait()
            if self._runtime.clock.now() - attached_at > LIFETIME_MIN_S:
                self._backoff.reset()
            else:  # a replica that throws this client out each time is not asked without a pause
                await asyncio.sleep(self._backoff.next_s())

    async def _round(self) -> bool:
        """Try every address once, and whom they name as leader; tell whether the session is attached."""
        queue = deque(self._order())
        hints_left = len(queue) + 1  # replicas that name each other must not keep us going round
        refusals: list[_Refusal] = []
        while queue:
            address = queue.popleft()
            session = self._owner.session
            refusal = await self._try(address, session)
            if refusal is None:
                return True
            refusals.append(refusal)
            self.last_problem = f"{address}: {_describe(refusal)}"
            if refusal.code == Code.SESSION_LOST:
                self._owner.on_session_lost(session, "the replicas do not know the session any more")
                queue.appendleft(address)  # it leads: open the new session right there
            hint = _valid_hint(refusal.payload) if refusal.code == Code.NOT_LEADER else None
            if hint is not None and hint != address and hints_left:
                hints_left -= 1
                if hint in queue:
                    queue.remove(hint)
                queue.appendleft(hint)
        if all(refusal.code in HOPELESS for refusal in refusals):
            last = refusals[-1]
            assert last.code is not None
            self._owner.on_refused(exception_for(last.code, f"{self.last_problem}"))
        return False

    def _order(self) -> list[str]:
        """Return the addresses in the order to try: the hint, then at random, the doubtful ones last."""
        rng = self._runtime.rng
        order = sorted(
            self._addresses,
            key=lambda address: (
                address != self._hint,
                self._try_limits_s.get(address, 0.0),
                rng.random(),
            ),
        )
        if self._hint is not None and self._hint not in order:
            order.insert(0, self._hint)
        self._hint = None
        return order

    async def _try(self, address: str, session: Session) -> _Refusal | None:
        """Attach the session at one address; return None when that worked."""
        limit_s = self._try_limits_s.get(address, TRY_LIMIT_FIRST_S)
        try:
            connection, message, sent_at = await say_hello(
                self._runtime, address, "session", self._options(session), limit_s
            )
        except TimeoutError:
            if len(self._try_limits_s) >= ADDRESSES_MAX:  # hints may name any address
                self._try_limits_s.clear()
            self._try_limits_s[address] = min(TRY_LIMIT_LAST_S, limit_s * 2)
            return _Refusal(None, f"silent for {limit_s} s")
        except (OSError, ValueError) as error:
            self._try_limits_s.pop(address, None)
            return _Refusal(None, str(error) or type(error).__name__)
        attached = False
        try:
            self._try_limits_s.pop(address, None)
            refusal = self._judge(message, session, connection, sent_at)
            attached = refusal is None
            return refusal
        finally:
            if not attached:
                connection.close()

    def _options(self, session: Session) -> dict[str, Any]:
        return {
            "session": session.id,
            "nonce": session.nonce,
            "ttl_ms": round(session.ttl_s * 1000),
            "name": self._client_name,
        }

    def _judge(
        self, message: Any, session: Session, connection: Connection, sent_at: float
    ) -> _Refusal | None:
        """Read the answer to a hello and take the connection over when it is a welcome."""
        if message is None:
            return _Refusal(None, "closed the connection during the hello")
        if not is_hello(message):
            return _Refusal(None, "answered with something that is no raftcoord hello")
        _, _, code, payload = message
        if code != Code.OK:
            return _Refusal(code if isinstance(code, int) else None, payload)
        if session is not self._owner.session:
            return _Refusal(None, "the session expired meanwhile")
        if not connection.is_open:
            return _Refusal(None, "closed the connection after its hello")
        try:
            self.server = payload["server"]
            granted_id, ttl_s = int(payload["session"]), int(payload["ttl_ms"]) / 1000
            connection.frame_bytes_max = int(payload["frame_bytes_max"])
        except (TypeError, KeyError, ValueError, OverflowError):
            return _Refusal(None, "answered the hello with a malformed welcome")
        if granted_id <= 0 or ttl_s <= 0 or session.id not in (0, granted_id):
            return _Refusal(None, "answered the hello for another session")
        session.id, session.ttl_s = granted_id, ttl_s
        session.renew(sent_at, self._runtime.clock.now())
        self._take_over(connection, session)
        return None

    def _take_over(self, connection: Connection, session: Session) -> None:
        self._connection = connection
        self._gone = asyncio.Event()
        connection.on_closed = self._on_closed
        _log.info("connection_attached address=%s session=%d", connection.address, session.id)
        self._owner.on_attached(connection)

    def _on_closed(self) -> None:
        assert self._connection is not None
        assert self._gone is not None
        _log.info("connection_lost address=%s", self._connection.address)
        self._try_limits_s.setdefault(self._connection.address, TRY_LIMIT_FIRST_S)  # the others first
        self._connection = None
        self._gone.set()
        self._owner.on_detached()


def _describe(refusal: _Refusal) -> str:
    if refusal.code is None:
        return str(refusal.payload)
    try:
        name = Code(refusal.code).name
    except ValueError:
        name = f"status {refusal.code}"
    return f"{name} {refusal.payload!r:.200}"


def _valid_hint(hint: Any) -> str | None:
    """Return the address that a replica named as the leader's, if it is one."""
    if not isinstance(hint, str):
        return None
    try:
        split_address(hint)
    except ValueError:
        return None
    return hint
