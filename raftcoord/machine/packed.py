"""The few operations that look inside a packed value: adding numbers, and comparing two values.

Invariants:
  1. Total: any bytes give an answer, never an exception.
  2. Deterministic: nothing depends on how deep the interpreter's stack is when called.
"""

from __future__ import annotations

import math
from typing import Any, Final

from raftcoord.protocol.errors import BadRequest, Code
from raftcoord.protocol.values import DEPTH_MAX, pack_value, unpack_value

_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1
_ZERO: Final = b"\x00"


def _number(blob: bytes) -> int | float | None:
    try:
        value = unpack_value(blob)
    except BadRequest:
        return None
    return value if type(value) in (int, float) else None


def add_blobs(current: bytes | None, delta: bytes) -> bytes | Code:
    """Return the sum of two packed numbers (None counts as 0), or why there is none."""
    left, right = _number(_ZERO if current is None else current), _number(delta)
    if left is None or right is None:
        return Code.WRONG_TYPE
    total = left + right
    if type(total) is int and not _INT_MIN <= total <= _INT_MAX:
        return Code.OVERFLOW
    if total != total:
        total = math.nan  # which of the many NaNs a sum gives is up to the processor
    return pack_value(total)


def same_value(left: bytes, right: bytes) -> bool:
    """Tell whether two packed values are equal as Python values; dicts by content, whatever their order."""
    if left == right:
        return True
    try:
        return _same(unpack_value(left), unpack_value(right), 0)
    except BadRequest:
        return False


def _same(left: Any, right: Any, depth: int) -> bool:
    if depth > DEPTH_MAX:
        return False
    if type(left) is dict and type(right) is dict:
        return left.keys() == right.keys() and all(_same(left[key], right[key], depth + 1) for key in left)
    if type(left) is type(right) and type(left) in (list, tuple):
        return len(left) == len(right) and all(
            _same(one, other, depth + 1) for one, other in zip(left, right, strict=True)
        )
    return bool(left == right)
