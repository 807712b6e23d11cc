"""`raftcoord event …`."""

from __future__ import annotations

import click

from raftcoord import Event
from raftcoord.cli.exits import CommandError, Exit
from raftcoord.cli.options import Duration, address_option, connected_client


@click.group(no_args_is_help=False)
def event() -> None:
    """Set, clear and wait for events."""


@event.command("set", epilog="\b\nExample:\n  raftcoord event set ready")
@click.argument("name")
@address_option
def set_(name: str, address: str | None) -> int:
    """Set an event; all who wait for it go on."""
    with connected_client(address) as client:
        Event(name, client=client).set()
    return Exit.OK


@event.command("clear", epilog="\b\nExample:\n  raftcoord event clear ready")
@click.argument("name")
@address_option
def clear(name: str, address: str | None) -> int:
    """Clear an event."""
    with connected_client(address) as client:
        Event(name, client=client).clear()
    return Exit.OK


@event.command("wait", epilog="\b\nExample:\n  raftcoord event wait ready --timeout 1m && ./start.sh")
@click.argument("name")
@click.option("--timeout", type=Duration(), help="How long to wait.  [default: for ever]")
@address_option
def wait(name: str, timeout: float | None, address: str | None) -> int:
    """Wait until an event is set; exit code 1 when it is not in time."""
    with connected_client(address) as client:
        if not Event(name, client=client).wait(timeout):
            raise CommandError(f"event {name!r} was not set in time")
    return Exit.OK


@event.command("status", epilog="\b\nExample:\n  raftcoord event status ready")
@click.argument("name")
@address_option
def status(name: str, address: str | None) -> int:
    """Print whether an event is `set` or `clear`; exit code 1 when it is clear."""
    with connected_client(address) as client:
        is_set = Event(name, client=client).is_set()
    print("set" if is_set else "clear")
    return Exit.OK if is_set else Exit.NO
