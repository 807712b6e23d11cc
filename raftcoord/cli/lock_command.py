"""`raftcoord lock NAME COMMAND…`: a command that runs only while a lock is held; and who holds it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Unpack

import click

from raftcoord import Client, ClientInfo, Lock
from raftcoord.cli.exits import Exit
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

EPILOG = f"""\b
Examples:
  raftcoord lock nightly-report -- ./report.sh --full
  raftcoord lock --timeout 0 leader -- python serve.py
  raftcoord lock --status leader

{EXIT_CODES}"""


@click.command(
    epilog=EPILOG, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("name")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--status", is_flag=True, help="Print who holds the lock and who waits, as JSON.")
@holding_options
@address_option
def lock(name: str, command: tuple[str, ...], status: bool, **holding: Unpack[Holding]) -> int:
    """Run COMMAND while holding the lock NAME, and exit with its status.

    The command finds the name in RAFTCOORD_LOCK_NAME and the fence, a number that grows with every grant,
    in RAFTCOORD_LOCK_FENCE. When the lock is lost, the command gets SIGTERM and a little later SIGKILL.
    """
    if status:
        if command:
            raise click.UsageError("--status runs no command")
        return _print_status(name, holding["address"])

    def take(client: Client, on_lost: Callable[[], object], timeout: float | None) -> Grant | None:
        held = Lock(name, client=client, on_lost=on_lost)
        return grant_of(held, NAME=name) if held.acquire(timeout=timeout) else None

    return run_while_held(
        take, command_of(command), what=f"lock {name!r}", variables="RAFTCOORD_LOCK", **holding
    )


def _print_status(name: str, address: str | None) -> int:
    with connected_client(address) as client:
        held = Lock(name, client=client)
        holder, waiters = held.holder(), held.waiters()
    print(
        json.dumps(
            {
                "holder": described(holder),
                "waiters": [described(waiter) for waiter in waiters],
            },
            ensure_ascii=False,
        )
    )
    return Exit.OK


def described(info: ClientInfo | None) -> dict[str, object] | None:
    """Return a client in terms of JSON; None for nobody."""
    return None if info is None else {"session": info.session_id, "client": info.name}
