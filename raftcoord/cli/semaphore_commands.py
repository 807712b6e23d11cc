"""`raftcoord semaphore …`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Unpack

import click

from raftcoord import Client, Semaphore
from raftcoord.cli.exits import CommandError, Exit
from raftcoord.cli.guarded_command import (
    EXIT_CODES,
    Grant,
    Holding,
    command_of,
    grant_of,
    holding_options,
    run_while_held,
)
from raftcoord.cli.options import address_option, connected_client


@click.group(no_args_is_help=False)
def semaphore() -> None:
    """Bound how many commands run at a time, on all machines together."""


@semaphore.command(
    "run",
    epilog=f"\b\nExample:\n  raftcoord semaphore run --max-leases 4 downloads -- ./fetch.sh\n\n{EXIT_CODES}",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option(
    "--max-leases",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many may run; the first one decides.",
)
@holding_options
@address_option
def run(name: str, command: tuple[str, ...], max_leases: int, **holding: Unpack[Holding]) -> int:
    """Run COMMAND while holding a lease of the semaphore NAME, and exit with its status.

    The command finds the name in RAFTCOORD_SEMAPHORE_NAME and the number of the lease, which grows with every
    grant, in RAFTCOORD_SEMAPHORE_FENCE. When it is lost, the command gets SIGTERM and a little later SIGKILL.
    """

    def take(client: Client, on_lost: Callable[[], object], timeout: float | None) -> Grant | None:
        held = Semaphore(max_leases, name, client=client, on_lost=on_lost)
        return grant_of(held, NAME=name) if held.acquire(timeout=timeout) else None

    return run_while_held(
        take, command_of(command), what=f"semaphore {name!r}", variables="RAFTCOORD_SEMAPHORE", **holding
    )


@semaphore.command("status", epilog="\b\nExample:\n  raftcoord semaphore status downloads")
@click.argument("name")
@address_option
def status(name: str, address: str | None) -> int:
    """Print as JSON how many leases there are, how many are held, and how many wait for one.

    Exit code 1 when there is no such semaphore.
    """
    with connected_client(address) as client:
        found = Semaphore(name=name, client=client).status()
    if found is None:
        raise CommandError(f"semaphore {name!r} does not exist")
    print(json.dumps(found._asdict()))
    return Exit.OK


@semaphore.command("close", epilog="\b\nExample:\n  raftcoord semaphore close downloads")
@click.argument("name")
@address_option
def close(name: str, address: str | None) -> int:
    """Remove a semaphore: its leases are void, and who waits for one is told."""
    with connected_client(address) as client:
        Semaphore(name=name, client=client).close()
    return Exit.OK
