"""Many seeds on all cores.

Invariants:
  1. Results come in any order; the first failure ends the batch, and everything that runs in it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Final

from raftcoord.testing.simulation.simulation import Result, simulate

SEEDS_PER_PROCESS: Final = 200  # then a worker is replaced, so that memory does not grow for ever

Patch = Callable[[], AbstractContextManager[object]]


def load_patch(text: str) -> Patch:
    """Return the context manager that "path/to/file.py:name" names. Its folder can be imported from.

    Raises:
        ValueError: there is no such file or name.
    """
    path_text, colon, name = text.rpartition(":")
    path = Path(path_text)
    if not colon or not path.is_file():
        raise ValueError(f"{text!r} is not path/to/file.py:name of a file that exists")
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    patch: Patch | None = getattr(module, name, None)
    if patch is None:
        raise ValueError(f"{path} has no {name!r}")
    return patch


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to end


def _simulate_patched(task: tuple[int, str | None]) -> Result:
    seed, patch = task
    with load_patch(patch)() if patch is not None else contextlib.nullcontext():
        return simulate(seed)


def run_batch(
    seeds: Iterable[int], *, jobs: int | None = None, patch: str | None = None
) -> Generator[Result, None, None]:
    """Run seeds side by side and yield what comes of them; closing the iterator ends the rest.

    Args:
        jobs: how many processes, as many as there are cores when None; 1 is this one.
        patch: see `load_patch`; put over production code in every process.
    """
    jobs = jobs or os.cpu_count() or 1
    tasks = ((seed, patch) for seed in seeds)
    if jobs == 1:
        yield from map(_simulate_patched, tasks)
        return
    context = multiprocessing.get_context("spawn")
    pool: Pool = context.Pool(jobs, _begin_worker, maxtasksperchild=SEEDS_PER_PROCESS)
    try:
        yield from pool.imap_unordered(_simulate_patched, tasks)
    finally:
        pool.terminate()
        pool.join()
