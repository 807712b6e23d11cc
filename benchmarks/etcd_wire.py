"""A raw asyncio client of etcd's gRPC API: just the calls that are measured.

Answers are left undecoded unless a field of theirs is needed.
"""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio

from benchmarks.protobuf import decode, encode


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
