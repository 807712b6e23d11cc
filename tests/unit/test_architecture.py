"""The rules of the code base that a reader would otherwise have to check by hand.

Each rule is a function from source text to complaints, so that the second half of this file can feed it
text that breaks the rule and see it complain.

Rules:
  1. Packages import only what `MAY_IMPORT` lists; `client` and the top level may import `testing` inside a
     function only, since it starts servers.
  2. `machine` and `protocol` touch nothing but plain values: standard modules from an allow-list, and no
     call that reads the world or depends on the process (`open`, `hash`, `datetime.now`, …).
  3. Libraries stay where they belong: `pysyncobj` in `consensus`, and so on (`HOME_OF_LIBRARY`).
  4. Nothing is ever unpickled, and nothing is executed from text.
  5. Files have at most 450 lines, functions at most 60.
  6. Documents name no folder of somebody's machine, and their relative links lead somewhere.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "raftcoord"
TOP = "top level"
FILE_LINES_MAX = 450
FUNCTION_LINES_MAX = 60

EVERYTHING = frozenset(
    {"protocol", "machine", "runtime", "consensus", "server", "client", "testing", "cli", "demo", "dask", TOP}
)
MAY_IMPORT: dict[str, frozenset[str]] = {
    "protocol": frozenset(),
    "runtime": frozenset(),
    "machine": frozenset({"protocol"}),
    "consensus": frozenset({"machine", "protocol", "runtime"}),
    "server": frozenset({"consensus", "machine", "protocol", "runtime"}),
    "client": frozenset({"protocol", "runtime"}),
    "dask": frozenset({"client", "protocol", TOP}),
    "cli": frozenset({"server", "client", "testing", "protocol", "runtime", "demo", TOP}),
    "demo": frozenset({"client", "testing", "protocol", TOP}),
    "testing": EVERYTHING,
    TOP: frozenset({"client", "protocol"}),
}
MAY_IMPORT_LAZILY: dict[str, frozenset[str]] = {
    "client": frozenset({"testing"}),
    TOP: frozenset({"testing"}),
}
PURE_PACKAGES = frozenset({"machine", "protocol"})
PURE_MODULES = frozenset(
    {
        "__future__",
        "abc",
        "bisect",
        "collections",
        "dataclasses",
        "datetime",
        "enum",
        "functools",
        "heapq",
        "itertools",
        "math",
        "msgpack",
        "msgspec",
        "operator",
        "struct",
        "typing",
        "zlib",
    }
)
IMPURE_CALLS = frozenset({"open", "print", "input", "hash", "globals", "now", "utcnow", "today"})
HOME_OF_LIBRARY = {
    "pysyncobj": frozenset({"consensus"}),
    "dask": frozenset({"dask"}),
    "distributed": frozenset({"dask"}),
    "click": frozenset({"cli"}),
    "rich": frozenset({"cli", "demo"}),
    "aiohttp": frozenset({"server"}),
    "prometheus_client": frozenset({"server"}),
    "pytest": frozenset({"testing"}),
    "grpc": frozenset[str](),
}
CODE_LOADERS = frozenset({"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve"})
CODE_RUNNERS = frozenset({"eval", "exec", "compile", "__import__", "Unpickler"})
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:home|mnt|root|tmp|Users|work)/")
MARKDOWN_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module, and whether it is imported inside a function or for type checkers only."""

    module: str
    lazy: bool
    line: int


def imports_of(tree: ast.Module) -> Iterator[Import]:
    """Yield every import of a module; `from a import b` counts as `a.b`, which may be a name inside a."""
    pending: list[tuple[ast.AST, bool]] = [(tree, False)]
    while pending:
        node, lazy = pending.pop()
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, lazy, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            for alias in node.names:
                yield Import(f"{prefix}.{alias.name}", lazy, node.lineno)
        inner = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _is_type_checking(node)
        pending.extend((child, inner) for child in ast.iter_child_nodes(node))


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def package_of(path: Path) -> str:
    """Return the part of the package that a file belongs to; `path` is relative to the repository."""
    return path.parts[1] if len(path.parts) > 2 else TOP


def target_package(module: str) -> str | None:
    """Return the part of the package that an import names; None for other libraries and for `version`."""
    parts = module.split(".")
    if parts[0] != PACKAGE:
        return None
    if len(parts) > 1 and parts[1] in EVERYTHING:
        return parts[1]
    return None if parts[1:2] in (["version"], ["__version__"]) else TOP


def import_complaints(path: Path, source: str) -> Iterator[str]:
    """Rules 1 to 4, as far as imports can break them."""
    package = package_of(path)
    for item in imports_of(ast.parse(source)):
        library, where = item.module.split(".")[0], f"{path}:{item.line}"
        if not library:
            yield f"{where}: relative import"
            continue
        if CODE_LOADERS & set(item.module.split(".")):
            yield f"{where}: imports {item.module}, which can execute what it loads"
        if package not in HOME_OF_LIBRARY.get(library, {package}):
            yield f"{where}: {library} does not belong in {package}"
            continue
        target = target_package(item.module)
        if target is None or target == package:
            if package in PURE_PACKAGES and library not in PURE_MODULES | {PACKAGE}:
                yield f"{where}: {package} is pure and must not import {library}"
            continue
        lazily = MAY_IMPORT_LAZILY.get(package, frozenset()) if item.lazy else frozenset()
        if target not in MAY_IMPORT[package] | lazily:
            yield f"{where}: {package} must not import {target}"


def call_complaints(path: Path, source: str) -> Iterator[str]:
    """Rules 2 and 4, as far as calls can break them."""
    forbidden = CODE_RUNNERS | (IMPURE_CALLS if package_of(path) in PURE_PACKAGES else frozenset())
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name):
            name = node.func.id
        elif isinstance(node.func, ast.Attribute) and node.func.attr not in {"compile", "open", "print"}:
            name = node.func.attr  # re.compile and the like are not the builtins of that name
        else:
            continue
        if name in forbidden:
            yield f"{path}:{node.lineno}: calls {name}()"


def size_complaints(path: Path, source: str) -> Iterator[str]:
    """Rule 5."""
    lines = source.count("\n")
    if lines > FILE_LINES_MAX:
        yield f"{path}: {lines} lines"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                yield f"{path}:{node.lineno}: {node.name} has {length} lines"


def document_complaints(path: Path, text: str) -> Iterator[str]:
    """Rule 6; `path` is absolute, so that links can be followed."""
    for number, line in enumerate(text.splitlines(), start=1):
        if MACHINE_PATHS.search(line):
            yield f"{path}:{number}: names a folder of one machine: {line.strip()}"
        for target in MARKDOWN_LINK.findall(line):
            file = target.partition("#")[0]
            if file and "://" not in file and not (path.parent / file).exists():
                yield f"{path}:{number}: dead link {target}"


def sources(*folders: str) -> list[Path]:
    return [
        file.relative_to(ROOT)
        for folder in folders
        for file in sorted((ROOT / folder).rglob("*.py"))
        if "__pycache__" not in file.parts
    ]


def text_of(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def test_packages_import_only_what_lies_below_them() -> None:
    files = sources(PACKAGE)
    assert files
    assert not [line for file in files for line in import_complaints(file, text_of(file))]


def test_every_package_has_a_rule() -> None:
    assert {package_of(file) for file in sources(PACKAGE)} <= set(MAY_IMPORT)


def test_nothing_runs_code_and_pure_packages_do_not_touch_the_world() -> None:
    assert not [line for file in sources(PACKAGE) for line in call_complaints(file, text_of(file))]


def test_files_and_functions_are_small() -> None:
    files = sources(PACKAGE, "benchmarks", "examples", "tests")
    assert not [line for file in files for line in size_complaints(file, text_of(file))]


def test_documents_are_free_of_machine_paths_and_dead_links() -> None:
    files = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    assert files
    assert not [line for file in files for line in document_complaints(file, file.read_text("utf-8"))]


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        ("protocol/x.py", "from raftcoord.machine import Machine", "protocol must not import machine"),
        ("protocol/x.py", "import raftcoord", "protocol must not import top level"),
        ("machine/x.py", "import raftcoord.runtime.clock", "machine must not import runtime"),
        ("machine/x.py", "from raftcoord import consensus", "machine must not import consensus"),
        ("machine/x.py", "import time", "machine is pure and must not import time"),
        ("machine/x.py", "def f():\n    import os.path", "machine is pure and must not import os"),
        ("protocol/x.py", "from random import random", "protocol is pure and must not import random"),
        ("protocol/x.py", "import asyncio", "protocol is pure and must not import asyncio"),
        ("protocol/x.py", "from logging import getLogger", "protocol is pure and must not import logging"),
        ("machine/x.py", "import pysyncobj", "pysyncobj does not belong in machine"),
        ("server/x.py", "from pysyncobj import SyncObj", "pysyncobj does not belong in server"),
        ("testing/x.py", "import pysyncobj.journal", "pysyncobj does not belong in testing"),
        ("client/x.py", "from raftcoord.server import config", "client must not import server"),
        ("client/x.py", "from raftcoord.testing import LocalCluster", "client must not import testing"),
        ("client/x.py", "def f():\n    import raftcoord.server", "client must not import server"),
        ("server/x.py", "from raftcoord.client import Client", "server must not import client"),
        ("client/x.py", "from distributed import Client", "distributed does not belong in client"),
        ("testing/x.py", "def f():\n    import dask.config", "dask does not belong in testing"),
        ("__init__.py", "from raftcoord.dask import Lock", "top level must not import dask"),
        ("client/x.py", "from raftcoord.dask import Lock", "client must not import dask"),
        ("dask/x.py", "from raftcoord.server import config", "dask must not import server"),
        ("cli/x.py", "from raftcoord.consensus.engine import E", "cli must not import consensus"),
        ("__init__.py", "from raftcoord.testing import LocalCluster", "top level must not import testing"),
        ("consensus/x.py", "from . import journal", "relative import"),
        ("consensus/x.py", "import pickle", "imports pickle"),
        ("client/x.py", "from pickle import loads", "imports pickle.loads"),
        ("client/x.py", "import cloudpickle as c", "imports cloudpickle"),
        ("consensus/x.py", "from pysyncobj import pickle", "imports pysyncobj.pickle"),
        ("server/x.py", "def f():\n    import marshal", "imports marshal"),
    ],
)
def test_the_import_checker_complains(file: str, source: str, complaint: str) -> None:
    found = list(import_complaints(Path(PACKAGE) / file, source))
    assert len(found) == 1, found
    assert complaint in found[0]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("client/x.py", "def f():\n    from raftcoord.testing import LocalCluster"),
        ("client/x.py", "if TYPE_CHECKING:\n    from raftcoord.testing import LocalCluster"),
        ("consensus/x.py", "import pysyncobj\nfrom raftcoord.protocol.errors import Code"),
        (
            "machine/x.py",
            "import zlib\nfrom raftcoord.protocol import values\nimport raftcoord.machine.queue",
        ),
        ("dask/x.py", "import dask\nfrom distributed import Client\nfrom raftcoord import aio"),
        ("server/x.py", "import os, asyncio\nfrom raftcoord.version import __version__"),
    ],
)
def test_the_import_checker_allows_what_the_layout_allows(file: str, source: str) -> None:
    assert not list(import_complaints(Path(PACKAGE) / file, source))


@pytest.mark.parametrize(
    ("file", "source", "name"),
    [
        ("server/x.py", "eval(text)", "eval"),
        ("server/x.py", "pysyncobj.pickle.Unpickler(file)", "Unpickler"),
        ("client/x.py", "exec(text)", "exec"),
        ("machine/x.py", "order = hash(name)", "hash"),
        ("machine/x.py", "with open(path) as file: pass", "open"),
        ("protocol/x.py", "stamp = datetime.datetime.now()", "now"),
    ],
)
def test_the_call_checker_complains(file: str, source: str, name: str) -> None:
    assert list(call_complaints(Path(PACKAGE) / file, source)) == [f"{PACKAGE}/{file}:1: calls {name}()"]


def test_the_call_checker_allows_the_world_elsewhere() -> None:
    assert not list(call_complaints(Path("raftcoord/runtime/disk.py"), "open(path)\nre.compile('a')"))


def test_the_size_checker_complains() -> None:
    body = "    pass\n" * FUNCTION_LINES_MAX
    path = Path("raftcoord/x.py")
    assert list(size_complaints(path, "async def f():\n" + body)) == ["raftcoord/x.py:1: f has 61 lines"]
    assert list(size_complaints(path, "pass\n" * 451)) == ["raftcoord/x.py: 451 lines"]
    assert not list(size_complaints(path, "def f():\n" + body[:-9] + "pass\n" * 390))


def test_the_document_checker_complains(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    (tmp_path / "there.md").write_text("")
    assert not list(document_complaints(page, "[a](there.md#part) [b](https://x.org/y) [c](#here) a/work/b"))
    assert "dead link gone.md" in next(document_complaints(page, "see [a](gone.md)"))
    for path in ("/work/src/x", "`/root/.cache`", "/tmp/data/v", "/home/me/src"):
        assert "one machine" in next(document_complaints(page, f"look at {path} now")), path
