"""One worker process: `python -m raftcoord.demo.worker NUMBER ADDRESS`.

Standard input names one task a line, see `tasks.py`. For each, the worker says that it is ready, waits for
a token, so that the director decides who runs when, does its task, counts itself as done, and prints one line
of JSON: the result, and when it finished on the clock that all processes of a machine share.
"""

from __future__ import annotations

import json
import sys
import time

from raftcoord import Client, Queue, Variable
from raftcoord.demo.tasks import TASKS

GATE_WAIT_S = 60.0


def main(number: int, address: str) -> None:
    with Client(address, name=f"worker-{number}", session_ttl="5s"):
        for line in sys.stdin:
            task = line.strip()
            Variable(("ready", task)).add(1)
            Queue(("gate", task)).get(timeout=GATE_WAIT_S)
            result = TASKS[task](number)
            finished_s = time.monotonic()
            Variable(("done", task)).add(1)
            print(json.dumps({"result": result, "finished_s": finished_s}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
