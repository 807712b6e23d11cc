"""`raftcoord multilock NAME… -- COMMAND…`: a command that runs only while several locks are held."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Unpack

import click

from raftcoord import Client, MultiLock
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
from raftcoord.cli.lock_command import described
from raftcoord.cli.options import address_option, connected_client

EPILOG = f"""\b
Examples:
  raftcoord multilock accounts orders -- ./move.sh
  raftcoord multilock gpu-0 gpu-1 gpu-2 --num-locks 2 -- python train.py
  raftcoord multilock --status gpu-0 gpu-1 gpu-2

{EXIT_CODES}"""


@click.command(cls=CommandAfterDashes, epilog=EPILOG)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--num-locks", type=click.IntRange(min=1), help="How many of them it takes.  [default: all]")
@click.option("--status", is_flag=True, help="Print who holds which of them, as JSON.")
@holding_options
@address_option
def multilock(
    names: tuple[str, ...],
    command: tuple[str, ...],
    num_locks: int | None,
    status: bool,
    **holding: Unpack[Holding],
) -> int:
    """Run COMMAND while holding all the locks NAME..., or any --num-locks of them, and exit with its status.

    The command finds the names that are held in RAFTCOORD_MULTILOCK_NAMES, a JSON list, and the fence, a
    number that grows with every grant, in RAFTCOORD_MULTILOCK_FENCE. When they are lost, the command gets
    SIGTERM and a little later SIGKILL. The names have nothing to do with those of `raftcoord lock`.
    """
    if status:
        if command:
            raise click.UsageError("--status runs no command")
        return _print_status(names, holding["address"])
    if num_locks is not None and num_locks > len(set(names)):
        raise click.UsageError("--num-locks is larger than the number of names")

    def take(client: Client, on_lost: Callable[[], object], timeout: float | None) -> Grant | None:
        held = MultiLock(names, client=client, on_lost=on_lost)
        if not held.acquire(timeout=timeout, num_locks=num_locks):
            return None
        return grant_of(held, NAMES=json.dumps(held.names_held, ensure_ascii=False))

    return run_while_held(
        take,
        command_of(command),
        what=f"multilock {' '.join(names)!r:.200}",
        variables="RAFTCOORD_MULTILOCK",
        **holding,
    )


def _print_status(names: tuple[str, ...], address: str | None) -> int:
    with connected_client(address) as client:
        holders = MultiLock(names, client=client).holders()
    print(json.dumps({name: described(holders.get(name)) for name in names}, ensure_ascii=False))
    return Exit.OK
