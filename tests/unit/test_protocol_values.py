"""Values and names: what is put in comes back equal and of the same type, or is refused in plain words."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import fractions
import math
import sys
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack
import pytest

from raftcoord.protocol.errors import BadRequest, ValueTooLarge
from raftcoord.protocol.values import (
    DEPTH_MAX,
    NAME_BYTES_MAX,
    VALUE_BYTES_MAX,
    Name,
    pack_name,
    pack_value,
    unpack_name,
    unpack_value,
)

UTC = datetime.UTC
PLUS_ODD = datetime.timezone(datetime.timedelta(hours=5, minutes=30, seconds=15, microseconds=7))


def same(left: Any, right: Any) -> bool:
    """Equal, of the same types all the way down, and in the same order; NaN is the same as NaN."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return same(list(left), list(right)) and same(list(left.values()), list(right.values()))
    if isinstance(left, float) and math.isnan(left):
        return math.isnan(right)
    if isinstance(left, datetime.datetime) and (left.utcoffset(), left.fold) != (
        right.utcoffset(),
        right.fold,
    ):
        return False
    if isinstance(left, float) and math.copysign(1, left) != math.copysign(1, right):
        return False
    return bool(left == right)


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, 0, 1, -1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)),
        *(0.0, -0.0, 1.5, math.inf, -math.inf, math.nan, sys.float_info.min, sys.float_info.max, 5e-324),
        *("", "text", "Ünïcödé \U0001f600 \x00", b"", b"\x00\xff", [], {}, ()),
        *([1, "a", None], [[[]]], (1,), ((), [()], {"a": ()}), [(1, (2, [3, (4,)]))]),
        {"tuple": ([{"deep": (1, b"2", {"x": (3,)})}],)},
        {1: "int", "1": "str", b"1": "bytes", None: "none", 2.5: "float"},
        {True: "bool key"},
        {1: "int key"},
        {"z": 1, "a": 2, "m": 3},
        [True, 1, 1.0, False, 0, 0.0],
        datetime.datetime(1, 1, 1),
        datetime.datetime(9999, 12, 31, 23, 59, 59, 999_999),
        datetime.datetime(2024, 10, 27, 2, 30, fold=1),
        datetime.datetime(2024, 10, 27, 2, 30, tzinfo=UTC, fold=1),
        datetime.datetime(2024, 2, 29, 12, 0, 0, 1, tzinfo=PLUS_ODD),
        datetime.datetime(2024, 2, 29, tzinfo=datetime.timezone(-datetime.timedelta(hours=23, minutes=59))),
        *(
            datetime.timedelta(0),
            datetime.timedelta.max,
            datetime.timedelta.min,
            datetime.timedelta.resolution,
        ),
        {"when": [(datetime.datetime(2024, 1, 1, tzinfo=UTC), datetime.timedelta(milliseconds=-1))]},
    ],
    ids=repr,
)
def test_a_value_comes_back_equal_and_of_the_same_type(value: Any) -> None:
    assert same(unpack_value(pack_value(value)), value)


def test_the_comparison_used_here_tells_types_apart() -> None:
    for left, right in [(1, True), (1, 1.0), ([1], (1,)), ({1: 0}, {True: 0}), (0.0, -0.0), ("1", b"1")]:
        assert not same(left, right), (left, right)
    assert not same({"a": 1, "b": 2}, {"b": 2, "a": 1})


class Color(enum.IntEnum):
    RED = 1


class Text(str):
    __slots__ = ()


class Many(list[int]):
    pass


class Stamp(datetime.datetime):
    pass


class Scalar(float):
    """As numpy's float64: a float to isinstance, and more than one to whoever put it in."""


class Summer(datetime.tzinfo):
    """As zoneinfo's zones: an offset that depends on the moment."""

    def utcoffset(self, moment: datetime.datetime | None) -> datetime.timedelta:
        return datetime.timedelta(hours=1) + self.dst(moment)

    def dst(self, moment: datetime.datetime | None) -> datetime.timedelta:
        return datetime.timedelta(hours=0 if moment is None or moment.month < 6 else 1)

    def tzname(self, moment: datetime.datetime | None) -> str:
        return "summer time" if self.dst(moment) else "winter time"


@dataclass
class Point:
    x: int


Pair = collections.namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ({1, 2}, "builtins.set"),
        (frozenset(), "builtins.frozenset"),
        (object(), "builtins.object"),
        (bytearray(b"a"), "builtins.bytearray"),
        (memoryview(b"a"), "builtins.memoryview"),
        (1j, "builtins.complex"),
        (range(3), "builtins.range"),
        (int, "builtins.type"),
        (len, "builtins.builtin_function_or_method"),
        (datetime.date(2024, 1, 1), "datetime.date"),
        (datetime.time(1), "datetime.time"),
        (decimal.Decimal(1), "decimal.Decimal"),
        (fractions.Fraction(1, 2), "fractions.Fraction"),
        (uuid.UUID(int=1), "uuid.UUID"),
        (collections.OrderedDict(), "collections.OrderedDict"),
        (collections.deque(), "collections.deque"),
        (msgpack.Timestamp(1), "msgpack.ext.Timestamp"),
        (msgpack.ExtType(1, b"\x90"), "msgpack.ext.ExtType"),
        *((kind, f"{__name__}.{type(kind).__name__}") for kind in (Color.RED, Text("a"), Many(), Scalar(1))),
        (Stamp(2024, 1, 1), f"{__name__}.Stamp"),
        (Point(1), f"{__name__}.Point"),
        (Pair(1, 2), f"{__name__}.Pair"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_cannot_be_stored_is_refused_by_the_name_of_its_type(value: Any, name: str) -> None:
    for wrapped in (value, [value], (1, value), {"key": value}, [({"a": (value,)},)]):
        with pytest.raises(TypeError) as refusal:
            pack_value(wrapped)
        assert str(refusal.value) == f"cannot store a value of type {name}"


@pytest.mark.parametrize("key", [(1, 2), frozenset(), Color.RED, Text("a"), datetime.timedelta(1)], ids=repr)
def test_a_dict_key_of_another_type_is_refused(key: Any) -> None:
    with pytest.raises(TypeError, match=f"dict key of type {type(key).__qualname__}"):
        pack_value({key: 1})


def test_a_datetime_in_a_named_zone_is_refused() -> None:
    value = datetime.datetime(2024, 1, 1, tzinfo=Summer())
    with pytest.raises(TypeError, match="tzinfo of type Summer"):
        pack_value(value)


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**400])
def test_an_int_over_64_bits_is_refused(number: int) -> None:
    for wrapped in (number, [number], (number,), {"a": number}, {number: "a"}):
        with pytest.raises(ValueError, match="an int must fit into 64 bits"):
            pack_value(wrapped)


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_text_with_lone_surrogates_is_refused(text: str) -> None:
    for wrapped in (text, [text], (text,), {text: 1}, ((text,),)):
        with pytest.raises(ValueError, match="not valid Unicode"):
            pack_value(wrapped)


def nested(wrap: Callable[[Any], Any], levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = wrap(value)
    return value


WRAPS: list[Callable[[Any], Any]] = [
    lambda value: [value],
    lambda value: (value,),
    lambda value: {"k": value},
    lambda value: [({"k": value},)],
]
LEVELS_OF_WRAP = [1, 1, 1, 3]


@pytest.mark.parametrize(("wrap", "levels"), [*zip(WRAPS, LEVELS_OF_WRAP, strict=True)])
def test_the_deepest_value_comes_back_and_the_next_one_is_refused(
    wrap: Callable[[Any], Any], levels: int
) -> None:
    deepest = nested(wrap, DEPTH_MAX // levels)
    assert same(unpack_value(pack_value(deepest)), deepest)
    for more in (DEPTH_MAX // levels + 1, 400):
        with pytest.raises(ValueError, match="nested deeper than 64 levels"):
            pack_value(nested(wrap, more))


def test_a_leaf_at_the_deepest_level_does_not_count_as_nesting() -> None:
    for leaf in (datetime.datetime(2024, 1, 1), datetime.timedelta(1), "text"):
        value = nested(lambda inner: [inner], DEPTH_MAX - 1)
        innermost = value
        while innermost[0] != 1:
            innermost = innermost[0]
        innermost[0] = [leaf]
        assert same(unpack_value(pack_value(value)), value)


def test_a_list_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="nested deeper"):
        pack_value(loop)


def test_the_size_limit_is_exact() -> None:
    overhead = len(pack_value(b"x" * 70_000)) - 70_000
    assert len(pack_value(b"x" * (VALUE_BYTES_MAX - overhead))) == VALUE_BYTES_MAX
    with pytest.raises(ValueTooLarge, match=rf"value of {VALUE_BYTES_MAX + 1} bytes is over the limit of"):
        pack_value(b"x" * (VALUE_BYTES_MAX - overhead + 1))
    with pytest.raises(ValueTooLarge, match="over the limit of 3"):
        pack_value("abc", bytes_max=3)


def extension(code: int, data: Any) -> bytes:
    packed: bytes = msgpack.packb(msgpack.ExtType(code, data if type(data) is bytes else msgpack.packb(data)))
    return packed


def in_tuples(levels: int, between: int = 0) -> bytes:
    """A blob of tuples inside tuples, with lists in between, as no client of ours would make it."""
    blob = b"\x90"
    for _ in range(levels):
        blob = b"\x91" * (between + 1) + extension(1, blob)
    return blob


@pytest.mark.parametrize(
    "blob",
    [
        *(b"", b"\xc1", b"\x92\x01", b"\x01\x02", b"\xa1\xff", b"\xdd\xff\xff\xff\xff", b"\x81\x90\x01"),
        *(extension(code, [1]) for code in (0, 4, 127)),
        *(extension(1, data) for data in (b"", b"\xc1", "ab", {1: 2}, 5, None)),
        *(extension(2, data) for data in ([], ["x", 0], ["2024-01-01", 2], [1, 0], ["2024-01-01"], "ab", 1)),
        *(extension(3, data) for data in ([], [10**10, 0, 0], ["a", 0, 0], [1, 2], [math.nan, 0, 0])),
        msgpack.packb(msgpack.Timestamp(1)),
        msgpack.packb([{"a": msgpack.Timestamp(1)}]),
        b"\x81" + extension(1, [1]) + b"\x01",  # a tuple as dict key: hashable, but nothing packs it
        b"\x91" * (DEPTH_MAX + 1) + b"\x01",
        b"\x91" * 1000 + b"\x01",
        b"\x91" * 100_000 + b"\x01",
        b"\x81\xa1k" * (DEPTH_MAX + 1) + b"\x01",
        *(in_tuples(levels) for levels in (DEPTH_MAX, DEPTH_MAX + 1, 400, 5000)),
        in_tuples(DEPTH_MAX - 2, between=100),
    ],
    ids=lambda blob: blob[:12].hex() + f"-{len(blob)}",
)
def test_a_hostile_blob_is_a_bad_request(blob: bytes) -> None:
    with pytest.raises(BadRequest, match="damaged value"):
        unpack_value(blob)


def test_hostile_nesting_does_not_exhaust_a_small_stack() -> None:
    refusals: list[str] = []

    def unpack() -> None:
        for levels in (DEPTH_MAX, 200, 2000):
            try:
                unpack_value(in_tuples(levels))
            except BadRequest as error:
                refusals.append(str(error))

    before = threading.stack_size(4 * 1024 * 1024)
    try:
        thread = threading.Thread(target=unpack)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert len(refusals) == 3


@pytest.mark.parametrize(
    "name", ["name", "ü" * 100, 0, -5, 2**64 - 1, b"\x00", ("a", 1, (b"x", ("y",)))], ids=repr
)
def test_a_name_comes_back(name: Name) -> None:
    assert same(unpack_name(pack_name(name)), name)


def test_names_of_different_types_never_share_a_key() -> None:
    names: list[Name] = [
        1,
        "1",
        b"1",
        (1,),
        ("1",),
        (b"1",),
        ((1,),),
        (1, 1),
        ("a", "b"),
        "ab",
        ("ab",),
        b"ab",
    ]
    assert len({pack_name(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    "name", [None, True, 1.0, [1], {}, Text("a"), Color.RED, ("a", None), (1, [2]), (True,)]
)
def test_a_name_of_another_type_is_refused(name: Any) -> None:
    with pytest.raises(TypeError, match="a name is a str, int, bytes or tuple, not "):
        pack_name(name)


@pytest.mark.parametrize("name", ["", b"", (), ("a", "")])
def test_an_empty_name_is_refused(name: Any) -> None:
    with pytest.raises(ValueError, match="a name must not be empty"):
        pack_name(name)


def test_names_that_are_too_long_too_deep_or_out_of_range_are_refused() -> None:
    assert len(pack_name("x" * (NAME_BYTES_MAX - 3))) == NAME_BYTES_MAX
    with pytest.raises(ValueTooLarge, match=f"name of {NAME_BYTES_MAX + 1} bytes is over the limit"):
        pack_name("x" * (NAME_BYTES_MAX - 2))
    with pytest.raises(ValueError, match="nested too deep"):
        pack_name(nested(lambda inner: (inner,), 9))
    with pytest.raises(ValueError, match="64 bits"):
        pack_name(2**64)
    with pytest.raises(ValueError, match="not valid Unicode"):
        pack_name("\ud800")
