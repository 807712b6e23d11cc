"""What must hold of the files of a replica that has recovered, byte by byte.

Invariants of what is checked:
  1. Behind the last batch of the journal nothing but zeros is seen, and nothing else is durable: what a torn
     write left is cut before anything is appended, so that no later recovery can take it for data.
"""

from __future__ import annotations

from collections.abc import Mapping

from raftcoord.testing.simulation.faulty_disk import FaultyDisk
from raftcoord.testing.simulation.violation import Violation


def check_ends(name: str, disk: FaultyDisk, ends: Mapping[str, int]) -> None:
    """Look behind the ends of files, given by path.

    Raises:
        Violation: there is something.
    """
    for path, end in ends.items():
        inode = disk.files[path]
        for what, data in (("is seen", inode.current), ("is durable", inode.durable)):
            left = bytes(data[end:]).strip(b"\0")
            if left:
                raise Violation(
                    "a torn tail is cut",
                    f"{name} goes on at byte {end} of {path}, behind which {left!r:.80} {what}",
                )
