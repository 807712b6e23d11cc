"""Frames: cutting a stream at any point, bounds before allocation, and what is no frame."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import msgpack
import pytest

from raftcoord.protocol.errors import BadRequest
from raftcoord.protocol.frames import (
    FRAME_BYTES_MAX,
    HEADER_BYTES,
    FrameDecoder,
    FrameError,
    decode_payload,
    encode_frame,
)

MESSAGES: list[Any] = [
    ["raftcoord", 1, "session", {"session": 0, "nonce": b"n" * 16, "ttl_ms": 10_000}],
    [],
    [1, 0, 16, b"name", b"x" * 300],
    None,
    [2, [0, 1], 33, b"q", 0, -1, False],
]
STREAM = b"".join(map(encode_frame, MESSAGES))


def framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(HEADER_BYTES, "big") + payload


def test_a_frame_is_a_big_endian_length_and_msgpack() -> None:
    assert encode_frame([1, "a", b"b"]) == b"\x00\x00\x00\x07\x93\x01\xa1a\xc4\x01b"


def test_every_split_into_two_reads_gives_the_same_messages() -> None:
    for cut in range(len(STREAM) + 1):
        decoder = FrameDecoder()
        assert decoder.feed(STREAM[:cut]) + decoder.feed(STREAM[cut:]) == MESSAGES, cut
        assert decoder.buffered_bytes == 0, cut


def test_every_split_into_three_reads_around_a_boundary_gives_the_same_messages() -> None:
    stream = encode_frame([1]) + encode_frame([2, b"xyz"])
    for first in range(len(stream) + 1):
        for second in range(first, len(stream) + 1):
            decoder = FrameDecoder()
            found = [*decoder.feed(stream[:first]), *decoder.feed(stream[first:second])]
            assert found + decoder.feed(stream[second:]) == [[1], [2, b"xyz"]], (first, second)


def test_a_frame_is_given_out_with_its_last_byte_and_not_before() -> None:
    decoder = FrameDecoder()
    frame = encode_frame([1, b"value"])
    assert [decoder.feed(frame[i : i + 1]) for i in range(len(frame))] == [[]] * (len(frame) - 1) + [
        [[1, b"value"]]
    ]


def test_one_byte_at_a_time_gives_the_same_messages() -> None:
    decoder = FrameDecoder()
    found = [message for i in range(len(STREAM)) for message in decoder.feed(STREAM[i : i + 1])]
    assert found == MESSAGES


def test_what_is_buffered_is_not_changed_by_the_caller_afterwards() -> None:
    decoder = FrameDecoder()
    data = bytearray(encode_frame([b"abc"]))
    assert decoder.feed(bytes(data[:-1])) == []
    data[:] = b"\xff" * len(data)
    assert decoder.feed(b"c") == [[b"abc"]]


@pytest.mark.parametrize("length", [101, 2**31, 2**32 - 1])
def test_an_oversized_frame_is_refused_on_its_header_alone(length: int) -> None:
    decoder = FrameDecoder(frame_bytes_max=100)
    with pytest.raises(FrameError, match=f"frame of {length} bytes is over the limit of 100"):
        decoder.feed(length.to_bytes(HEADER_BYTES, "big"))


def test_a_frame_of_exactly_the_bound_is_taken() -> None:
    payload = msgpack.packb(b"x" * 98)
    assert len(payload) == 100
    assert FrameDecoder(frame_bytes_max=100).feed(framed(payload)) == [b"x" * 98]


def test_an_oversized_frame_behind_a_good_one_is_refused() -> None:
    with pytest.raises(FrameError, match="over the limit"):
        FrameDecoder(frame_bytes_max=100).feed(encode_frame([1]) + (101).to_bytes(HEADER_BYTES, "big"))


def test_a_header_that_promises_much_reserves_nothing() -> None:
    decoder = FrameDecoder()
    tracemalloc.start()
    try:
        decoder.feed(FRAME_BYTES_MAX.to_bytes(HEADER_BYTES, "big") + b"\x90")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 64 * 1024
    assert decoder.buffered_bytes == HEADER_BYTES + 1


def test_an_array_header_that_promises_more_than_the_payload_holds_reserves_nothing() -> None:
    claim = b"\xdd" + (900_000).to_bytes(4, "big")
    tracemalloc.start()
    try:
        with pytest.raises(FrameError):
            decode_payload(claim * 500)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1024 * 1024


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xc1", id="byte that msgpack never uses"),
        pytest.param(b"\x92\x01", id="array that lacks an item"),
        pytest.param(b"\x01\x02", id="two values"),
        pytest.param(b"\xa2\xff\xfe", id="text that is not UTF-8"),
        pytest.param(b"\xdd\xff\xff\xff\xff", id="array of 4 G items"),
        pytest.param(b"\xdf\xff\xff\xff\xff", id="map of 4 G items"),
        pytest.param(b"\xc6\xff\xff\xff\xff", id="bytes of 4 GB"),
        pytest.param(b"\x81\x90\x01", id="map with a list as key"),
        pytest.param(b"\x91" * 5000 + b"\x01", id="5000 levels"),
        pytest.param(b"\x81\x01" * 5000 + b"\x01", id="5000 levels of maps"),
        pytest.param(b"\xd4\x01\x90", id="extension"),
        pytest.param(b"\x91\xc7\x03\x05abc", id="extension inside an array"),
        pytest.param(b"\xc7\x05\xff12345", id="timestamp of a wrong size"),
    ],
)
def test_what_is_not_exactly_one_plain_value_is_a_frame_error(payload: bytes) -> None:
    with pytest.raises(FrameError, match="malformed frame"):
        FrameDecoder().feed(framed(payload))


def test_a_frame_error_is_a_bad_request() -> None:
    assert issubclass(FrameError, BadRequest)


def test_the_timestamp_extension_decodes_to_a_plain_number() -> None:
    decoded = decode_payload(msgpack.packb(msgpack.Timestamp(5, 500_000_000)))
    assert type(decoded) is float
    assert math.isclose(decoded, 5.5)


def test_the_representation_tells_the_state() -> None:
    decoder = FrameDecoder(frame_bytes_max=1000)
    decoder.feed(b"\x00\x00")
    assert repr(decoder) == "<FrameDecoder buffered=2 max=1000>"
