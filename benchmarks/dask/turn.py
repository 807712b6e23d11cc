"""One turn of one system, in a process of its own.

    python -m benchmarks.dask.turn SYSTEM SCHEDULER SECTION COUNT WORKERS

Connects to the scheduler, waits for the workers, measures, and prints what it found as JSON: a list of
numbers for each name.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, Final

from distributed import Client

from benchmarks.dask import handles, objects, topics

SECTIONS: Final[dict[str, Callable[[Any, str, int], dict[str, list[float]]]]] = {
    "calls": objects.measure,
    "topics": topics.measure,
    "handles": handles.measure,
}
START_WAIT_S: Final = 60


def main() -> None:
    system, scheduler, section, count, workers = sys.argv[1:]
    with Client(scheduler, timeout=START_WAIT_S) as client:
        client.wait_for_workers(int(workers), timeout=START_WAIT_S)
        found = SECTIONS[section](client, system, int(count))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
