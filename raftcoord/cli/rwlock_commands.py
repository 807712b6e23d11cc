"""`raftcoord rwlock …`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Unpack

import click

from raftcoord import Client, RWLock
from raftcoord.cli.exits import Exit
from raftcoord.cli.guarded_command import (
    EXIT_CODES,
    CommandAfterDashes,
    Grant,
    Holding,
    command_of,
    grant_of,
    holding_options,
    run_while_held,
)
from raftcoord.cli.options import address_option, connected_client


@click.group(no_args_is_help=False)
def rwlock() -> None:
    """Let many commands read together, or one write alone."""


@rwlock.command(
    "read",
    cls=CommandAfterDashes,
    epilog=f"\b\nExample:\n  raftcoord rwlock read table --timeout 10s -- ./report.sh --full\n\n{EXIT_CODES}",
)
@click.argument("name")
@holding_options
@address_option
def read(name: str, command: tuple[str, ...], **holding: Unpack[Holding]) -> int:
    """Run COMMAND while holding the lock NAME together with other readers, and exit with its status.

    The command finds the name in RAFTCOORD_RWLOCK_NAME and the fence, a number that grows with every grant,
    in RAFTCOORD_RWLOCK_FENCE. When the lock is lost, the command gets SIGTERM and a little later SIGKILL.
    """
    return _run(name, True, command, holding)


@rwlock.command(
    "write",
    cls=CommandAfterDashes,
    epilog=f"\b\nExample:\n  raftcoord rwlock write table -- ./import.sh\n\n{EXIT_CODES}",
)
@click.argument("name")
@holding_options
@address_option
def write(name: str, command: tuple[str, ...], **holding: Unpack[Holding]) -> int:
    """Run COMMAND while holding the lock NAME alone, and exit with its status; otherwise like `read`."""
    return _run(name, False, command, holding)


def _run(name: str, shared: bool, command: tuple[str, ...], holding: Holding) -> int:
    def take(client: Client, on_lost: Callable[[], object], timeout: float | None) -> Grant | None:
        held = RWLock(name, client=client, on_lost=on_lost)
        acquire = held.acquire_read if shared else held.acquire_write
        return grant_of(held, NAME=name) if acquire(timeout=timeout) else None

    return run_while_held(
        take, command_of(command), what=f"rwlock {name!r}", variables="RAFTCOORD_RWLOCK", **holding
    )


@rwlock.command("status", epilog="\b\nExample:\n  raftcoord rwlock status table")
@click.argument("name")
@address_option
def status(name: str, address: str | None) -> int:
    """Print as JSON how many write, how many read, and how many wait."""
    with connected_client(address) as client:
        print(json.dumps(RWLock(name, client=client).status()._asdict()))
    return Exit.OK
