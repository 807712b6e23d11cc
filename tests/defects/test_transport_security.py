"""Strangers: what the stock library's sockets do with their bytes, and what ours do with the same ones."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pysyncobj.pickle as stock_pickle
import pytest
from harness import STOCK_LEAVES_FILES_OPEN
from loopback import free_addresses
from ours import Values
from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.encryptor import SALT

from raftcoord.consensus.engine import RaftEngine
from raftcoord.consensus.interface import EngineConfig
from raftcoord.consensus.library import running
from raftcoord.runtime import MonotonicClock, Runtime

pytestmark = STOCK_LEAVES_FILES_OPEN

EXECUTED: list[str] = []


def executed() -> None:
    """What an attacker would have run."""
    EXECUTED.append("code of a stranger")


class Payload:
    """Unpickling this calls a function."""

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        return executed, ()


def stock_frame(message: Any) -> bytes:
    data = zlib.compress(stock_pickle.dumps(message))
    return struct.pack("i", len(data)) + data


def dial(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=5)


class Stock:
    """One stock replica on a real socket."""

    def __init__(self, *others: str, **options: Any) -> None:
        (self.address,) = free_addresses(1)
        conf = SyncObjConf(autoTick=False, bindAddress=self.address, pollerType="select", **options)
        with running(MonotonicClock()):
            self.core: Any = SyncObj(self.address, list(others), conf)

    def run(self, seconds: float = 0.1) -> None:
        end_at = time.monotonic() + seconds
        with running(MonotonicClock()):
            while time.monotonic() < end_at:
                self.core.doTick(0.005)

    def close(self) -> None:
        with running(MonotonicClock()):
            self.core.destroy()


@pytest.fixture(autouse=True)
def _nothing_executed() -> Iterator[None]:
    EXECUTED.clear()
    yield
    EXECUTED.clear()


class Silent:
    """A listener that notes failures."""

    def __init__(self) -> None:
        self.failures: list[BaseException] = []

    def on_leader_ready(self, term: int) -> None:
        """Nothing to do."""

    def on_leadership_lost(self) -> None:
        """Nothing to do."""

    def after_turn(self) -> None:
        pass

    def on_fatal(self, error: BaseException) -> None:
        self.failures.append(error)


def answer_of_engine(folder: Path, *pieces: bytes) -> tuple[bytes, RaftEngine, Silent]:
    """Send bytes to a replica that waits for two others; return what came before it closed the connection."""
    addresses = free_addresses(3)
    config = EngineConfig(
        name="A",
        data_dir=str(folder / "A"),
        peers=dict(zip("ABC", addresses, strict=True)),
        client_address="",
        secret="secret",
        segment_bytes=1 << 16,
    )
    listener = Silent()

    async def converse() -> tuple[bytes, RaftEngine, Silent]:
        engine = RaftEngine(config, Runtime(), Values(), listener)
        await engine.start()
        host, _, port = config.peers["A"].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            answer = await asyncio.wait_for(reader.read(), 5)
        except (ConnectionResetError, BrokenPipeError):
            answer = b""
        finally:
            writer.close()
            await engine.stop()
        return answer, engine, listener

    return asyncio.run(converse())


def test_09a_the_stock_library_executes_what_a_stranger_sends() -> None:
    stock = Stock()
    with dial(stock.address) as stranger:
        stranger.sendall(stock_frame(Payload()))
        stock.run()
    stock.close()
    assert EXECUTED


def test_09a_the_stock_library_buffers_without_bound_before_any_greeting() -> None:
    stock = Stock()
    sent = 0
    with dial(stock.address) as stranger:
        stranger.settimeout(0.01)
        stranger.sendall(struct.pack("i", 2**31 - 1))
        end_at = time.monotonic() + 20
        while sent < 16 << 20 and time.monotonic() < end_at:
            try:
                sent += stranger.send(bytes(1 << 20))
            except TimeoutError:
                stock.run(0.01)
    stock.close()
    assert sent >= 16 << 20, "more than the two sockets hold"


def test_09a_the_engine_executes_nothing_and_closes(tmp_path: Path) -> None:
    _, _, listener = answer_of_engine(tmp_path, stock_frame(Payload()))
    assert not EXECUTED
    assert not listener.failures


@pytest.mark.parametrize("length", [2**32 - 1, 2**31 - 1, 65 * 1024])
def test_09a_the_engine_closes_at_the_announcement_of_too_much(length: int, tmp_path: Path) -> None:
    answer, _, listener = answer_of_engine(tmp_path, struct.pack(">I", length))
    assert answer == b""
    assert not listener.failures


def append_of(term: int) -> dict[str, Any]:
    return {
        "type": "append_entries",
        "term": term,
        "commit_index": 1,
        "entries": [],
        "prevLogIdx": 1,
        "prevLogTerm": 0,
    }


def test_09b_the_stock_library_believes_any_name_on_any_number_of_connections() -> None:
    others = ["255.0.0.1:1", "255.0.0.2:1"]  # behind its own name, so that it waits to be dialled
    stock = Stock(*others)
    with dial(stock.address) as first, dial(stock.address) as second:
        first.sendall(stock_frame(others[0]))
        stock.run()
        second.sendall(stock_frame(others[0]))
        stock.run()
        second.sendall(stock_frame(append_of(9)))
        stock.run()
        first.sendall(stock_frame(append_of(9)))
        stock.run()
    assert stock.core.raftCurrentTerm >= 9
    assert str(stock.core._getLeader()) == others[0]
    stock.close()


def test_09b_the_engine_believes_no_name_without_its_secret(tmp_path: Path) -> None:
    answer, engine, _ = answer_of_engine(
        tmp_path, stock_frame("B"), stock_frame(append_of(9)), stock_frame(append_of(8))
    )
    assert engine.status().term == 0
    assert engine.status().leader is None
    assert b"append" not in answer


def test_09c_the_stock_library_lets_anybody_change_its_members() -> None:
    stock = Stock(dynamicMembershipChange=True)
    stock.run(2)
    with dial(stock.address) as stranger:
        stranger.sendall(stock_frame(["add", "127.0.0.1:1"]))
        stock.run(0.5)
    assert [str(node) for node in stock.core.otherNodes] == ["127.0.0.1:1"]
    stock.close()


def test_09c_the_stock_library_salts_its_keys_with_a_constant() -> None:
    assert type(SALT) is bytes
    assert SALT, "the same for every cluster that there is, so keys can be looked up in a table"


@pytest.mark.parametrize("message", [["add", "127.0.0.1:1"], ["remove", "B"], "readonly", ["status"]])
def test_09c_the_engine_has_no_such_messages(message: Any, tmp_path: Path) -> None:
    answer, engine, listener = answer_of_engine(tmp_path, stock_frame(message))
    assert answer == b""
    assert sorted(peer.name for peer in engine.status().peers) == ["B", "C"]
    assert not listener.failures
