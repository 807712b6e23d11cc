"""What happens to a client when its process forks.

A child shares its parent's sockets and epoll sets. If it used or merely tore them down, it could send into
the parent's connections or take the parent's sockets out of its own event loop; if it kept them open, the
replicas would not see the parent die. So the child puts /dev/null in their place, under the same numbers, and
never frees the objects behind them.

Invariants:
  1. `generation` changes in a child before any user code runs there.
  2. A child's inherited descriptors of this package's sockets and loops refer to /dev/null.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

generation = 0

_descriptors: Final[dict[int, tuple[int, ...]]] = {}  # id of the owner -> its descriptors
_leaked_after_fork: Final[list[Any]] = []
_in_child: Final[list[Callable[[], None]]] = []


def watch(owner: object, *descriptors: int) -> None:
    """Remember descriptors that a child must not share, until `unwatch`."""
    _descriptors[id(owner)] = descriptors


def unwatch(owner: object) -> None:
    _descriptors.pop(id(owner), None)


def call_in_child(function: Callable[[], None]) -> None:
    """Have a function run in every forked child, before user code."""
    _in_child.append(function)


def leak(thing: object) -> None:
    """Keep a thing that a child inherited for ever, so that no destructor touches what is shared."""
    _leaked_after_fork.append(thing)


def _after_fork_in_child() -> None:
    global generation
    generation += 1
    inherited = {descriptor for owned in _descriptors.values() for descriptor in owned if descriptor >= 0}
    _descriptors.clear()
    if inherited:
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for descriptor in inherited:
            os.dup2(nothing, descriptor, inheritable=False)
        os.close(nothing)
    for function in _in_child:
        function()


os.register_at_fork(after_in_child=_after_fork_in_child)
