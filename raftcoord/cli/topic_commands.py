"""`raftcoord topic …`."""

from __future__ import annotations

import json

import click

from raftcoord import Pub, Sub
from raftcoord.cli.exits import CommandError, Exit
from raftcoord.cli.options import Duration, address_option, connected_client
from raftcoord.cli.values import jsonable, parse_value, print_value
from raftcoord.client.aio_topic import RETENTION_BYTES, RETENTION_COUNT, START


@click.group(no_args_is_help=False)
def topic() -> None:
    """Publish and follow messages. They are JSON, or text when they are not."""


@topic.command("publish", epilog="\b\nExample:\n  raftcoord topic publish news '{\"id\": 7}' --retain-for 1h")
@click.argument("name")
@click.argument("messages", nargs=-1, required=True)
@click.option("--raw", is_flag=True, help="Take the messages as text even if they are JSON.")
@click.option(
    "--retain-count",
    type=click.IntRange(min=1),
    default=RETENTION_COUNT,
    show_default=True,
    help="How many messages the topic retains.",
)
@click.option(
    "--retain-bytes",
    type=click.IntRange(min=1),
    default=RETENTION_BYTES,
    show_default=True,
    help="How many bytes they have together.",
)
@click.option("--retain-for", type=Duration(), help="How long they are retained.  [default: for ever]")
@address_option
def publish(
    name: str,
    messages: tuple[str, ...],
    raw: bool,
    retain_count: int,
    retain_bytes: int,
    retain_for: float | None,
    address: str | None,
) -> int:
    """Publish messages, all or none, and print the offset of the first."""
    values = [parse_value(message, raw=raw) for message in messages]
    with connected_client(address) as client:
        pub = Pub(
            name,
            client=client,
            retention_count=retain_count,
            retention_bytes=retain_bytes,
            retention_age=retain_for,
        )
        print(pub.put_many(values).start)
    return Exit.OK


@topic.command(
    "subscribe", epilog="\b\nExample:\n  raftcoord topic subscribe news | while read message; do …; done"
)
@click.argument("name")
@click.option("--from-start", is_flag=True, help="Begin with the oldest message that is retained.")
@click.option("--from-offset", type=click.IntRange(min=0), help="Begin at this offset.")
@click.option("--count", type=click.IntRange(min=1), help="End after this many messages.  [default: never]")
@click.option("--timeout", type=Duration(), help="End with exit code 1 when no message comes for so long.")
@click.option("--from-followers", is_flag=True, help="Fetch from a replica that does not lead.")
@click.option("--raw", is_flag=True, help="Print messages only, text without quotes and bytes as they are.")
@address_option
def subscribe(
    name: str,
    from_start: bool,
    from_offset: int | None,
    count: int | None,
    timeout: float | None,
    from_followers: bool,
    raw: bool,
    address: str | None,
) -> int:
    """Print messages as they come, by default those that are published from now on.

    One line of JSON for each: {"offset": …, "message": …}; and {"missed": …} where messages were dropped
    before they could be read.
    """
    if from_start and from_offset is not None:
        raise click.UsageError("--from-start and --from-offset exclude each other")
    with connected_client(address) as client:
        where = START if from_start else from_offset
        sub = Sub(name, where, client=client, read_from_followers=from_followers)
        seen, missed = 0, 0
        while count is None or seen < count:
            message = sub.get(timeout)
            seen += 1
            if raw:
                print_value(message, raw=True)
                continue
            if sub.missed > missed:
                print(json.dumps({"missed": sub.missed - missed}), flush=True)
                missed = sub.missed
            line = {"offset": sub.offset - 1, "message": jsonable(message)}
            print(json.dumps(line, ensure_ascii=False), flush=True)
    return Exit.OK


@topic.command("status", epilog="\b\nExample:\n  raftcoord topic status news")
@click.argument("name")
@address_option
def status(name: str, address: str | None) -> int:
    """Print the offsets of the oldest and of the next message, and the bytes retained, as JSON."""
    with connected_client(address) as client:
        print(json.dumps(Pub(name, client=client).status()._asdict()))
    return Exit.OK


@topic.command("delete", epilog="\b\nExample:\n  raftcoord topic delete news")
@click.argument("name")
@address_option
def delete(name: str, address: str | None) -> int:
    """Delete a topic with its messages; exit code 1 when there was none."""
    with connected_client(address) as client:
        if not Pub(name, client=client).delete():
            raise CommandError(f"topic {name!r} does not exist")
    return Exit.OK
