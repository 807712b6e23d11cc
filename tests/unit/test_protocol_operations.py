"""The operation table: what each argument may be, and one-line reasons for what it may not."""

from __future__ import annotations

from typing import Any

import pytest

from raftcoord.protocol.operations import (
    BATCH_ITEMS_MAX,
    CLIENT_NAME_BYTES_MAX,
    DELIVERIES_MAX,
    LEASES_MAX,
    MULTILOCK_NAMES_MAX,
    OPERATIONS,
    QUEUE_MAXSIZE_MAX,
    SEQUENCE_MAX,
    SESSION_TTL_MS_MAX,
    SESSION_TTL_MS_MIN,
    TOPIC_BYTES_MAX,
    TOPIC_MESSAGES_MAX,
    TTL_MS_MAX,
    Operation,
    validate,
    validate_acked,
)
from raftcoord.protocol.values import NAME_BYTES_MAX, VALUE_BYTES_MAX

GOOD_AND_BAD: dict[str, tuple[list[Any], list[Any]]] = {
    "name": ([b"n", b"n" * NAME_BYTES_MAX], [b"", b"n" * (NAME_BYTES_MAX + 1), "n", None, bytearray(b"n")]),
    "value": ([b"v", b"v" * VALUE_BYTES_MAX], [b"", b"v" * (VALUE_BYTES_MAX + 1), "v", 1]),
    "delta": ([b"\x01"], [b"", 1]),
    "wait": ([True, False], [0, 1, None, "true"]),
    "condition": ([[], [0], [SEQUENCE_MAX], [b"v"]], [None, [1, 2], [-1], [True], [""], [b""], (), [None]]),
    "seen_revision": ([0, SEQUENCE_MAX], [-1, SEQUENCE_MAX + 1, True, 1.0]),
    "fence": ([1], [-1, None, False]),
    "target": ([1, SEQUENCE_MAX], [-1, "1", SEQUENCE_MAX + 1]),
    "maxsize": ([0, QUEUE_MAXSIZE_MAX], [-1, QUEUE_MAXSIZE_MAX + 1, True]),
    "count": ([-1, 1, BATCH_ITEMS_MAX], [0, -2, BATCH_ITEMS_MAX + 1, True]),
    "values": ([[b"v"], [b"v"] * BATCH_ITEMS_MAX], [[], [b"v"] * (BATCH_ITEMS_MAX + 1), [b""], ["v"], b"v"]),
    "sessions": ([[], [1, 2]], [[-1], [True], 1, None]),
    "known_sessions": ([[], [1, 2], [1] * BATCH_ITEMS_MAX], [[-1], [True], 1, [1] * (BATCH_ITEMS_MAX + 1)]),
    "limits": (
        [[0, b""], [DELIVERIES_MAX, b"dead"]],
        [[], [0], [-1, b""], [1, ""], [1, b"n" * 513], (1, b"")],
    ),
    "max_leases": ([1, LEASES_MAX], [0, LEASES_MAX + 1, True, None]),
    "names": (
        [[b"a"], [b"a", b"b"], [b"%d" % n for n in range(MULTILOCK_NAMES_MAX)]],
        [[], [b"a", b"a"], [b""], ["a"], b"a", [b"%d" % n for n in range(MULTILOCK_NAMES_MAX + 1)], [[b"a"]]],
    ),
    "lock_count": ([1], [0, -1, True, MULTILOCK_NAMES_MAX + 1]),
    "shared": ([True, False], [0, 1, None]),
    "retention": (
        [[1, 1, 0], [TOPIC_MESSAGES_MAX, TOPIC_BYTES_MAX, TTL_MS_MAX]],
        [
            [0, 1, 0],
            [1, 0, 0],
            [1, 1, -1],
            [1, 1],
            [1, 1, True],
            [TOPIC_MESSAGES_MAX + 1, 1, 0],
            [1, TOPIC_BYTES_MAX + 1, 0],
            [1, 1, TTL_MS_MAX + 1],
            None,
        ],
    ),
    "offset": ([0, SEQUENCE_MAX], [-1, SEQUENCE_MAX + 1, False]),
    "count_max": ([1, BATCH_ITEMS_MAX], [0, -1, BATCH_ITEMS_MAX + 1]),
    "value_ttl_ms": ([0, 1, TTL_MS_MAX], [-1, TTL_MS_MAX + 1, 1.0]),
    "ephemeral": ([True, False], [0, 1, None]),
    "nonce": ([b"n" * 16], [b"n" * 15, b"n" * 17, "n" * 16]),
    "ttl_ms": ([SESSION_TTL_MS_MIN, SESSION_TTL_MS_MAX], [SESSION_TTL_MS_MIN - 1, SESSION_TTL_MS_MAX + 1]),
    "client_name": (["", "ü" * (CLIENT_NAME_BYTES_MAX // 2)], ["ü" * (CLIENT_NAME_BYTES_MAX // 2 + 1), b"x"]),
}


def arguments_with(operation: int, position: int, value: Any) -> list[Any]:
    names = OPERATIONS[operation].argument_names
    return [value if i == position else GOOD_AND_BAD[name][0][0] for i, name in enumerate(names)]


PLACES = [
    pytest.param(code, position, id=f"{spec.operation.name}-{name}")
    for code, spec in OPERATIONS.items()
    for position, name in enumerate(spec.argument_names)
]


@pytest.mark.parametrize(("code", "position"), PLACES)
def test_each_argument_is_checked_in_its_place(code: int, position: int) -> None:
    spec = OPERATIONS[code]
    name = spec.argument_names[position]
    good, bad = GOOD_AND_BAD[name]
    for value in good:
        assert validate(code, arguments_with(code, position, value)) is None, repr(value)[:60]
    for value in bad:
        reason = validate(code, arguments_with(code, position, value))
        assert reason == f"{spec.operation.name}: bad argument {name!r}", repr(value)[:60]


@pytest.mark.parametrize("code", OPERATIONS)
def test_the_number_of_arguments_is_checked(code: int) -> None:
    spec = OPERATIONS[code]
    count = len(spec.argument_names)
    good = arguments_with(code, -1, None)
    assert validate(code, good) is None
    for arguments in (good[:-1] if good else [0], [*good, None]):
        reason = f"{spec.operation.name} takes {count} arguments, not {len(arguments)}"
        assert validate(code, arguments) == reason


def test_a_multilock_asks_for_no_more_than_it_names() -> None:
    acquire = int(Operation.MULTILOCK_ACQUIRE)
    assert validate(acquire, [[b"a", b"b"], 2, True]) is None
    reason = validate(acquire, [[b"a", b"b"], 3, True])
    assert reason == "MULTILOCK_ACQUIRE: count is over the number of names"


@pytest.mark.parametrize("operation", [0, 99, -1, 2**64, True, 16.0, "16", b"16", None, [16], {}])
def test_an_unknown_operation_is_named(operation: Any) -> None:
    reason = validate(operation, [])
    assert reason is not None
    assert reason.startswith("unknown operation ")
    assert len(reason) < 60


def test_deep_nesting_in_place_of_anything_has_a_short_reason() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert validate(deep, []) == "unknown operation list"
    reason = validate(int(Operation.VARIABLE_COMPARE_AND_SET), [b"n", deep, b"v"])
    assert reason == "VARIABLE_COMPARE_AND_SET: bad argument 'condition'"
    assert not validate_acked(deep)
    while deep:  # taken apart level by level, so that nothing recurses when it goes
        deep = deep.pop()


@pytest.mark.parametrize("arguments", [None, (b"n",), {}, b"n", 1])
def test_arguments_that_are_not_a_list_are_refused(arguments: Any) -> None:
    assert validate(int(Operation.VARIABLE_DELETE), arguments) == "VARIABLE_DELETE: arguments are not a list"


GOOD_ACKED: list[Any] = [0, SEQUENCE_MAX, [0], [3, 1, 2], [0] * BATCH_ITEMS_MAX]
BAD_ACKED: list[Any] = [-1, SEQUENCE_MAX + 1, True, None, 1.0, "1", [], (1,), {}]
BAD_ACKED += [[-1], [1, True], [1, None], [0] * (BATCH_ITEMS_MAX + 1), [[1]]]


@pytest.mark.parametrize("acked", GOOD_ACKED, ids=lambda value: repr(value)[:20])
def test_acked_is_a_number_or_a_list_of_numbers(acked: Any) -> None:
    assert validate_acked(acked)


@pytest.mark.parametrize("acked", BAD_ACKED, ids=lambda value: repr(value)[:20])
def test_any_other_acked_is_refused(acked: Any) -> None:
    assert not validate_acked(acked)
