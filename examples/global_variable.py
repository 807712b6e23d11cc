"""A global variable: ten tasks raise their number to the y that the program has set.

    python examples/global_variable.py --kill-leader

The tasks are started first and wait for y, all at once, while the leader may be killed.
"""

from __future__ import annotations

from both_clusters import Halfway, main, nothing
from distributed import Client

from raftcoord.dask import Variable


def power(x: int) -> int:
    """Raise x to the global variable."""
    y: int = Variable("y").get()
    return int(x**y)


def powers(client: Client, halfway: Halfway = nothing) -> list[int]:
    """Let ten tasks read one variable."""
    y = Variable("y")
    y.delete()
    tasks = client.map(power, range(1, 11), pure=False)
    halfway()
    y.set(5)
    results: list[int] = client.gather(tasks)
    return results


def show(client: Client, halfway: Halfway) -> None:
    print("x ** y:", powers(client, halfway))


if __name__ == "__main__":
    main(show, __doc__)
