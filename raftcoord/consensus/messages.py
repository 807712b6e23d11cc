"""Messages between replicas: their shape on the wire and its check.

A message is a msgpack map `{term, epoch, number, echo, body}`:
  term    the sender's current term
  epoch   the sender's number for this connection, told in its hello
  number  counts the append requests of this sender since it started; the newest one sent so far
  echo    [term, number] of the append that a reply answers, else None
  body    a map with a `type` and the keys that `_SCHEMAS` lists for it, no others

Invariants:
  1. What `decode` returns has exactly the keys and types of its schema; anything else raises `FrameError`.
  2. The entries of an append are contiguous after `prevLogIdx`, and their terms never fall.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from raftcoord.protocol.frames import FrameError

ENTRIES_MAX: Final = 100_000
INDEX_MAX: Final = 2**62

# Names that the core uses on the wire; the rest are ours.
APPEND: Final = "append_entries"
APPEND_REPLY: Final = "next_node_idx"
VOTE_REQUEST: Final = "request_vote"
VOTE_REPLY: Final = "response_vote"
HAND_OVER: Final = "timeout_now"
PRE_VOTE: Final = "pre_vote"
PRE_VOTE_REPLY: Final = "pre_vote_reply"
STALE: Final = "stale"
SNAPSHOT_CHUNK: Final = "snapshot_chunk"
SNAPSHOT_REPLY: Final = "snapshot_reply"
PING: Final = "ping"

Body = dict[str, Any]
Envelope = dict[str, Any]


def _index(value: Any) -> bool:
    return type(value) is int and 0 <= value <= INDEX_MAX


def _bool(value: Any) -> bool:
    return type(value) is bool


def _bytes(value: Any) -> bool:
    return type(value) is bytes


def _entries(value: Any) -> bool:
    return type(value) is list and len(value) <= ENTRIES_MAX


_SCHEMAS: Final[dict[str, dict[str, Callable[[Any], bool]]]] = {
    APPEND: {
        "term": _index,
        "commit_index": _index,
        "prevLogIdx": _index,
        "prevLogTerm": _index,
        "entries": _entries,
    },
    APPEND_REPLY: {"next_node_idx": _index, "reset": _bool, "success": _bool},
    VOTE_REQUEST: {"term": _index, "last_log_index": _index, "last_log_term": _index, "hand_over": _bool},
    VOTE_REPLY: {"term": _index},
    HAND_OVER: {"term": _index},
    PRE_VOTE: {"term": _index, "last_log_index": _index, "last_log_term": _index},
    PRE_VOTE_REPLY: {"term": _index, "granted": _bool},
    STALE: {},
    SNAPSHOT_CHUNK: {
        "term": _index,
        "index": _index,
        "index_term": _index,
        "size_bytes": _index,
        "offset": _index,
        "data": _bytes,
    },
    SNAPSHOT_REPLY: {"index": _index, "offset": _index, "next_index": _index},
    PING: {},
}


def _check_entries(body: Body) -> str | None:
    expected, term = body["prevLogIdx"], body["prevLogTerm"]
    for entry in body["entries"]:
        expected += 1
        if type(entry) is not list or len(entry) != 3:
            return "an entry is not [command, index, term]"
        command, index, entry_term = entry
        if type(command) is not bytes or not command or index != expected or type(index) is not int:
            return "entries are not contiguous"
        if type(entry_term) is not int or entry_term < term:
            return "terms of entries fall"
        term = entry_term
    return "an entry is newer than its sender" if term > body["term"] else None


def check(envelope: Any) -> str | None:
    """Return None when a decoded message is well formed, else what is wrong with it."""
    if type(envelope) is not dict or envelope.keys() != {"term", "epoch", "number", "echo", "body"}:
        return "not an envelope"
    if not (_index(envelope["term"]) and _index(envelope["epoch"]) and _index(envelope["number"])):
        return "bad term, epoch or number"
    echo = envelope["echo"]
    if echo is not None and not (type(echo) is list and len(echo) == 2 and all(map(_index, echo))):
        return "bad echo"
    body = envelope["body"]
    if type(body) is not dict or type(body.get("type")) is not str:
        return "no body"
    schema = _SCHEMAS.get(body["type"])
    if schema is None:
        return f"unknown type {body['type']!r:.40}"
    if len(body) != len(schema) + 1:
        return f"{body['type']}: wrong keys"
    for key, is_valid in schema.items():
        if key not in body or not is_valid(body[key]):
            return f"{body['type']}: bad {key}"
    if body["type"] == APPEND:
        return _check_entries(body)
    if body["type"] == APPEND_REPLY and body["next_node_idx"] < 1:
        return "next index below 1"
    return None


def require_valid(envelope: Any) -> Envelope:
    """Return `envelope` as it is when it is well formed.

    Raises:
        FrameError: it is not.
    """
    reason = check(envelope)
    if reason is not None:
        raise FrameError(reason)
    checked: Envelope = envelope
    return checked
