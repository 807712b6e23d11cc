"""Names and values as Dask takes them, in the form in which the store does. Pure.

Invariants:
  1. Names that Dask takes for the same (1, 1.0 and True; a list and a tuple) are the same here, others not.
  2. What the store cannot carry is refused here, before anything happens.
"""

from __future__ import annotations

import functools
import uuid
from datetime import timedelta
from numbers import Number
from typing import Any, Final

from dask.utils import parse_timedelta

from raftcoord.client.timeouts import Timeout, parse_timeout
from raftcoord.protocol.values import DEPTH_MAX, Name, pack_name

_TAG: Final = "\0raftcoord.dask"  # begins the parts of a name that the store has no type for
_EXACT: Final = frozenset({type(None), bool, int, float, str, bytes})


def store_name(name: Any, prefix: str) -> tuple[Any, Name]:
    """Return a name as the user knows it, and as the store does. None and what is empty make a random one.

    Raises:
        TypeError, ValueError: the store cannot carry it.
    """
    if name is None or (isinstance(name, str | bytes | tuple | list) and not name):
        name = f"{prefix}-{uuid.uuid4().hex}"
    kept = _part(name, 0)
    pack_name(kept)
    return name, kept


def _part(name: Any, depth: int) -> Any:
    if isinstance(name, str | bytes | tuple | list) and not name:
        return (_TAG, type(name).__name__)
    if isinstance(name, str):
        return str(name)
    if isinstance(name, bytes):
        return bytes(name)
    if isinstance(name, int):  # True is 1, as it is for a dict
        return int(name)
    if isinstance(name, float):
        return int(name) if name.is_integer() else (_TAG, "float", repr(float(name)))
    if isinstance(name, tuple | list) and depth < DEPTH_MAX:
        return tuple(_part(part, depth + 1) for part in name)
    if name is None:
        return (_TAG, "none")
    raise TypeError(f"a name is a str, number, bytes or tuple of these, not {type(name).__qualname__}")


def plain(value: Any, depth: int = 0) -> Any:
    """Return a value with what derives from a plain type made one of it, as msgpack does.

    What is not plain at all is left as it is, for the store to refuse.
    """
    kind = type(value)
    if kind in _EXACT or depth > DEPTH_MAX:
        return value
    if kind is bytearray or kind is memoryview:
        return bytes(value)
    if isinstance(value, list):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, tuple):
        return tuple(plain(item, depth + 1) for item in value)
    if isinstance(value, dict):
        return {plain(key, depth + 1): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, bytes):
        return bytes(value)
    for base in (str, int, float):
        if isinstance(value, base):
            return base(value)
    return value


def seconds(timeout: Timeout) -> float | None:
    """Return a timeout in seconds, None for none. Takes what Dask takes: numbers, "200ms", timedelta.

    Raises:
        TypeError, ValueError, KeyError: it is none, or has an unknown unit.
    """
    kind = type(timeout)
    if timeout is None or kind is float or kind is int:
        return parse_timeout(timeout)
    if isinstance(timeout, str):
        return _seconds_of_text(timeout)
    # Dask takes other numbers too, as those of numpy. What is none of all that is refused.
    return parse_timeout(parse_timedelta(timeout) if isinstance(timeout, timedelta | Number) else timeout)


@functools.lru_cache(maxsize=256)  # mostly the same few, one of them a default
def _seconds_of_text(text: str) -> float | None:
    if not text.strip():
        raise ValueError(f"cannot read the timeout {text!r}")
    return parse_timeout(parse_timedelta(text))


def shorter(one_s: float | None, other_s: float | None) -> float | None:
    """Return the shorter of two timeouts in seconds; None is none."""
    if one_s is None or other_s is None:
        return other_s if one_s is None else one_s
    return min(one_s, other_s)
