"""A large array in a variable: the variable holds a Future, the array itself stays on the workers.

    python examples/scattered_array.py --kill-leader

Nothing but the key of the Future goes through raftcoord. As long as the variable holds it, Dask keeps the
array, also when the program that scattered it is gone.
"""

from __future__ import annotations

import numpy as np
from both_clusters import Halfway, main, nothing
from distributed import Client

from raftcoord.dask import Variable


def doubled(index: int) -> int:
    """Read one number of the array, twice its size."""
    array = Variable("array").get().result()
    return int(2 * array[index])


def all_doubled(client: Client, halfway: Halfway = nothing) -> list[int]:
    """Scatter the array 1…10 and let ten tasks read it."""
    variable = Variable("array")
    variable.set(client.scatter(np.arange(1, 11)))
    results: list[int] = client.gather(client.map(doubled, range(5), pure=False))
    halfway()
    results += client.gather(client.map(doubled, range(5, 10), pure=False))
    variable.delete()
    return results


def show(client: Client, halfway: Halfway) -> None:
    print("twice the array:", all_doubled(client, halfway))


if __name__ == "__main__":
    main(show, __doc__)
