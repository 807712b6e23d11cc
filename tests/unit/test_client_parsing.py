"""Durations, addresses, back-off, and what the objects check before anything is sent."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest

from raftcoord import aio
from raftcoord.client import aio_queue
from raftcoord.client.addresses import ADDRESSES_MAX, parse_addresses, split_address
from raftcoord.client.aio_client import check_client_name
from raftcoord.client.aio_variable import NOT_GIVEN, UNSET, condition_of
from raftcoord.client.backoff import PAUSE_FIRST_S, PAUSE_LAST_S, Backoff
from raftcoord.client.heartbeat import silence_limit_s
from raftcoord.client.timeouts import parse_duration, parse_timeout
from raftcoord.protocol.errors import ValueTooLarge
from raftcoord.protocol.operations import BATCH_ITEMS_MAX
from raftcoord.runtime import SystemRng


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [
        (None, None),
        (float("inf"), None),
        (0, 0.0),
        (1.5, 1.5),
        (3, 3.0),
        ("200ms", 0.2),
        ("10s", 10.0),
        ("2m", 120.0),
        (" 1.5 h ", 5400.0),
        ("250 us", 0.00025),
        (".5s", 0.5),
        ("1e-2s", 0.01),
        ("7", 7.0),
        ("2 Minutes", 120.0),
        (datetime.timedelta(milliseconds=1500), 1.5),
    ],
)
def test_timeouts_as_users_write_them(timeout: Any, seconds: float | None) -> None:
    assert parse_timeout(timeout) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("timeout", "error"),
    [
        (-1, ValueError),
        (float("nan"), ValueError),
        ("", ValueError),
        ("ten", ValueError),
        ("10 parsecs", ValueError),
        ("-5s", ValueError),
        ("1s2s", ValueError),
        (datetime.timedelta(seconds=-1), ValueError),
        (True, TypeError),
        ([1], TypeError),
        (b"1s", TypeError),
    ],
)
def test_other_timeouts_are_refused(timeout: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="timeout"):
        parse_timeout(timeout)


@pytest.mark.parametrize("duration", [None, 0, "0s", float("inf"), -1])
def test_a_duration_is_finite_and_positive(duration: Any) -> None:
    with pytest.raises(ValueError, match="session_ttl"):
        parse_duration(duration, what="session_ttl")


def test_addresses_keep_their_order_and_lose_their_doubles() -> None:
    assert parse_addresses("a:1, b:2,a:1,, c") == ("a:1", "b:2", "c:7400")
    assert parse_addresses(["a:1", "[::1]:5", "[::1]"]) == ("a:1", "[::1]:5", "[::1]:7400")
    assert split_address("[fe80::1]:17") == ("fe80::1", 17)


@pytest.mark.parametrize(
    "address", ["", " , ", "a:0", "a:65536", "a:b", ":7400", "a b:1", "[::1", "[::1]7", "http://a:1", "a:²"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="address"):
        parse_addresses(address)


def test_too_many_addresses_are_refused() -> None:
    with pytest.raises(ValueError, match="limit"):
        parse_addresses([f"host:{port}" for port in range(1, ADDRESSES_MAX + 2)])
    anything: Any = [1]
    with pytest.raises(TypeError):
        parse_addresses(anything)


def test_pauses_grow_from_short_to_the_bound_and_start_over() -> None:
    backoff = Backoff(SystemRng())
    pauses = [backoff.next_s() for _ in range(60)]
    assert pauses[0] <= PAUSE_FIRST_S * 1.25
    assert all(PAUSE_LAST_S * 0.75 <= pause <= PAUSE_LAST_S * 1.25 for pause in pauses[-20:])
    assert sum(pauses[:10]) < 0.3  # ten rounds within the time of an election
    backoff.reset()
    assert backoff.next_s() <= PAUSE_FIRST_S * 1.25


@pytest.mark.parametrize("ttl_s", [0.5, 1.0, 1.5, 3.0, 10.0, 60.0])
def test_silence_is_noticed_while_the_session_can_still_be_saved(ttl_s: float) -> None:
    # At worst the replica stops right after it answered a keep-alive; the next is due ttl/3 later.
    assert ttl_s / 3 + silence_limit_s(ttl_s) * 1.25 < ttl_s


def test_conditions_of_compare_and_set() -> None:
    assert condition_of(UNSET, None) == []
    assert condition_of(None, None) == [b"\xc0"]
    assert condition_of(5, None) == [b"\x05"]
    assert condition_of(NOT_GIVEN, 12) == [12]
    assert condition_of(NOT_GIVEN, 0) == []
    for expected, revision in ((NOT_GIVEN, None), (5, 12)):
        with pytest.raises(TypeError, match="either"):
            condition_of(expected, revision)
    for bad in (-1, True, 1.0):
        with pytest.raises(ValueError, match="revision"):
            condition_of(NOT_GIVEN, bad)  # type: ignore[arg-type]


def test_batches_of_a_get() -> None:
    assert aio_queue.item_count(False) == 1
    assert aio_queue.item_count(True) == -1
    assert aio_queue.item_count(7) == 7
    for bad in (0, -1, BATCH_ITEMS_MAX + 1):
        with pytest.raises(ValueError, match="batch"):
            aio_queue.item_count(bad)
    with pytest.raises(TypeError, match="batch"):
        aio_queue.item_count("3")  # type: ignore[arg-type]


def test_a_batch_that_cannot_be_put_is_refused_whole() -> None:
    assert aio_queue.pack_items([1, "a"], 0) == [b"\x01", b"\xa1a"]
    with pytest.raises(ValueTooLarge, match="3 items"):
        aio_queue.pack_items(range(4), 3)
    with pytest.raises(ValueTooLarge, match=f"{BATCH_ITEMS_MAX} items"):
        aio_queue.pack_items(range(BATCH_ITEMS_MAX + 1), 0)
    with pytest.raises(ValueTooLarge, match="together"):
        aio_queue.pack_items([b"x" * 1_000_000] * 9, 0)
    with pytest.raises(TypeError, match="object"):
        aio_queue.pack_items([1, object()], 0)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: aio.Client("127.0.0.1:1", session_ttl="100ms", set_as_default=False), ValueError),
        (lambda: aio.Client("127.0.0.1:1", session_ttl="2h", set_as_default=False), ValueError),
        (lambda: aio.Client("127.0.0.1:1", timeout=None, set_as_default=False), ValueError),
        (lambda: aio.Client("127.0.0.1:1", name="x" * 200, set_as_default=False), ValueError),
        (lambda: check_client_name(5), TypeError),  # type: ignore[arg-type]
        (lambda: aio.Queue("q", maxsize=-1), ValueError),
        (lambda: aio.Queue("q", maxsize=True), TypeError),
        (lambda: aio.Variable("x", client="127.0.0.1:1"), TypeError),  # type: ignore[arg-type]
        (lambda: aio.Variable(""), ValueError),
        (lambda: aio.Variable(1.5), TypeError),  # type: ignore[arg-type]
        (lambda: aio.Variable("x" * 600), ValueTooLarge),
        (lambda: aio.Variable("x"), RuntimeError),
    ],
)
def test_bad_arguments_are_refused_where_they_are_given(
    make: Callable[[], object], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAFTCOORD_ADDRESS", raising=False)
    with pytest.raises(error):
        make()


def test_random_names_do_not_meet() -> None:
    client = aio.Client("127.0.0.1:1", set_as_default=False)
    names = {aio.Lock(client=client).name for _ in range(100)}
    assert len(names) == 100
