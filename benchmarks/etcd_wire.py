"""A raw asyncio client of etcd's gRPC API: just the calls that are measured.

The messages are so small that they are encoded here by hand, with less work per call than generated classes
would need; what is compared is etcd, not a Python protobuf library. Answers are left undecoded unless a
field of theirs is needed.
"""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def encode(fields: dict[int, int | bytes]) -> bytes:
    """Return a protobuf message of varint and bytes fields, given by field number."""
    parts = []
    for number, value in fields.items():
        if isinstance(value, int):
            parts += [_varint(number << 3 | _VARINT), _varint(value)]
        else:
            parts += [_varint(number << 3 | _BYTES), _varint(len(value)), value]
    return b"".join(parts)


def decode(message: bytes) -> dict[int, int | bytes]:
    """Return the fields of a protobuf message; of a repeated field the last one.

    Raises:
        ValueError: the message uses a wire type that etcd's answers do not have.
    """
    fields: dict[int, int | bytes] = {}
    position = 0

    def varint() -> int:
        nonlocal position
        number = shift = 0
        while True:
            byte = message[position]
            position += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7

    while position < len(message):
        tag = varint()
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            fields[number] = varint()
            continue
        if wire not in (_BYTES, _FIXED64, _FIXED32):
            raise ValueError(f"unexpected wire type {wire}")
        length = varint() if wire == _BYTES else {_FIXED64: 8, _FIXED32: 4}[wire]
        fields[number] = message[position : position + length]
        position += length
    return fields


class EtcdConnection:
    """One TCP connection to one member."""

    def __init__(self, address: str) -> None:
        self.address = address
        # Without a pool of its own a channel shares the connection of all others to the same address.
        self._channel: Any = grpc.aio.insecure_channel(
            address, options=[("grpc.use_local_subchannel_pool", 1)]
        )
        self._put: Any = self._channel.unary_unary("/etcdserverpb.KV/Put")
        self._range: Any = self._channel.unary_unary("/etcdserverpb.KV/Range")
        self._lock: Any = self._channel.unary_unary("/v3lockpb.Lock/Lock")
        self._unlock: Any = self._channel.unary_unary("/v3lockpb.Lock/Unlock")
        self._lease = 0

    def __repr__(self) -> str:
        return f"<EtcdConnection {self.address} lease={self._lease:x}>"

    async def connect(self) -> None:
        await self._channel.channel_ready()

    async def set(self, key: bytes, value: bytes) -> None:
        await self._put(encode({1: key, 2: value}))

    async def get(self, key: bytes) -> None:
        await self._range(encode({1: key}))

    async def grant_lease(self, ttl_s: int) -> None:
        """Make the lease that locks are held under; etcd has no lock without one."""
        grant: Any = self._channel.unary_unary("/etcdserverpb.Lease/LeaseGrant")
        lease = decode(await grant(encode({1: ttl_s})))[2]
        assert isinstance(lease, int)
        self._lease = lease

    async def lock_and_unlock(self, name: bytes) -> None:
        ownership = decode(await self._lock(encode({1: name, 2: self._lease})))[2]
        await self._unlock(encode({1: ownership}))

    async def leads(self) -> bool:
        """Tell whether this member is the leader."""
        status: Any = self._channel.unary_unary("/etcdserverpb.Maintenance/Status")
        answer = decode(await status(b""))
        header = answer[1]
        assert isinstance(header, bytes)
        return answer.get(4, 0) == decode(header)[2]

    async def close(self) -> None:
        await self._channel.close()
