"""Any bytes and any values: the wire layer answers with a value or with its own error, never otherwise."""

from __future__ import annotations

import datetime
from typing import Any

import msgpack
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raftcoord.protocol.errors import BadRequest
from raftcoord.protocol.frames import FrameDecoder, FrameError, decode_payload, encode_frame
from raftcoord.protocol.operations import OPERATIONS, validate, validate_acked
from raftcoord.protocol.values import pack_name, pack_value, unpack_name, unpack_value

INTS = st.integers(-(2**63), 2**64 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
KEYS = st.none() | st.booleans() | INTS | st.floats(allow_nan=False) | TEXT | st.binary(max_size=20)
FIXED_OFFSETS = st.builds(
    datetime.timezone,
    st.timedeltas(min_value=datetime.timedelta(hours=-23), max_value=datetime.timedelta(hours=23)),
)
SCALARS = (
    KEYS
    | st.datetimes(timezones=st.none() | FIXED_OFFSETS)
    | st.builds(lambda moment, fold: moment.replace(fold=fold), st.datetimes(), st.sampled_from([0, 1]))
    | st.timedeltas()
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=20,
)
PLAIN = st.recursive(
    st.none() | st.booleans() | INTS | st.floats() | TEXT | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT | INTS, inner, max_size=4),
    max_leaves=20,
)
unhurried = settings(deadline=None)  # a busy machine makes an example slow, which is no failure
NAMES: st.SearchStrategy[Any] = st.recursive(
    INTS | TEXT.filter(bool) | st.binary(min_size=1, max_size=20),
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(tuple),
    max_leaves=5,
)


def described(value: Any) -> Any:
    """A value together with all its types, in a form that == compares (1, 1.0 and True differ)."""
    if isinstance(value, list | tuple):
        return type(value), [described(item) for item in value]
    if isinstance(value, dict):
        return dict, [(described(key), described(item)) for key, item in value.items()]
    if isinstance(value, datetime.datetime):
        return datetime.datetime, value.replace(tzinfo=None), value.utcoffset(), value.fold
    return type(value), repr(value)


def extended(code: int, data: bytes) -> bytes:
    packed: bytes = msgpack.packb([msgpack.ExtType(code, data)])
    return packed


BLOBS = st.binary(max_size=200) | st.recursive(
    PLAIN.map(msgpack.packb), lambda inner: st.builds(extended, st.integers(0, 4), inner), max_leaves=3
)


@unhurried
@given(VALUES)
def test_values_come_back_equal_and_of_the_same_types(value: Any) -> None:
    assert described(unpack_value(pack_value(value))) == described(value)


@unhurried
@given(VALUES)
def test_packing_is_a_function_of_the_value(value: Any) -> None:
    blob = pack_value(value)
    assert pack_value(unpack_value(blob)) == blob


@unhurried
@given(BLOBS)
@example(b"\xd6\xff\x00\x00\x00\x00")
def test_a_blob_unpacks_to_what_can_be_packed_or_is_a_bad_request(blob: bytes) -> None:
    try:
        value = unpack_value(blob)
    except BadRequest:
        return
    assert described(unpack_value(pack_value(value))) == described(value)


@unhurried
@given(VALUES, st.data())
def test_a_cut_or_changed_blob_never_raises_anything_else(value: Any, data: st.DataObject) -> None:
    blob = bytearray(pack_value(value))
    blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    for damaged in (bytes(blob), bytes(blob[: data.draw(st.integers(0, len(blob)))])):
        try:
            unpack_value(damaged)
        except BadRequest:
            continue


@unhurried
@given(NAMES, NAMES)
def test_names_come_back_and_keys_are_equal_only_for_equal_names(left: Any, right: Any) -> None:
    left_key, right_key = pack_name(left), pack_name(right)
    assert described(unpack_name(left_key)) == described(left)
    assert (left_key == right_key) == (described(left) == described(right))


@unhurried
@given(st.lists(PLAIN, max_size=6), st.data())
def test_a_stream_in_any_pieces_gives_its_messages(messages: list[Any], data: st.DataObject) -> None:
    stream = b"".join(map(encode_frame, messages))
    decoder = FrameDecoder()
    found: list[Any] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += decoder.feed(stream[:size])
        stream = stream[size:]
    assert described(found) == described(messages)
    assert decoder.buffered_bytes == 0


@unhurried
@given(st.lists(st.binary(max_size=60), max_size=6))
def test_any_bytes_are_messages_or_a_frame_error(pieces: list[bytes]) -> None:
    decoder = FrameDecoder(frame_bytes_max=64)
    try:
        for piece in pieces:
            decoder.feed(piece)
            assert decoder.buffered_bytes <= 4 + 64
    except FrameError:
        pass


@unhurried
@given(st.binary(max_size=200))
def test_any_payload_decodes_to_plain_values_or_is_a_frame_error(payload: bytes) -> None:
    try:
        message = decode_payload(payload)
    except FrameError:
        return
    assert described(decode_payload(msgpack.packb(message))) == described(message)


@unhurried
@given(PLAIN | st.sampled_from(sorted(OPERATIONS)), PLAIN | st.lists(PLAIN, max_size=4))
def test_validate_is_total_and_its_reasons_are_short_lines(operation: Any, arguments: Any) -> None:
    reason = validate(operation, arguments)
    assert reason is None or ("\n" not in reason and len(reason) < 120)


@unhurried
@given(PLAIN)
def test_validate_acked_is_total(acked: Any) -> None:
    assert validate_acked(acked) in (True, False)
