"""The first message of a connection: observers, new sessions, and attaching to a session.

Invariants:
  1. A session is attached only on a ready leader, and only behind the log (a new one) or a read barrier (an
     old one): a deposed leader never says that a session lives.
  2. A session has one connection; the newest wins.
  3. A session is attached only by its nonce. Its id alone is not enough: ids start again in a new cluster,
     and a client of the old one on the same address would take over the session of someone else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from raftcoord.protocol.errors import Code
from raftcoord.protocol.frames import MAGIC, PROTOCOL_VERSION
from raftcoord.protocol.operations import (
    CLIENT_NAME_BYTES_MAX,
    NONCE_BYTES,
    SEQUENCE_MAX,
    Operation,
)
from raftcoord.server.connection import Connection, ConnectionState, ProtocolViolation, shown
from raftcoord.server.requests import handle_observer_message, handle_session_message

if TYPE_CHECKING:
    from raftcoord.server.gateway import Gateway

_TTL_MS_SANE_MAX: Final = 2**40


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What a hello of kind "session" asks for."""

    session: int
    nonce: bytes
    ttl_ms: int
    name: str


def handle_hello(gateway: Gateway, connection: Connection, message: Any) -> None:
    """Decide about a new connection."""
    if type(message) is not list or len(message) < 2 or message[0] != MAGIC:
        gateway.count_rejection(connection, "hello", "the first message is no hello")
        refuse(connection, Code.MALFORMED, "the first message is no hello")
    elif connection.is_surplus:
        refuse(connection, Code.LIMIT, f"this replica serves {gateway.limits.connections_max} connections")
    elif type(message[1]) is not int or message[1] != PROTOCOL_VERSION:
        gateway.count_rejection(connection, "version", f"version {shown(message[1])}")
        refuse(connection, Code.UNSUPPORTED_VERSION, f"this replica speaks version {PROTOCOL_VERSION}")
    elif gateway.is_stopping:
        refuse(connection, Code.SHUTTING_DOWN, "this replica is shutting down")
    else:
        _handle_kind(gateway, connection, message)


def handle_early_message(gateway: Gateway, connection: Connection, message: Any) -> None:
    """A client must wait for the answer to its hello."""
    raise ProtocolViolation("early", "a request came before the hello was answered")


def refuse(connection: Connection, code: Code, payload: Any) -> None:
    """Answer a hello with a refusal and close."""
    connection.send((MAGIC, PROTOCOL_VERSION, int(code), payload))
    connection.close()


def _handle_kind(gateway: Gateway, connection: Connection, message: list[Any]) -> None:
    kind = message[2] if len(message) == 4 else None
    if kind == "observer" and not gateway.is_started:
        refuse(connection, Code.BUSY, "this replica is starting")
        return
    if kind == "observer" and type(message[3]) is dict:
        connection.become(ConnectionState.OBSERVER, handle_observer_message)
        _welcome(gateway, connection, 0, 0)
        return
    options = _parse_options(message[3]) if kind == "session" else "the kind is session or observer"
    if isinstance(options, str):
        gateway.count_rejection(connection, "hello", options)
        refuse(connection, Code.MALFORMED, options)
    elif not gateway.is_serving:
        refuse(connection, Code.NOT_LEADER, gateway.leader_hint())
    else:
        connection.state = ConnectionState.ATTACHING
        connection.handler = handle_early_message
        begin = _begin_attach if options.session else _begin_open
        if not begin(gateway, connection, options):
            refuse(connection, Code.BUSY, "too much work is waiting")


def _parse_options(options: Any) -> SessionOptions | str:
    """Return the options, or what is wrong with them."""
    if type(options) is not dict:
        return "the options are not a map"
    session, nonce = options.get("session", 0), options.get("nonce")
    ttl_ms, name = options.get("ttl_ms", 0), options.get("name", "")
    if type(session) is not int or not 0 <= session <= SEQUENCE_MAX:
        return "session is not a session id"
    if type(nonce) is not bytes or len(nonce) != NONCE_BYTES:
        return f"nonce is not {NONCE_BYTES} bytes"
    if type(ttl_ms) is not int or not 0 <= ttl_ms <= _TTL_MS_SANE_MAX:
        return "ttl_ms is not a time"
    if type(name) is not str or len(name.encode("utf-8", "replace")) > CLIENT_NAME_BYTES_MAX:
        return f"name is not a text of at most {CLIENT_NAME_BYTES_MAX} bytes"
    return SessionOptions(session, nonce, ttl_ms, name)


def _begin_open(gateway: Gateway, connection: Connection, options: SessionOptions) -> bool:
    limits = gateway.limits
    wanted_ms = options.ttl_ms or limits.session_ttl_ms_default
    ttl_ms = min(max(wanted_ms, limits.session_ttl_ms_min), limits.session_ttl_ms_max)
    command = [0, 0, 0, int(Operation.OPEN_SESSION), options.nonce, ttl_ms, options.name]
    return gateway.batcher.submit(_Opening(gateway, connection, options), command)


def _begin_attach(gateway: Gateway, connection: Connection, options: SessionOptions) -> bool:
    def attach(reader: Connection, argument: Any) -> None:
        _attach(gateway, reader, options.session, options.nonce)

    return gateway.reads.add(attach, connection, None)


class _Opening:
    """The owner of an OPEN_SESSION command: a connection whose hello is to be answered."""

    __slots__ = ("_connection", "_gateway", "_options")

    def __init__(self, gateway: Gateway, connection: Connection, options: SessionOptions) -> None:
        self._gateway = gateway
        self._connection = connection
        self._options = options

    def on_result(self, sequence: int, code: int, payload: Any) -> None:
        if self._connection.state is not ConnectionState.ATTACHING:
            return  # it went away; the session expires unless the client comes back with its nonce
        if code == Code.OK:
            _attach(self._gateway, self._connection, payload, self._options.nonce)
        else:
            refuse(self._connection, Code.LIMIT, str(payload or "the store has too many sessions"))

    def on_not_committed(self) -> None:
        self._connection.on_not_leader()


def _attach(gateway: Gateway, connection: Connection, session: int, nonce: bytes) -> None:
    if connection.state is not ConnectionState.ATTACHING:
        return
    entry = gateway.session_clock.alive(session)
    if entry is None or entry.nonce != nonce:
        refuse(connection, Code.SESSION_LOST, f"session {session} has ended")
        return
    older = entry.connection
    entry.connection = connection  # before closing the older one, which must not clear it
    if older is not None:
        older.close()
    entry.heard_at = gateway.clock.now()
    connection.entry = entry
    connection.become(ConnectionState.SESSION, handle_session_message)
    _welcome(gateway, connection, session, entry.ttl_ms)


def _welcome(gateway: Gateway, connection: Connection, session: int, ttl_ms: int) -> None:
    payload = {
        "session": session,
        "ttl_ms": ttl_ms,
        "server": gateway.server_name,
        "frame_bytes_max": gateway.limits.frame_bytes_max,
    }
    connection.send((MAGIC, PROTOCOL_VERSION, int(Code.OK), payload))
