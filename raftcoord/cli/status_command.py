"""`raftcoord status`: what every replica says about itself, side by side."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from raftcoord.cli.exits import Exit
from raftcoord.cli.options import address_option, addresses_of, observe_all
from raftcoord.testing.observer import ObserveError

_COLUMNS = ("replica", "address", "role", "term", "commit", "lag", "log", "uptime")


@click.command(epilog="\b\nExamples:\n  raftcoord status\n  raftcoord status --json | jq .leader")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@address_option
def status(as_json: bool, address: str | None) -> int:
    """Show who leads, and how each replica is; exit code 1 without a leader, 3 when nobody answers.

    The lag is the number of log entries that a replica has yet to apply. Sessions and objects are those
    that the leader knows, or the most advanced replica when there is no leader.
    """
    summary = summarize(observe_all(addresses_of(address)))
    if as_json:
        print(json.dumps(summary, ensure_ascii=False))
    else:
        _print_summary(summary)
    if not summary["reachable"]:
        return Exit.UNREACHABLE
    return Exit.OK if summary["leader"] is not None else Exit.NO


def summarize(answers: dict[str, dict[str, Any] | ObserveError]) -> dict[str, Any]:
    """Return one picture from the answers of all replicas, by address."""
    statuses = {address: answer for address, answer in answers.items() if isinstance(answer, dict)}
    term = max((status["term"] for status in statuses.values()), default=0)
    leaders = [
        (address, status)
        for address, status in statuses.items()
        # A deposed leader that has not heard of it yet still says that it leads, in an older term.
        if status["role"] == "leader" and status["ready"] and status["term"] == term
    ]
    leader_address, leader = leaders[0] if leaders else (None, None)
    fullest = leader or max(statuses.values(), key=lambda status: status["applied_index"], default={})
    commit = max((status["commit_index"] for status in statuses.values()), default=0)
    return {
        "leader": leader["name"] if leader else None,
        "leader_address": leader_address,
        "term": term,
        "commit_index": commit,
        "reachable": len(statuses),
        "sessions": fullest.get("sessions", 0),
        "waiters": fullest.get("waiters", 0),
        "objects": fullest.get("objects", {}),
        "replicas": [_row(address, answer, commit) for address, answer in answers.items()],
    }


def _row(address: str, answer: dict[str, Any] | ObserveError, commit: int) -> dict[str, Any]:
    if isinstance(answer, ObserveError):
        return {"address": address, "reachable": False, "error": str(answer)}
    lag = max(0, commit - answer["applied_index"])
    return {"address": address, "reachable": True, "lag": lag, **answer}


def _print_summary(summary: dict[str, Any]) -> None:
    table = Table(*_COLUMNS, box=None, pad_edge=False, header_style="bold")
    for row in summary["replicas"]:
        if row["reachable"]:
            role = row["role"] if row["ready"] or row["role"] != "leader" else "leader (not ready)"
            cells = (row["name"], row["address"], role, row["term"], row["commit_index"], row["lag"])
            table.add_row(*map(str, cells), f"{row['log_bytes']:,} B", f"{row['uptime_s']:,.0f} s")
        else:
            table.add_row("?", row["address"], "unreachable", *[""] * 5)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200  # lines that are cut or wrapped are no use to a program
    console.print(table)
    objects = ", ".join(f"{count} {kind}" for kind, count in summary["objects"].items()) or "none"
    leader = summary["leader"] or "none"
    console.print(
        f"\nleader: {leader}   term: {summary['term']}   sessions: {summary['sessions']}   objects: {objects}"
    )
    for row in summary["replicas"]:
        if not row["reachable"]:
            console.print(f"unreachable: {row['error']}", markup=False)
