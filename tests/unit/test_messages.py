"""The check of messages between replicas accepts what replicas send, and is total on everything else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftcoord.consensus import messages as m
from raftcoord.protocol.frames import FrameError

APPEND = {
    "type": m.APPEND,
    "term": 3,
    "commit_index": 1,
    "prevLogIdx": 4,
    "prevLogTerm": 2,
    "entries": [[b"\x00a", 5, 2], [b"\x01", 6, 3]],
}
BODIES: list[dict[str, Any]] = [
    APPEND,
    {"type": m.APPEND_REPLY, "next_node_idx": 1, "reset": False, "success": True},
    {"type": m.VOTE_REQUEST, "term": 1, "last_log_index": 1, "last_log_term": 0, "hand_over": False},
    {"type": m.VOTE_REPLY, "term": 1},
    {"type": m.HAND_OVER, "term": 1},
    {"type": m.PRE_VOTE, "term": 1, "last_log_index": 1, "last_log_term": 0},
    {"type": m.PRE_VOTE_REPLY, "term": 1, "granted": True},
    {"type": m.STALE},
    {
        "type": m.SNAPSHOT_CHUNK,
        "term": 1,
        "index": 5,
        "index_term": 1,
        "size_bytes": 10,
        "offset": 0,
        "data": b"x",
    },
    {"type": m.SNAPSHOT_REPLY, "index": 5, "offset": 1, "next_index": 0},
    {"type": m.PING},
]

junk = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(), inner, max_size=5),
    max_leaves=12,
)


def envelope(body: Any, **changes: Any) -> dict[str, Any]:
    return {"term": 3, "epoch": 1, "number": 9, "echo": None, "body": body, **changes}


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body["type"])
def test_what_replicas_send_is_accepted(body: dict[str, Any]) -> None:
    assert m.check(envelope(body)) is None
    assert m.check(envelope(body, echo=[3, 4])) is None
    assert m.require_valid(envelope(body))["body"] is body


@given(junk)
def test_the_check_is_total(value: Any) -> None:
    assert m.check(value) is not None
    with pytest.raises(FrameError):
        m.require_valid(value)


@given(st.sampled_from(BODIES), st.data())
def test_one_wrong_value_is_never_an_exception(body: dict[str, Any], data: st.DataObject) -> None:
    changed = envelope(dict(body))
    place = changed if data.draw(st.booleans()) else changed["body"]
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(junk)
    reason = m.check(changed)
    assert reason is None or isinstance(reason, str)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body["type"])
def test_missing_and_additional_keys_are_refused(body: dict[str, Any]) -> None:
    assert m.check(envelope({**body, "more": 1})) is not None
    for key in body:
        assert m.check(envelope({k: v for k, v in body.items() if k != key})) is not None


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([[b"\x00a", 6, 2]], "not contiguous"),
        ([[b"\x00a", 5, 2], [b"\x00b", 5, 2]], "not contiguous"),
        ([[b"", 5, 2]], "not contiguous"),
        ([["text", 5, 2]], "not contiguous"),
        ([[b"\x00a", 5.0, 2]], "not contiguous"),
        ([[b"\x00a", 5, 1]], "terms of entries fall"),
        ([[b"\x00a", 5, 3], [b"\x00b", 6, 2]], "terms of entries fall"),
        ([[b"\x00a", 5, True]], "terms of entries fall"),
        ([[b"\x00a", 5, 4]], "newer than its sender"),
        ([[b"\x00a", 5]], "not [command, index, term]"),
        ([5], "not [command, index, term]"),
        ({}, "bad entries"),
        ([None] * (m.ENTRIES_MAX + 1), "bad entries"),
    ],
)
def test_entries_that_no_leader_has_are_refused(entries: Any, reason: str) -> None:
    assert reason in str(m.check(envelope({**APPEND, "entries": entries})))


@pytest.mark.parametrize(
    "changes",
    [
        {"term": -1},
        {"term": True},
        {"epoch": 2**63},
        {"number": "9"},
        {"echo": [1]},
        {"echo": [1, -1]},
        {"echo": (1, 2)},
        {"more": 1},
        {"body": None},
        {"body": {"type": "apply_command"}},
        {"body": {"type": ["ping"]}},
    ],
    ids=str,
)
def test_a_wrong_envelope_is_refused(changes: dict[str, Any]) -> None:
    assert m.check({**envelope({"type": m.PING}), **changes}) is not None


def test_an_index_below_the_first_is_refused() -> None:
    body = {"type": m.APPEND_REPLY, "next_node_idx": 0, "reset": False, "success": True}
    assert m.check(envelope(body)) == "next index below 1"
