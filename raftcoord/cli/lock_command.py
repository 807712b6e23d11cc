"""`raftcoord lock NAME COMMAND…`: a command that runs only while a lock is held; and who holds it."""

from __future__ import annotations

import json

import click

from raftcoord import ClientInfo, Lock
from raftcoord.cli.exits import Exit
from raftcoord.cli.guarded_command import EXIT_CODES, command_of, holding_options, run_while_held
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
def lock(
    name: str,
    command: tuple[str, ...],
    status: bool,
    timeout: float | None,
    ttl: float,
    kill_after: float,
    address: str | None,
) -> int:
    """Run COMMAND while holding the lock NAME, and exit with its status.

    The command finds the name in RAFTCOORD_LOCK_NAME and the fence, a number that grows with every grant,
    in RAFTCOORD_LOCK_FENCE. When the lock is lost, the command gets SIGTERM and a little later SIGKILL.
    """
    if status:
        if command:
            raise click.UsageError("--status runs no command")
        return _print_status(name, address)
    return run_while_held(
        lambda client, on_lost: Lock(name, client=client, on_lost=on_lost),
        command_of(command),
        variables="RAFTCOORD_LOCK",
        timeout=timeout,
        ttl=ttl,
        kill_after=kill_after,
        address=address,
    )


def _print_status(name: str, address: str | None) -> int:
    with connected_client(address) as client:
        held = Lock(name, client=client)
        holder, waiters = held.holder(), held.waiters()
    print(
        json.dumps(
            {
                "holder": None if holder is None else _described(holder),
                "waiters": [_described(waiter) for waiter in waiters],
            },
            ensure_ascii=False,
        )
    )
    return Exit.OK


def _described(info: ClientInfo) -> dict[str, object]:
    return {"session": info.session_id, "client": info.name}
