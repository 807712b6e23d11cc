"""Who may become a peer: the secret, the names, the identities; and that nothing can be replayed."""

from __future__ import annotations

from dataclasses import replace

import msgpack
import pytest
from ours import SeededRng

from raftcoord.consensus.handshake import NONCE_BYTES, Handshake, Hello, Refused, parse_hello
from raftcoord.consensus.identity import DataFolder
from raftcoord.consensus.interface import FatalError
from raftcoord.consensus.members import Members
from raftcoord.protocol.frames import FrameError
from raftcoord.testing.simulation.faulty_disk import FaultyDisk

NAMES = ["a", "b", "c"]


class Side:
    """One replica's part in handshakes, on a data folder of its own."""

    def __init__(
        self,
        name: str,
        *,
        secret: str = "secret",
        names: list[str] = NAMES,
        disk: FaultyDisk | None = None,
        seed: str = "",
    ) -> None:
        self.name = name
        self.disk = disk or FaultyDisk()
        self.folder = DataFolder.open(disk=self.disk, rng=SeededRng(f"{name}{seed}"), path="/data", name=name)
        self.members = Members(self.folder, name, names)
        self.handshake = Handshake(
            name=name,
            names=names,
            identity=self.folder.identity,
            client_address=f"{name}:7400",
            secret=secret,
            members=self.members,
            rng=SeededRng(f"{name} nonce{seed}"),
        )

    def hello(self, receiver: str) -> Hello:
        return parse_hello(self.handshake.make_hello(receiver)[0])


def greet(dialer: Side, acceptor: Side) -> None:
    """Run a whole handshake; raises what one of the sides raises."""
    first, _ = dialer.handshake.make_hello(acceptor.name)
    acceptor.handshake.check_hello(parse_hello(first))
    second, _ = acceptor.handshake.make_hello(dialer.name)
    proof = acceptor.handshake.proof(b"acceptor", first, second)
    dialer.handshake.check_hello(parse_hello(second))
    dialer.handshake.check_proof(b"acceptor", first, second, proof)
    acceptor.handshake.check_proof(b"dialer", first, second, dialer.handshake.proof(b"dialer", first, second))
    dialer.handshake.accept(parse_hello(second))
    acceptor.handshake.accept(parse_hello(first))


def cluster() -> dict[str, Side]:
    sides = {name: Side(name) for name in NAMES}
    for dialer, acceptor in (("a", "b"), ("a", "c"), ("b", "c"), ("a", "b")):
        greet(sides[dialer], sides[acceptor])
    assert all(side.members.is_formed for side in sides.values())
    return sides


def test_a_cluster_forms_when_all_have_met() -> None:
    a, b, c = (Side(name) for name in NAMES)
    greet(a, b)
    assert [side.members.is_formed for side in (a, b, c)] == [False, False, False]
    assert a.members.missing == ["c"]
    greet(b, c)
    assert [side.members.is_formed for side in (a, b, c)] == [False, True, False]
    greet(a, b)  # b tells whom it has met
    assert [side.members.is_formed for side in (a, b, c)] == [True, True, False]
    assert a.folder.members == b.folder.members


def test_another_secret_is_refused_by_both_sides() -> None:
    a, b = Side("a"), Side("b", secret="another")
    with pytest.raises(Refused, match="secrets"):
        greet(a, b)
    with pytest.raises(Refused, match="secrets"):
        greet(b, a)
    assert a.members.missing == ["b", "c"]


def test_a_proof_fits_one_pair_of_hellos_and_one_role_only() -> None:
    a, b = Side("a"), Side("b")
    first, _ = a.handshake.make_hello("b")
    second, _ = b.handshake.make_hello("a")
    proof = a.handshake.proof(b"dialer", first, second)
    b.handshake.check_proof(b"dialer", first, second, proof)
    third, _ = b.handshake.make_hello("a")
    for replayed in (
        (b"dialer", first, third, proof),
        (b"acceptor", first, second, proof),
        (b"dialer", second, first, proof),
        (b"dialer", first, second, proof[:-1]),
        (b"dialer", first, second, None),
    ):
        with pytest.raises(Refused):
            b.handshake.check_proof(*replayed)


def test_a_wiped_folder_is_a_stranger_under_its_old_name() -> None:
    sides = cluster()
    wiped = Side("b", seed="another")
    for other in ("a", "c"):
        with pytest.raises(Refused, match="wiped or replaced"):
            greet(wiped, sides[other])
        with pytest.raises(Refused, match="wiped or replaced"):
            sides[other].handshake.check_hello(wiped.hello(other))
        with pytest.raises(Refused, match="wiped or replaced"):
            wiped.handshake.check_hello(sides[other].hello("b"))
    assert not wiped.members.is_formed


def test_two_clusters_do_not_mix() -> None:
    one = cluster()
    other = {name: Side(name, seed="2") for name in NAMES}
    greet(other["a"], other["b"])
    with pytest.raises(Refused, match="wiped or replaced"):
        one["c"].handshake.check_hello(other["a"].hello("c"))


def test_the_identity_survives_a_restart() -> None:
    sides = cluster()
    sides["b"].disk.kill()
    again = Side("b", disk=sides["b"].disk, seed="after the restart")
    assert again.members.is_formed
    greet(sides["a"], again)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 2}, "version 2"),
        ({"receiver": "c"}, "check the peer addresses"),
        ({"names": ["a", "b", "d"]}, "peer lists disagree"),
        ({"names": ["a", "b"]}, "peer lists disagree"),
        ({"sender": "z"}, "not a peer"),
        ({"sender": "b"}, "not a peer"),
        ({"members": {"b": "another"}}, "wiped or replaced"),
    ],
)
def test_a_hello_that_does_not_fit_is_refused(change: dict[str, object], reason: str) -> None:
    a, b = Side("a"), Side("b")
    hello = a.hello("b")
    b.handshake.check_hello(hello)
    with pytest.raises(Refused, match=reason):
        b.handshake.check_hello(replace(hello, **change))  # type: ignore[arg-type]


def test_members_that_differ_from_the_folder_are_refused_at_the_start() -> None:
    sides = cluster()
    sides["a"].disk.kill()
    with pytest.raises(FatalError, match="members are fixed"):
        Side("a", disk=sides["a"].disk, names=["a", "b"])


@pytest.mark.parametrize(
    "change",
    [
        {"magic": "another"},
        {"version": "1"},
        {"nonce": bytes(NONCE_BYTES - 1)},
        {"names": [1]},
        {"names": ["n"] * 65},
        {"members": {"a": 1}},
        {"more": 1},
        {"epoch": None},
    ],
    ids=str,
)
def test_a_malformed_hello_is_none(change: dict[str, object]) -> None:
    fields = msgpack.unpackb(Side("a").handshake.make_hello("b")[0])
    with pytest.raises(FrameError):
        parse_hello(msgpack.packb({**fields, **change}))


@pytest.mark.parametrize("packed", [b"", b"\xc1", msgpack.packb([1]), msgpack.packb(None), b"\x81"])
def test_junk_is_no_hello(packed: bytes) -> None:
    with pytest.raises(FrameError):
        parse_hello(packed)


def test_every_hello_has_a_fresh_nonce_and_epoch() -> None:
    a = Side("a")
    first, second = a.hello("b"), a.hello("b")
    assert first.nonce != second.nonce
    assert second.epoch == first.epoch + 1
    assert second.incarnation == first.incarnation
