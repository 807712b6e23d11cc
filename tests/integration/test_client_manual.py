"""The examples in docs/client.md run, and their values are those that the comments say."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import raftcoord
from raftcoord import aio
from raftcoord.testing.local_cluster import LocalCluster

MANUAL = Path(__file__).parents[2] / "docs" / "client.md"
SECTIONS = [
    *("Variable", "Queue", "Claims", "Lock", "What is held, and what is lost", "RLock", "RWLock"),
    *("MultiLock", "Semaphore", "Event", "Pub and Sub"),
]


def example(section: str) -> str:
    """Return the first Python block of a section."""
    text = re.split(rf"^##+ {re.escape(section)}\n", MANUAL.read_text("utf-8"), flags=re.MULTILINE)[1]
    return text.split("```python\n")[1].split("```")[0]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as cluster:
        yield cluster


def run(source: str, names: dict[str, Any]) -> list[tuple[str, Any]]:
    """Run an example statement by statement; return each plain expression's comment with its value."""
    lines = source.splitlines()
    shown: list[tuple[str, Any]] = []
    for statement in ast.parse(source).body:
        if not isinstance(statement, ast.Expr):
            exec(compile(ast.Module([statement], []), "example", "exec"), names)
            continue
        comment = lines[statement.lineno - 1].partition("  # ")[2]
        try:
            value = eval(compile(ast.Expression(statement.value), "example", "eval"), names)
        except raftcoord.RaftcoordError as error:
            value = error
        shown.append((comment, value))
    return shown


@pytest.mark.parametrize("section", SECTIONS)
def test_an_example_runs(section: str, cluster: LocalCluster) -> None:
    with raftcoord.Client(cluster.address):
        names: dict[str, Any] = {"raftcoord": raftcoord, "aio": aio, "asyncio": asyncio}
        with contextlib.redirect_stdout(io.StringIO()):
            shown = run(example(section), names)
    compared = 0
    for comment, value in shown:
        expected = re.match(r"(True|False|None|\d+(?= )|\{.*?\}|\[.*?\]|'[^']*')", comment)
        if expected is not None:
            compared += 1
            assert value == ast.literal_eval(expected[0]), comment
        elif comment.startswith("CallTimeout"):
            continue  # says when
        else:
            assert not isinstance(value, Exception), (comment, value)
    assert compared or section in ("Claims", "What is held, and what is lost", "RLock", "RWLock")


def test_the_guarded_report_runs(cluster: LocalCluster) -> None:
    names: dict[str, Any] = {"aio": aio, "asyncio": asyncio}
    run(example("What is held, and what is lost"), names)

    async def report() -> None:
        async with aio.Client(cluster.address, set_as_default=False) as client:
            await names["report"](aio.Lock("report", client))

    asyncio.run(report())


def test_what_a_comment_says_is_compared() -> None:
    assert run("x = 1\nx + 1  # 2 of them\nx  # nothing", {}) == [("2 of them", 2), ("nothing", 1)]
