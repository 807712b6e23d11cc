"""What random commands are made of: the values that each argument may take, chosen to meet each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from raftcoord.protocol.operations import OPERATIONS, Operation
from raftcoord.protocol.values import pack_value

CURRENT: Final = "current"  # stands for the revision or the fence that the object has when the step is played


@dataclass(frozen=True)
class Near:
    """Stands for an offset so far from the topic's end, when the step is played."""

    distance: int


_VALUES: Final = [
    *(pack_value(value) for value in (0, 1, 1.0, -0.5, 2**64 - 1, -(2**63), math.inf, -math.inf, True, "x")),
    pack_value({"a": [1, 2], "b": (3,)}),
    pack_value({"b": (3,), "a": [1, 2.0]}),
    b"\xcf\x00\x00\x00\x00\x00\x00\x00\x01",  # 1 in a form that no client packs
    b"\xc1",  # not msgpack
    b"\x91" * 300,  # nested too deep
]
NAMES: Final = [b"a", b"b"]
LOCK_NAMES: Final = [b"a", b"b", b"c", b"d"]
_NUMBERS: Final[list[Any]] = [CURRENT] * 30 + list(range(30))
_FENCES: Final[list[Any]] = [CURRENT] * 12 + [0, 7, 20]
_CONDITIONS: Final[list[Any]] = [[], [], *([number] for number in _NUMBERS), *([value] for value in _VALUES)]
_MAXSIZES: Final = [0, 0, 1, 3]
_ITEMS: Final = [[pack_value(100 * n + place) for place in range(n % 4 + 1)] for n in range(50)]
_COUNTS: Final = [1, 1, 1, 2, 3, -1]
_WAITS: Final = [True, True, False]
_TARGETS: Final = list(range(5))  # how far back; see `Player.command`
_TTLS_MS: Final = [0, 1, 15, 15, 100]
_LIMITS: Final[list[Any]] = [[0, b""], [1, b""], [1, b"b"], [2, b"b"], [2, b"a"], [3, b""]]
_MAX_LEASES: Final = [2, 2, 2, 2, 2, 1]
_LOCK_LISTS: Final = [
    *([name] for name in LOCK_NAMES),
    [b"a", b"b"],
    [b"b", b"a"],
    [b"c", b"a"],
    [b"d", b"b"],
    [b"a", b"b", b"c"],
    [b"c", b"b", b"d"],
    [b"d", b"c", b"b", b"a"],
]
_RETENTIONS: Final = [[4, 1000, 0], [100, 12, 0], [100, 1000, 25], [3, 1000, 60], [100, 1, 60]]
_OFFSETS: Final[list[Any]] = [0, 0, 3, *map(Near, (-9, -4, -2, -1, 0, 0, 0, 0, 1, 3))]

ARGUMENTS: Final[dict[Operation, tuple[list[Any], ...]]] = {
    Operation.CONFIRM: (),
    Operation.CANCEL: (_TARGETS,),
    Operation.RETURN: (_TARGETS,),
    Operation.CLOSE_SESSION: (),
    Operation.SESSION_NAMES: ([[1, 2], []],),
    Operation.VARIABLE_SET: (NAMES, _VALUES),
    Operation.VARIABLE_GET: (NAMES, _WAITS),
    Operation.VARIABLE_COMPARE_AND_SET: (NAMES, _CONDITIONS, _VALUES),
    Operation.VARIABLE_ADD: (NAMES, _VALUES),
    Operation.VARIABLE_DELETE: (NAMES,),
    Operation.VARIABLE_WATCH: (NAMES, _NUMBERS, _WAITS),
    Operation.VARIABLE_SET_WITH: (NAMES, _VALUES, _TTLS_MS, [True, False]),
    Operation.QUEUE_PUT: (NAMES, _MAXSIZES, _ITEMS, _WAITS),
    Operation.QUEUE_GET: (NAMES, _MAXSIZES, _COUNTS, _WAITS),
    Operation.QUEUE_SIZE: (NAMES,),
    Operation.QUEUE_CLOSE: (NAMES,),
    Operation.QUEUE_CLAIM: (NAMES, _MAXSIZES, _LIMITS, _WAITS),
    Operation.QUEUE_ACK: (NAMES, _FENCES),
    Operation.QUEUE_NACK: (NAMES, _FENCES),
    Operation.LOCK_ACQUIRE: (NAMES, _WAITS),
    Operation.LOCK_RELEASE: (NAMES, _FENCES),
    Operation.LOCK_WAITERS: (NAMES,),
    Operation.EVENT_SET: (NAMES,),
    Operation.EVENT_CLEAR: (NAMES,),
    Operation.EVENT_WAIT: (NAMES, _WAITS),
    Operation.EVENT_IS_SET: (NAMES,),
    Operation.SEMAPHORE_ACQUIRE: (NAMES, _MAX_LEASES, _WAITS),
    Operation.SEMAPHORE_RELEASE: (NAMES, _FENCES),
    Operation.SEMAPHORE_STATUS: (NAMES,),
    Operation.SEMAPHORE_CLOSE: (NAMES,),
    Operation.MULTILOCK_ACQUIRE: (_LOCK_LISTS, [1, 2, 2, 3, 4], _WAITS),
    Operation.MULTILOCK_RELEASE: (_FENCES,),
    Operation.MULTILOCK_STATUS: (LOCK_NAMES,),
    Operation.RWLOCK_ACQUIRE: (NAMES, [True, True, False], _WAITS),
    Operation.RWLOCK_RELEASE: (NAMES, _FENCES),
    Operation.RWLOCK_STATUS: (NAMES,),
    Operation.TOPIC_PUBLISH: (NAMES, _RETENTIONS, _ITEMS),
    Operation.TOPIC_READ: (NAMES, _OFFSETS, [1, 2, 100], _WAITS),
    Operation.TOPIC_STATUS: (NAMES,),
    Operation.TOPIC_DELETE: (NAMES,),
}
# More often what makes the interesting states, less often what clears them away.
_WEIGHTS: Final = {
    Operation.CLOSE_SESSION: 1,
    Operation.SESSION_NAMES: 1,
    Operation.CONFIRM: 6,
    Operation.CANCEL: 6,
    Operation.RETURN: 4,
    Operation.QUEUE_PUT: 8,
    Operation.QUEUE_GET: 6,
    Operation.QUEUE_CLAIM: 10,
    Operation.QUEUE_ACK: 4,
    Operation.QUEUE_NACK: 6,
    Operation.LOCK_ACQUIRE: 8,
    Operation.LOCK_RELEASE: 6,
    Operation.EVENT_WAIT: 8,
    Operation.SEMAPHORE_ACQUIRE: 24,
    Operation.SEMAPHORE_RELEASE: 12,
    Operation.MULTILOCK_ACQUIRE: 20,
    Operation.MULTILOCK_RELEASE: 10,
    Operation.RWLOCK_ACQUIRE: 20,
    Operation.RWLOCK_RELEASE: 12,
    Operation.TOPIC_PUBLISH: 10,
    Operation.TOPIC_READ: 10,
    Operation.VARIABLE_SET_WITH: 6,
    Operation.VARIABLE_WATCH: 8,
}

# A run uses the objects of one focus, so that a short one meets the states that matter.
Focus = tuple[str, ...]
FOCUSES: Final[list[Focus]] = [
    ("VARIABLE", "QUEUE", "LOCK"),
    ("QUEUE",),
    ("SEMAPHORE", "EVENT"),
    ("MULTILOCK",),
    ("RWLOCK",),
    ("TOPIC", "VARIABLE"),
    ("VARIABLE", "QUEUE", "LOCK", "EVENT", "SEMAPHORE", "MULTILOCK", "RWLOCK", "TOPIC"),
]
_OF_SESSIONS: Final = ("CONFIRM", "CANCEL", "RETURN", "CLOSE", "SESSION")


def choices_of(focus: Focus) -> list[Operation]:
    """Return the operations of these kinds and of sessions, each as often as it is to be chosen."""
    return [
        operation
        for operation in ARGUMENTS
        for _ in range(_WEIGHTS.get(operation, 2))
        if operation.name.split("_")[0] in focus + _OF_SESSIONS
    ]


def without_arguments() -> set[Operation]:
    """Return the operations of sessions that no random command uses."""
    return {spec.operation for spec in OPERATIONS.values()} - set(ARGUMENTS)
