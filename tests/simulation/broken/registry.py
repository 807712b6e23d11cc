"""The table of broken variants, and how one is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final
from unittest import mock


@dataclass(frozen=True, slots=True)
class Variant:
    """One deliberate mistake. `apply` makes it for as long as its block runs; `what` says what is wrong."""

    name: str
    what: str
    apply: Callable[[], AbstractContextManager[None]]


VARIANTS: Final[dict[str, Variant]] = {}


def variant(make: Callable[[], Iterator[None]]) -> Variant:
    """Enter a generator function: its name and docstring are the variant's; it yields while it is broken."""
    name = make.__name__
    if name in VARIANTS:
        raise ValueError(f"two variants are named {name}")
    made = VARIANTS[name] = Variant(name, (make.__doc__ or "").strip(), contextmanager(make))
    return made


def patched(owner: Any, **new: Any) -> AbstractContextManager[Any]:
    """Replace attributes of a class or module while a block runs; they must exist."""
    patcher: AbstractContextManager[Any] = mock.patch.multiple(owner, **new)
    return patcher


class Unsynced:
    """A file or a disk whose syncs do nothing."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __repr__(self) -> str:
        return f"<Unsynced {self._inner!r}>"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def sync(self) -> None:
        """Do nothing."""

    def sync_directory(self, path: str) -> None:
        """Do nothing."""
