"""Commands of any shape: always a result, never an exception, and the same on every replica."""

from __future__ import annotations

from typing import Any

import msgpack
from hypothesis import given, settings
from hypothesis import strategies as st
from machine_actions import TTL_MS

from raftcoord.machine import Machine, MachineError
from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import OPERATIONS, SEQUENCE_MAX, Check, Operation

CODES = {int(code) for code in Code}

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=20),
    st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=5)),
)
junk = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(st.one_of(st.text(max_size=3), st.integers(0, 9)), inner)
    ),
    max_leaves=6,
)
small = st.integers(0, 6)
names = st.sampled_from([b"a", b"b"])
likely = st.one_of(
    small,
    names,
    st.booleans(),
    st.lists(names, max_size=3),
    st.lists(small, max_size=2),
    st.just(b"n" * 16),
    junk,
)
POOL: list[Any] = [0, 1, 2, 3, 5, True, False, b"a", b"b", b"n" * 16, "c", TTL_MS, [], [1], [2, 3], [b"a"]]
POOL += [[b"a", b"b"], [b"b", b"c", b"a"], [0, b""], [1, b"a"], [2, b"b"], [3, 100, 5], [1, 1, 0]]


def good_values(check: Check) -> list[Any]:
    """Return what of the pool an argument may be."""
    return [value for value in POOL if check(value)]


operations = st.sampled_from([int(operation) for operation in OPERATIONS])
commands = st.one_of(
    junk,
    st.tuples(small, st.one_of(small, junk), st.one_of(small, st.lists(small), junk), operations).flatmap(
        lambda head: st.lists(likely, max_size=5).map(lambda arguments: [*head, *arguments])
    ),
    # The right number of arguments: most of these pass the checks.
    st.tuples(small, small, small, operations).flatmap(
        lambda head: st.tuples(
            *(
                st.one_of(*[st.sampled_from(good_values(check))] * 8, likely)
                for check in OPERATIONS[head[3]].argument_checks
            )
        ).map(lambda arguments: [*head, *arguments])
    ),
)
openings = [[0, 0, 0, int(Operation.OPEN_SESSION), bytes([nonce]) * 16, TTL_MS, "c"] for nonce in range(3)]


@settings(max_examples=150, deadline=None, print_blob=True)
@given(batches=st.lists(st.lists(commands, max_size=8), max_size=8))
def test_any_commands_have_results_and_keep_replicas_identical(batches: list[list[Any]]) -> None:
    one, other = Machine(), Machine()
    for now_ms, batch in enumerate([openings, *batches]):
        payload = msgpack.packb([now_ms, batch])
        applied = one.apply_entry(payload)
        assert len(applied.results) == len(batch)
        assert {code for code, _ in applied.results} <= CODES
        again = other.apply_entry(payload)
        assert repr(again) == repr(applied)  # not ==: a NaN in a message of junk would differ from itself
        msgpack.packb([applied.results, applied.completed])  # what a client gets can be sent
        one.counts()
    data = b"".join(one.begin_snapshot())
    assert data == b"".join(other.begin_snapshot())
    other.restore([data])
    assert data == b"".join(other.begin_snapshot())
    assert other.next_deadline_ms() == one.next_deadline_ms()


def test_there_are_good_values_for_every_argument_of_every_operation() -> None:
    for spec in OPERATIONS.values():
        for name, check in zip(spec.argument_names, spec.argument_checks, strict=True):
            assert good_values(check), f"{spec.operation.name} {name}: nothing in POOL passes"


@settings(max_examples=200, deadline=None, print_blob=True)
@given(payload=st.one_of(st.binary(max_size=200), junk.map(msgpack.packb)))
def test_an_entry_of_any_bytes_is_a_batch_or_a_machine_error(payload: bytes) -> None:
    machine = Machine()
    try:
        machine.apply_entry(payload)
    except MachineError:
        assert machine.counts()["sessions"] == 0


@settings(max_examples=200, deadline=None, print_blob=True)
@given(acked=st.one_of(junk, st.lists(st.integers(-1, SEQUENCE_MAX + 1))))
def test_any_confirmation_is_taken_in_or_malformed(acked: Any) -> None:
    machine = Machine()
    machine.apply(0, openings)
    machine.apply(0, [[1, 1, 0, int(Operation.VARIABLE_GET), b"a", True]])
    ((code, _),) = machine.apply(0, [[1, 2, acked, int(Operation.CONFIRM)]]).results
    assert code in (Code.OK, Code.MALFORMED, Code.STALE)
    assert machine.counts()["waiters"] == 1
