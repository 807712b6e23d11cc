"""Error messages through a queue: tasks go on after a failure, and the program reads what went wrong.

    python examples/error_messages.py --kill-leader

Every other task gets a text instead of a number.
"""

from __future__ import annotations

from both_clusters import Halfway, main, nothing
from distributed import Client

from raftcoord.dask import Queue


def power(x: int, y: int | str) -> int | None:
    """Raise x to y, or report why that cannot be done."""
    try:
        return int(x**y)  # type: ignore[operator]
    except TypeError as error:
        Queue("errors").put(f"{x} ** {y!r} failed: {error}")
        return None


def failures(client: Client, halfway: Halfway = nothing) -> tuple[list[int | None], list[str]]:
    """Return the results of ten tasks, and the messages of those that failed."""
    exponents: list[int | str] = [3, "3"] * 5
    results: list[int | None] = client.gather(client.map(power, range(1, 6), exponents[:5], pure=False))
    halfway()
    results += client.gather(client.map(power, range(6, 11), exponents[5:], pure=False))
    messages: list[str] = Queue("errors").get(batch=True)
    return results, sorted(messages, key=lambda message: int(message.split()[0]))


def show(client: Client, halfway: Halfway) -> None:
    results, messages = failures(client, halfway)
    print("results:", results)
    print(*messages, sep="\n")


if __name__ == "__main__":
    main(show, __doc__)
