"""How a Dask Future is kept in the store: its key, and the name under which the scheduler keeps its result.

Pure.

Invariants:
  1. Whatever plain value a user puts comes back as it was, also one that looks like a record.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from raftcoord.dask.names import plain
from raftcoord.protocol.values import pack_value, unpack_value

_TAG: Final = "\0raftcoord.dask"
_FUTURE: Final = "future"
_VALUE: Final = "value"


class Record(NamedTuple):
    """A Future in the store.

    `holder` names the variable of the Dask scheduler that keeps the result alive; each put has its own.
    """

    key: Any
    holder: str


def encode(value: Any) -> bytes:
    """Return a plain value or a record as a blob.

    Raises:
        TypeError, ValueError: the store cannot carry it.
        ValueTooLarge: it is over 1 MiB.
    """
    if type(value) is Record:
        return pack_value((_TAG, _FUTURE, value.key, value.holder))
    value = plain(value)
    if type(value) is tuple and value[:1] == (_TAG,):
        value = (_TAG, _VALUE, value)
    return pack_value(value)


def decode(blob: bytes) -> Any:
    """Return the plain value or the `Record` in a blob."""
    value = unpack_value(blob)
    if type(value) is not tuple or value[:1] != (_TAG,):
        return value
    if len(value) == 4 and value[1] == _FUTURE:
        return Record(value[2], value[3])
    if len(value) == 3 and value[1] == _VALUE:
        return value[2]
    return value
