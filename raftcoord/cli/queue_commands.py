"""`raftcoord queue …`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Unpack

import click

from raftcoord import CallTimeout, Claim, Client, OutcomeUnknown, Queue, QueueClosed
from raftcoord.cli.exits import CommandError, Exit
from raftcoord.cli.guarded_command import (
    EXIT_CODES,
    CommandAfterDashes,
    Grant,
    Holding,
    command_of,
    holding_options,
    run_while_held,
)
from raftcoord.cli.options import address_option, connected_client, effective_timeout, wait_options
from raftcoord.cli.values import parse_value, print_value, shown
from raftcoord.protocol.operations import DELIVERIES_MAX

# Linux takes 128 KiB for one variable, its name included; a command with a longer one could not be started.
_ITEM_VARIABLE_BYTES_MAX: Final = 100_000


@click.group(no_args_is_help=False)
def queue() -> None:
    """Put and take items. Values are JSON, or text when they are not."""


@queue.command("put", epilog="\b\nExample:\n  raftcoord queue put jobs '{\"id\": 7}' '{\"id\": 8}'")
@click.argument("name")
@click.argument("values", nargs=-1, required=True)
@click.option("--maxsize", type=click.IntRange(min=0), default=0, help="Bound of the queue; 0 for none.")
@click.option("--raw", is_flag=True, help="Take the values as text even if they are JSON.")
@wait_options
@address_option
def put(
    name: str,
    values: tuple[str, ...],
    maxsize: int,
    raw: bool,
    timeout: float,
    wait: bool,
    address: str | None,
) -> int:
    """Put items, all or none; exit code 1 when the queue is (still) full."""
    items = [parse_value(value, raw=raw) for value in values]
    with connected_client(address) as client:
        target = Queue(name, maxsize=maxsize, client=client)
        target.put_many(items, timeout=effective_timeout(timeout, wait))
    return Exit.OK


@queue.command("get", epilog="\b\nExample:\n  raftcoord queue get jobs --timeout 1m")
@click.argument("name")
@click.option("--count", type=click.IntRange(1, 10_000), help="Take this many items, all or none.")
@click.option("--all", "drain", is_flag=True, help="Take all that is there.")
@click.option("--raw", is_flag=True, help="Print text without quotes, and bytes as they are.")
@wait_options
@address_option
def get(
    name: str, count: int | None, drain: bool, raw: bool, timeout: float, wait: bool, address: str | None
) -> int:
    """Take items from the head and print one a line; exit code 1 when there are (still) too few."""
    if drain and count is not None:
        raise click.UsageError("--count and --all exclude each other")
    with connected_client(address) as client:
        batch = True if drain else count or 1
        taken = Queue(name, client=client).get(timeout=effective_timeout(timeout, wait), batch=batch)
        # Printed while the session is open: an interrupted output leaves the rest to be seen here.
        for item in taken:
            print_value(item, raw=raw)
    return Exit.OK


@queue.command(
    "claim",
    cls=CommandAfterDashes,
    epilog=f"""\b
Examples:
  raftcoord queue claim jobs -- ./work.sh
  raftcoord queue claim jobs --max-deliveries 5 --dead-letters failed-jobs -- ./work.sh
  raftcoord queue claim jobs --timeout 0 -- sh -c 'echo "$RAFTCOORD_QUEUE_ITEM"'

{EXIT_CODES}""",
)
@click.argument("name")
@click.option(
    "--max-deliveries",
    type=click.IntRange(1, DELIVERIES_MAX),
    help="How often an item is handed out at most.  [default: for ever]",
)
@click.option("--dead-letters", metavar="QUEUE", help="Where it goes then.  [default: it is dropped]")
@click.option("--raw", is_flag=True, help="Hand over text without quotes, and bytes as they are.")
@holding_options
@address_option
def claim(
    name: str,
    command: tuple[str, ...],
    max_deliveries: int | None,
    dead_letters: str | None,
    raw: bool,
    **holding: Unpack[Holding],
) -> int:
    """Run COMMAND with the first item of a queue, and exit with its status.

    Exit code 0 removes the item; any other puts it back at the head of the queue, and so does the end of this
    process. The command reads the item from standard input, and finds it in RAFTCOORD_QUEUE_ITEM as well, if
    it has at most 100,000 bytes; beside it RAFTCOORD_QUEUE_NAME, RAFTCOORD_QUEUE_DELIVERIES (how often the
    item was handed out, this time included) and RAFTCOORD_QUEUE_FENCE, a number that grows with every grant.
    When the claim is lost, the command gets SIGTERM and a little later SIGKILL.
    """
    if dead_letters is not None and max_deliveries is None:
        raise click.UsageError("--dead-letters needs --max-deliveries")

    def take(client: Client, on_lost: Callable[[], object], timeout: float | None) -> Grant:
        source = Queue(name, client=client, deliveries_max=max_deliveries or 0, dead_letter=dead_letters)
        try:
            return _grant_of(source.claim(timeout, on_lost=on_lost), raw)
        except (CallTimeout, QueueClosed) as error:
            raise CommandError(str(error), Exit.LOCK_TIMEOUT) from None

    what = f"the claim on an item of queue {name!r}"
    return run_while_held(take, command_of(command), what=what, variables="RAFTCOORD_QUEUE", **holding)


def _grant_of(claimed: Claim, raw: bool) -> Grant:
    item = shown(claimed.value, raw=raw)
    content, line_end = (item, b"") if isinstance(item, bytes) else (item.encode(), b"\n")
    environment: dict[str, str | bytes] = {
        "NAME": str(claimed.name),
        "DELIVERIES": str(claimed.deliveries),
        "FENCE": str(claimed.fence),
    }
    if len(content) <= _ITEM_VARIABLE_BYTES_MAX and b"\0" not in content:
        environment["ITEM"] = content

    def settle(status: int) -> None:
        try:
            (claimed.nack if status else claimed.ack)()
        except (OutcomeUnknown, QueueClosed) as error:
            # Not the status of the command, which would say that the item is done with.
            raise CommandError(str(error), Exit.LOCK_LOST) from None

    return Grant(environment, settle, content + line_end)


@queue.command("size", epilog="\b\nExample:\n  raftcoord queue size jobs")
@click.argument("name")
@address_option
def size(name: str, address: str | None) -> int:
    """Print the number of items in a queue; 0 for one that does not exist."""
    with connected_client(address) as client:
        print(Queue(name, client=client).qsize())
    return Exit.OK
