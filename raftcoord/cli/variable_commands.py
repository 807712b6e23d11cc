"""`raftcoord variable …`."""

from __future__ import annotations

import json

import click

from raftcoord import Variable
from raftcoord.cli.exits import CommandError, Exit
from raftcoord.cli.options import Duration, address_option, connected_client, effective_timeout, wait_options
from raftcoord.cli.values import jsonable, parse_value, print_value
from raftcoord.client.aio_variable import UNSET, Versioned

_RAW_OUT = click.option("--raw", is_flag=True, help="Print text without quotes, and bytes as they are.")
_RAW_IN = click.option("--raw", is_flag=True, help="Take the value as text even if it is JSON.")


@click.group(no_args_is_help=False)
def variable() -> None:
    """Read, write and follow variables. Values are JSON, or text when they are not."""


@variable.command("get", epilog="\b\nExample:\n  raftcoord variable get answer --timeout 10s")
@click.argument("name")
@wait_options
@_RAW_OUT
@address_option
def get(name: str, timeout: float, wait: bool, raw: bool, address: str | None) -> int:
    """Print the value of a variable; exit code 1 when it is (still) unset."""
    with connected_client(address) as client:
        value = Variable(name, client=client).get(timeout=effective_timeout(timeout, wait))
    print_value(value, raw=raw)
    return Exit.OK


@variable.command(
    "set",
    epilog="""\b
Examples:
  raftcoord variable set limits '{"cpu": 4}'
  raftcoord variable set token secret --ttl 10m
""",
)
@click.argument("name")
@click.argument("value")
@click.option("--ttl", type=Duration(), help="Unset it again after this time.  [default: never]")
@_RAW_IN
@address_option
def set_(name: str, value: str, ttl: float | None, raw: bool, address: str | None) -> int:
    """Set a variable. Any later change, by anyone, drops its --ttl."""
    with connected_client(address) as client:
        Variable(name, client=client).set(parse_value(value, raw=raw), ttl=ttl)
    return Exit.OK


@variable.command("delete", epilog="\b\nExample:\n  raftcoord variable delete answer")
@click.argument("name")
@address_option
def delete(name: str, address: str | None) -> int:
    """Delete a variable; exit code 1 when there was none."""
    with connected_client(address) as client:
        if not Variable(name, client=client).delete():
            raise CommandError(f"variable {name!r}: it is not set")
    return Exit.OK


@variable.command(
    "watch", epilog="\b\nExample:\n  raftcoord variable watch answer | while read change; do …; done"
)
@click.argument("name")
@click.option("--count", type=click.IntRange(min=1), help="End after this many changes.  [default: never]")
@click.option("--timeout", type=Duration(), help="End with exit code 1 when nothing changes for so long.")
@click.option(
    "--raw", is_flag=True, help="Print values only, text without quotes; an empty line when deleted."
)
@address_option
def watch(name: str, count: int | None, timeout: float | None, raw: bool, address: str | None) -> int:
    """Print the value whenever it changes, the present one first.

    One line of JSON for each change: {"revision": …, "value": …}, or {"revision": 0, "deleted": true}.
    Values that were replaced too quickly to be seen are skipped, the newest one never is.
    """
    with connected_client(address) as client:
        for seen, change in enumerate(Variable(name, client=client).watch(timeout=timeout), start=1):
            _print_change(change, raw=raw)
            if seen == count:
                break
    return Exit.OK


def _print_change(change: Versioned, *, raw: bool) -> None:
    deleted = change.value is UNSET
    if raw:
        print_value("" if deleted else change.value, raw=True)
        return
    content = {"deleted": True} if deleted else {"value": jsonable(change.value)}
    print(json.dumps({"revision": change.revision, **content}, ensure_ascii=False), flush=True)
