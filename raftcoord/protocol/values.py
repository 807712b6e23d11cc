"""User values as bytes, and names as keys.

A value crosses the wire, the log and the snapshot as one opaque blob that the client packed; replicas
look inside only where an operation says so (`add`, `compare_and_set` by value).

Invariants:
  1. What is packed unpacks equal and of the same type; what cannot is refused with `TypeError`
     before anything is sent.
  2. Unpacking never runs code and never recurses deeper than `DEPTH_MAX`.
  3. Two names of different types never share a key.
"""

from __future__ import annotations

import datetime
import functools
from typing import Any, Final, TypeAlias

import msgpack

from raftcoord.protocol.errors import BadRequest, ValueTooLarge

Name: TypeAlias = str | int | bytes | tuple[Any, ...]

VALUE_BYTES_MAX: Final = 1024 * 1024
NAME_BYTES_MAX: Final = 512
DEPTH_MAX: Final = 64

_EXT_TUPLE: Final = 1
_EXT_DATETIME: Final = 2
_EXT_TIMEDELTA: Final = 3
_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1
_SCALARS: Final = frozenset({type(None), bool, float, str, bytes})
_LEAVES: Final = _SCALARS | {int, datetime.datetime, datetime.timedelta}
_CONTAINERS: Final = frozenset({list, dict, tuple})
_KEYS: Final = _SCALARS | {int}


def _check(value: Any, depth: int) -> Any:
    """Return `value` in the form that msgpack packs; raise TypeError or ValueError when it cannot."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is int:
        if not _INT_MIN <= value <= _INT_MAX:
            raise ValueError("an int must fit into 64 bits")
        return value
    if kind is datetime.datetime:
        return msgpack.ExtType(_EXT_DATETIME, _datetime_bytes(value))
    if kind is datetime.timedelta:
        parts = (value.days, value.seconds, value.microseconds)
        return msgpack.ExtType(_EXT_TIMEDELTA, msgpack.packb(parts))
    if kind not in _CONTAINERS:
        raise TypeError(f"cannot store a value of type {kind.__module__}.{kind.__qualname__}")
    if depth >= DEPTH_MAX:
        raise ValueError(f"value is nested deeper than {DEPTH_MAX} levels")
    if kind is list:
        return [_check(item, depth + 1) for item in value]
    if kind is dict:
        return {_check_key(key): _check(item, depth + 1) for key, item in value.items()}
    inner = [_check(item, depth + 1) for item in value]
    return msgpack.ExtType(_EXT_TUPLE, msgpack.packb(inner, use_bin_type=True))


def _check_key(key: Any) -> Any:
    if type(key) not in _KEYS:
        raise TypeError(f"cannot store a dict key of type {type(key).__qualname__}")
    return _check(key, 0)


def _datetime_bytes(value: datetime.datetime) -> bytes:
    if value.tzinfo is not None and type(value.tzinfo) is not datetime.timezone:
        # A named zone would come back as a fixed offset, which is not what was put in.
        raise TypeError(f"cannot store a datetime with a tzinfo of type {type(value.tzinfo).__qualname__}")
    packed: bytes = msgpack.packb([value.isoformat(), value.fold])
    return packed


def _unpack_extension(depth: int, code: int, data: bytes) -> Any:
    parts = _unpack(data, depth + 1)
    if type(parts) is not list:
        raise ValueError(f"extension type {code} does not hold a list")
    if code == _EXT_TUPLE:
        return tuple(parts)
    if code == _EXT_DATETIME:
        text, fold = parts
        return datetime.datetime.fromisoformat(text).replace(fold=fold)
    if code == _EXT_TIMEDELTA:
        days, seconds, microseconds = parts
        return datetime.timedelta(days, seconds, microseconds)
    raise ValueError(f"unknown extension type {code}")


def _unpack(data: bytes, depth: int) -> Any:
    """Decode a blob, or an extension inside `depth` others.

    Each nested extension takes some 50 KB of the C stack, so that a blob of a few hundred, which fit into a
    kilobyte, would end the process. The hooks therefore know how deep they are.
    """
    if depth > DEPTH_MAX:
        raise ValueError(f"nested deeper than {DEPTH_MAX} levels")
    hook = _HOOKS[depth]
    return msgpack.unpackb(data, raw=False, use_list=True, strict_map_key=False, ext_hook=hook)


_HOOKS: Final = tuple(functools.partial(_unpack_extension, depth) for depth in range(DEPTH_MAX + 1))


def _refuse_what_is_never_packed(value: Any) -> None:
    """Raise ValueError when a decoded container is nested too deep or holds a type that `_check` refuses."""
    level = [value]
    for _ in range(DEPTH_MAX):
        children: list[Any] = []
        for container in level:
            if type(container) is dict:
                if not _KEYS.issuperset(map(type, container)):
                    raise ValueError("a dict key is of a type that cannot be stored")
                children += container.values()
            else:
                children += container
        kinds = set(map(type, children))
        if not kinds <= _LEAVES | _CONTAINERS:
            raise ValueError("holds a type that cannot be stored")
        if not kinds & _CONTAINERS:
            return
        level = [child for child in children if type(child) in _CONTAINERS]
    raise ValueError(f"nested deeper than {DEPTH_MAX} levels")


def pack_value(value: Any, bytes_max: int = VALUE_BYTES_MAX) -> bytes:
    """Return a user value as a blob.

    Raises:
        TypeError: the value, or something inside it, is of a type that cannot be stored.
        ValueError: an int does not fit into 64 bits, or the nesting is too deep.
        ValueTooLarge: the blob is over `bytes_max`.
    """
    try:
        blob: bytes = msgpack.packb(_check(value, 0), use_bin_type=True)
    except UnicodeEncodeError as error:
        raise ValueError(f"cannot store a str that is not valid Unicode: {error.reason}") from None
    if len(blob) > bytes_max:
        raise ValueTooLarge(f"value of {len(blob)} bytes is over the limit of {bytes_max}")
    return blob


def unpack_value(blob: bytes) -> Any:
    """Return the user value in a blob.

    Raises:
        BadRequest: the blob is damaged or nested too deep.
    """
    try:
        value = _unpack(blob, 0)
        if type(value) not in _LEAVES:
            if type(value) not in _CONTAINERS:
                raise ValueError("of a type that cannot be stored")
            _refuse_what_is_never_packed(value)
        return value
    except (ValueError, TypeError, KeyError, OverflowError, msgpack.UnpackException, RecursionError) as error:
        raise BadRequest(f"damaged value: {type(error).__name__}: {error}") from None


def pack_name(name: Name) -> bytes:
    """Return the key of a name: a str, an int, bytes, or a tuple of these.

    Raises:
        TypeError: the name is of another type.
        ValueError: the name is empty.
        ValueTooLarge: the key is over `NAME_BYTES_MAX` bytes.
    """
    _check_name(name, 0)
    key = pack_value(name)
    if len(key) > NAME_BYTES_MAX:
        raise ValueTooLarge(f"name of {len(key)} bytes is over the limit of {NAME_BYTES_MAX}")
    return key


def _check_name(name: Any, depth: int) -> None:
    if type(name) not in (str, int, bytes, tuple):
        raise TypeError(f"a name is a str, int, bytes or tuple, not {type(name).__qualname__}")
    if type(name) is not int and len(name) == 0:
        raise ValueError("a name must not be empty")
    if type(name) is tuple:
        if depth >= 8:
            raise ValueError("a name is nested too deep")
        for part in name:
            _check_name(part, depth + 1)


def unpack_name(key: bytes) -> Name:
    """Return the name behind a key (the inverse of `pack_name`)."""
    name: Name = unpack_value(key)
    return name
