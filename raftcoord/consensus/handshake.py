"""How two replicas get to know each other: a mutual challenge and response, before any consensus message.

    dialer    -> hello                   who I am, whom I want, a nonce
    acceptor  -> [hello, proof]          the same of its side, and HMAC(secret, both hellos)
    dialer    -> [proof]
    acceptor  -> ["welcome"]             or, at any point instead: ["refused", reason], then the end

Invariants:
  1. Only one who knows the secret and holds the expected identity becomes a peer.
  2. Proofs cover both hellos and the role, so none can be replayed or reflected.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from raftcoord.consensus.members import Members
from raftcoord.protocol.frames import FrameError, decode_payload
from raftcoord.runtime import Rng

PEER_MAGIC: Final = "raftcoord-peer"
PEER_VERSION: Final = 1
NONCE_BYTES: Final = 32
NAMES_MAX: Final = 64


class Refused(Exception):
    """The other side must not be a peer; the text says why."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What a replica says of itself. `incarnation` is new at every start, `epoch` at every connection."""

    version: int
    sender: str
    receiver: str
    identity: str
    incarnation: str
    epoch: int
    names: list[str]
    members: dict[str, str]
    client_address: str
    nonce: bytes


_FIELDS: Final[dict[str, type]] = {
    "version": int,
    "sender": str,
    "receiver": str,
    "identity": str,
    "incarnation": str,
    "epoch": int,
    "names": list,
    "members": dict,
    "client_address": str,
    "nonce": bytes,
}


def _all_strings(items: Any) -> bool:
    return all(type(item) is str for item in items)


def parse_hello(packed: bytes) -> Hello:
    """Return the hello in `packed`.

    Raises:
        FrameError: it is none.
    """
    fields = decode_payload(packed)
    if type(fields) is not dict or fields.pop("magic", None) != PEER_MAGIC:
        raise FrameError("not a hello of a replica")
    if fields.keys() != _FIELDS.keys() or any(type(fields[key]) is not _FIELDS[key] for key in _FIELDS):
        raise FrameError("malformed hello")
    hello = Hello(**fields)
    if (
        len(hello.names) > NAMES_MAX
        or len(hello.members) > NAMES_MAX
        or len(hello.nonce) != NONCE_BYTES
        or not _all_strings([*hello.names, *hello.members.keys(), *hello.members.values()])
    ):
        raise FrameError("malformed hello")
    return hello


class Handshake:
    """What this replica says and checks; one for all its connections."""

    def __init__(
        self,
        *,
        name: str,
        names: list[str],
        identity: str,
        client_address: str,
        secret: str,
        members: Members,
        rng: Rng,
    ) -> None:
        self.name = name
        self._names = sorted(names)
        self._identity = identity
        self._client_address = client_address
        self._secret = secret.encode()
        self._members = members
        self._rng = rng
        self._incarnation = rng.token(16).hex()
        self._epoch = 0

    def __repr__(self) -> str:
        return f"<Handshake name={self.name} epoch={self._epoch}>"

    def make_hello(self, receiver: str) -> tuple[bytes, int]:
        """Return a packed hello for one connection, and the epoch that it announces."""
        self._epoch += 1
        fields: Mapping[str, Any] = {
            "magic": PEER_MAGIC,
            "version": PEER_VERSION,
            "sender": self.name,
            "receiver": receiver,
            "identity": self._identity,
            "incarnation": self._incarnation,
            "epoch": self._epoch,
            "names": self._names,
            "members": dict(self._members.recorded),
            "client_address": self._client_address,
            "nonce": self._rng.token(NONCE_BYTES),
        }
        return msgpack.packb(fields), self._epoch

    def proof(self, role: bytes, dialer_hello: bytes, acceptor_hello: bytes) -> bytes:
        """Return what only a holder of the secret can say about these two hellos."""
        parts = (role, dialer_hello, acceptor_hello)
        text = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hmac.new(self._secret, text, hashlib.sha256).digest()

    def check_proof(self, role: bytes, dialer_hello: bytes, acceptor_hello: bytes, proof: Any) -> None:
        """Raise Refused unless `proof` is the right one."""
        expected = self.proof(role, dialer_hello, acceptor_hello)
        if type(proof) is not bytes or not hmac.compare_digest(expected, proof):
            raise Refused("the secrets of the replicas differ")

    def check_hello(self, hello: Hello) -> None:
        """Raise Refused when the sender of `hello` cannot be a peer; nothing is learned from it here."""
        if hello.version != PEER_VERSION:
            raise Refused(f"peer protocol version {hello.version} is not {PEER_VERSION}")
        if hello.receiver != self.name:
            raise Refused(f"this is replica {self.name!r}, not {hello.receiver!r}: check the peer addresses")
        if sorted(hello.names) != self._names:
            raise Refused(f"peer lists disagree: {sorted(hello.names)} is not {self._names}")
        if hello.sender not in self._names or hello.sender == self.name:
            raise Refused(f"replica {hello.sender!r} is not a peer of {self.name!r}")
        objection = self._members.objection(hello.sender, hello.identity, hello.members)
        if objection is None and hello.members.get(self.name, self._identity) != self._identity:
            objection = (
                f"replica {hello.sender!r} knows {self.name!r} by another identity: "
                f"the data folder of {self.name!r} was wiped or replaced; restore it"
            )
        if objection is not None:
            raise Refused(objection)

    def accept(self, hello: Hello) -> None:
        """The sender has proved itself: remember its identity."""
        self._members.learn(hello.sender, hello.identity, hello.members)
