"""Snapshots of an earlier version are restored; those of a later one are refused, and say why."""

from __future__ import annotations

import base64
import zlib

import msgpack
import pytest
from machine_harness import Client, Harness, restored, snapshot

from raftcoord.machine import Machine
from raftcoord.machine.snapshot import FORMAT_VERSION
from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import Operation

# Written by version 1: a variable with a watch, a queue with a loan of two items, a lock with a line of one,
# and waits for what is not there yet.
VERSION_1 = base64.b64decode(
    """
lbFyYWZ0Y29vcmQtbWFjaGluZQHNA+gGlJKoc2Vzc2lvbnMCkql2YXJpYWJsZXMCkqZxdWV1ZXMCkqVsb2NrcwHdAAAACAHEEAEB
AQEBAQEBAQEBAQEBAQHNJxCiYzEA3QAAAASSAZIAA5ICkgAEkgOSAJLEAQHEAQKSBJIABd0AAAAA3QAAAAGVA8QBcQQBksQBAcQB
ApgCxBACAgICAgICAgICAgICAgICzScQomMyAJCQkN0AAAAExAF2xAEBA90AAAABlAIBFQPdAAAABMQBdcAA3QAAAAGUAgIRwN0A
AAAIxAFxAAQBAd0AAAACxAEDxAEE3QAAAADdAAAAAN0AAAAIxAFyAAYAAN0AAAAA3QAAAAGUAgQhAd0AAAAA3QAAAATEAWwBBd0A
AAABlAIDMMBnyf5f
    """
)


def old_state() -> tuple[Harness, Client, Client]:
    harness = Harness()
    harness.machine = restored(VERSION_1)
    return harness, Client(harness, 1, sequence=10), Client(harness, 2, sequence=10)


def test_a_snapshot_of_version_1_is_restored_and_goes_on() -> None:
    harness, one, two = old_state()
    assert harness.machine.now_ms == 1000
    assert harness.machine.next_deadline_ms() is None
    one.send(Operation.VARIABLE_SET_WITH, b"v", b"\x02", 500, True)
    one.send(Operation.LOCK_RELEASE, b"l", 5)
    assert harness.take_completed() == [
        (two.session, 1, Code.OK, [b"\x02", 7]),
        (two.session, 3, Code.OK, 8),
    ]
    one.send(Operation.QUEUE_CLAIM, b"q", 0, [1, b"r"], False)
    harness.expire(one)
    assert harness.take_completed() == [(two.session, 4, Code.OK, [b"\x03"])]
    assert two.send(Operation.QUEUE_GET, b"q", 0, -1, False) == (Code.OK, [b"\x01", b"\x02", b"\x04"])


def test_a_snapshot_of_version_1_is_written_again_as_one_of_this_version() -> None:
    harness, _, _ = old_state()
    data = snapshot(harness.machine)
    unpacker = msgpack.Unpacker()
    unpacker.feed(data)
    assert unpacker.unpack()[1] == FORMAT_VERSION
    assert snapshot(restored(data)) == data


@pytest.mark.parametrize("version", [0, FORMAT_VERSION + 1, "1", None])
def test_any_other_version_is_refused_with_both_numbers(version: object) -> None:
    values = [["raftcoord-machine", version, 0, 0, []]]
    stream = b"".join(map(msgpack.packb, values))
    with pytest.raises(ValueError, match=rf"version {version}, not raftcoord-machine {FORMAT_VERSION}"):
        Machine().restore([stream + zlib.crc32(stream).to_bytes(4, "big")])
