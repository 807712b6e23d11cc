"""The synchronous objects have the methods of the asyncio ones: same arguments, defaults and types."""

from __future__ import annotations

import inspect
import pickle
import typing
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import raftcoord
from raftcoord import aio

PAIRS = [
    (getattr(raftcoord, name), getattr(aio, name))
    for name in (
        *("Variable", "Queue", "Claim", "Lock", "RLock", "RWLock", "MultiLock", "Semaphore", "Event"),
        *("Pub", "Sub", "Client"),
    )
]
ONLY_AIO: dict[type, set[str]] = {  # what the asyncio objects use, and what threads cannot have
    aio.Client: {"request", "follow", "core"},
    aio.Sub: {"subscribe"},
    **{kind: {"guard"} for kind in (aio.Lock, aio.RLock, aio.MultiLock, aio.Semaphore, aio.Claim)},
    aio.RWLock: {"guard_read", "guard_write"},
}
ONLY_SYNC: dict[type, set[str]] = {raftcoord.Client: {"run", "aio"}}  # what the facades use
RENAMED = {
    "__enter__": "__aenter__",
    "__exit__": "__aexit__",
    "__iter__": "__aiter__",
    "__next__": "__anext__",
}
SAME_TWICE = {"AIO", "KIND", "ERRORS"}


def public(kind: type, only: dict[type, set[str]]) -> set[str]:
    """Return the names of what users call; those of the protocols of `with` and `async with` made alike."""
    names = {name for name in dir(kind) if not name.startswith("_")}
    names |= {asynchronous for sync, asynchronous in RENAMED.items() if {sync, asynchronous} & set(dir(kind))}
    return (names | {"__init__"}) - only.get(kind, set()) - SAME_TWICE


@pytest.mark.parametrize(("sync", "asynchronous"), PAIRS)
def test_the_names_are_the_same(sync: type, asynchronous: type) -> None:
    assert public(sync, ONLY_SYNC) == public(asynchronous, ONLY_AIO)


def _text(annotation: object) -> str:
    """Return an annotation as text, with what must differ between the two made alike."""
    text = inspect.formatannotation(annotation)
    for before, after in (
        ("AsyncIterator", "Iterator"),
        ("AbstractAsyncContextManager", "AbstractContextManager"),
        ("aio_client.", ""),
        ("raftcoord.aio.", ""),
    ):
        text = text.replace(before, after)
    return text


@pytest.mark.parametrize(("sync", "asynchronous"), PAIRS)
def test_the_signatures_are_the_same(sync: type, asynchronous: type) -> None:
    for name in sorted(public(sync, ONLY_SYNC) - set(RENAMED.values())):
        ours, theirs = getattr(sync, name), getattr(asynchronous, name)
        if isinstance(ours, property):
            assert isinstance(theirs, property), name
            continue
        left, right = inspect.signature(ours), inspect.signature(theirs)
        left_parameters, right_parameters = dict(left.parameters), dict(right.parameters)
        right_parameters.pop("runtime", None)  # simulations run on asyncio only
        assert list(left_parameters) == list(right_parameters), name
        for key, parameter in left_parameters.items():
            other = right_parameters[key]
            assert (parameter.kind, parameter.default) == (other.kind, other.default), f"{name}({key})"
            assert _text(parameter.annotation) == _text(other.annotation), f"{name}({key})"
        assert _text(left.return_annotation) == _text(right.return_annotation), name


@pytest.mark.parametrize(("sync", "asynchronous"), PAIRS)
def test_every_public_method_is_documented(sync: type, asynchronous: type) -> None:
    for kind in (sync, asynchronous):
        for name in public(kind, {}) - set(RENAMED.values()) - {"__init__"}:
            member = inspect.getattr_static(kind, name)
            target = member.fget if isinstance(member, property) else member
            trivial = isinstance(member, property) and name in {
                "name",
                "client",
                "state",
                "closed",
                "maxsize",
                "max_leases",
            }
            assert trivial or inspect.getdoc(target), f"{kind.__name__}.{name}"


def test_watch_is_an_iterator_of_its_kind() -> None:
    assert typing.get_origin(typing.get_type_hints(raftcoord.Variable.watch)["return"]) is Iterator
    assert typing.get_origin(typing.get_type_hints(aio.Variable.watch)["return"]) is AsyncIterator


def test_objects_use_the_client_created_last_that_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAFTCOORD_ADDRESS", raising=False)
    first = raftcoord.Client("127.0.0.1:1")
    second = raftcoord.Client("127.0.0.1:2")
    third = raftcoord.Client("127.0.0.1:3", set_as_default=False)
    assert raftcoord.Variable("x").client is second is raftcoord.get_client()
    assert raftcoord.Lock("x", client=third).client is third
    second.close()
    assert raftcoord.Queue("x").client is first
    first.close()
    with pytest.raises(RuntimeError, match="RAFTCOORD_ADDRESS"):
        raftcoord.Variable("x")
    monkeypatch.setenv("RAFTCOORD_ADDRESS", "127.0.0.1:4, 127.0.0.1:5")
    shared = raftcoord.Variable("x").client
    assert shared.address == "127.0.0.1:4,127.0.0.1:5"
    assert raftcoord.Variable("y").client is shared
    shared.close()
    third.close()


def test_handles_wake_up_with_the_client_of_their_address() -> None:
    client = raftcoord.Client("127.0.0.1:1,127.0.0.1:2", set_as_default=False)
    originals = [
        raftcoord.Variable(("x", 1), client),
        raftcoord.Queue(b"q", 5, client),
        raftcoord.Lock(7, client),
    ]
    first, second, third = pickle.loads(pickle.dumps(originals))  # noqa: S301 - our own, made a line above
    assert (first.name, second.name, third.name) == (("x", 1), b"q", 7)
    assert second.maxsize == 5
    assert first.client is second.client is third.client is not client
    assert first.client.address == client.address
    assert pickle.loads(pickle.dumps(client)) is first.client  # noqa: S301 - our own
    first.client.close()
    current = raftcoord.Client("127.0.0.1:2,127.0.0.1:1")
    assert pickle.loads(pickle.dumps(originals[0])).client is current  # noqa: S301 - our own
    current.close()
    client.close()


HANDLES: dict[str, Callable[[Any, Any], Any]] = {
    "Queue": lambda flavour, client: flavour.Queue("q", 3, client, deliveries_max=2, dead_letter=("dead", 1)),
    "RLock": lambda flavour, client: flavour.RLock("r", client),
    "RWLock": lambda flavour, client: flavour.RWLock("rw", client),
    "MultiLock": lambda flavour, client: flavour.MultiLock(["a", ("b", 1), "a"], client),
    "Semaphore": lambda flavour, client: flavour.Semaphore(4, "s", client),
    "Event": lambda flavour, client: flavour.Event("e", client),
    "Pub": lambda flavour, client: flavour.Pub(
        "p", client, retention_count=7, retention_bytes=70, retention_age="7s"
    ),
    "Sub": lambda flavour, client: flavour.Sub("p", 9, client, prefetch=5),
}


@pytest.mark.parametrize("kind", HANDLES)
def test_handles_wake_up_with_their_options(kind: str) -> None:
    for flavour in (raftcoord, aio):
        client = flavour.Client("127.0.0.1:1", set_as_default=False)
        original = HANDLES[kind](flavour, client)
        woken = pickle.loads(pickle.dumps(original))  # noqa: S301 - our own
        assert type(woken) is type(original) is getattr(flavour, kind)
        assert woken._options() == original._options()
        assert woken.client.address == client.address
        assert len(woken._options()) == len(inspect.signature(type(original)).parameters) - NOT_PICKLED[kind]
        if flavour is raftcoord:
            woken.client.close()
            client.close()


NOT_PICKLED = {  # the client is, apart from the options; callbacks are not
    **dict.fromkeys(("Queue", "Event", "Pub"), 1),
    **dict.fromkeys(("RLock", "RWLock", "MultiLock", "Semaphore", "Sub"), 2),
}


def test_a_claim_is_not_pickled() -> None:
    client = aio.Client("127.0.0.1:1", set_as_default=False)
    with pytest.raises(TypeError, match="claim"):
        pickle.dumps(aio.Queue("q", client=client).claim())


def test_aio_handles_wake_up_as_well() -> None:
    client = aio.Client("127.0.0.1:1", set_as_default=False)
    variable, queue = pickle.loads(  # noqa: S301 - our own
        pickle.dumps([aio.Variable("x", client), aio.Queue("q", 3, client)])
    )
    assert (type(variable), variable.name, queue.maxsize) == (aio.Variable, "x", 3)
    assert variable.client is queue.client
    embedded = aio.Client.__new__(aio.Client)
    embedded._addresses = None
    with pytest.raises(RuntimeError, match="connect first"):
        _ = embedded.address
