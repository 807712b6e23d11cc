"""`raftcoord queue …`."""

from __future__ import annotations

import click

from raftcoord import Queue
from raftcoord.cli.exits import Exit
from raftcoord.cli.options import address_option, connected_client, effective_timeout, wait_options
from raftcoord.cli.values import parse_value, print_value


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


@queue.command("size", epilog="\b\nExample:\n  raftcoord queue size jobs")
@click.argument("name")
@address_option
def size(name: str, address: str | None) -> int:
    """Print the number of items in a queue; 0 for one that does not exist."""
    with connected_client(address) as client:
        print(Queue(name, client=client).qsize())
    return Exit.OK
