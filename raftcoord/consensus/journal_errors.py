"""What the journal raises when it cannot go on, and the words that tell an operator what to do."""

from __future__ import annotations

import errno

from raftcoord.consensus.interface import FatalError

_ADVICE = {
    errno.ENOSPC: "free space on this disk, then start the replica again",
    errno.EDQUOT: "raise the quota of this disk, then start the replica again",
    errno.EROFS: "the file system is read-only; check the disk, then start the replica again",
    errno.EACCES: "give the replica's user the right to read and write the data folder",
    errno.EPERM: "give the replica's user the right to read and write the data folder",
}
_ADVICE_ELSE = "check the disk, then start the replica again"
_ADVICE_DAMAGED = (
    "remove no single file; the other replicas hold the data: keep this folder for analysis, check the "
    "disk, and replace this replica by a new member with an empty data folder"
)


class JournalDamaged(FatalError):
    """What was durable once is no longer readable, or is missing."""


class JournalFailed(FatalError):
    """The disk refused, or the journal is closed. Nothing that was not synced before may be relied upon."""


def damaged(path: str, what: str, *, offset: int | None = None) -> JournalDamaged:
    """Return the error for damage in a file, at `offset` in bytes where it is known."""
    place = path if offset is None else f"{path} at byte {offset}"
    return JournalDamaged(f"journal damaged: {place}: {what}; {_ADVICE_DAMAGED}")


def failed(doing: str, path: str, error: OSError) -> JournalFailed:
    """Return the error for a disk that refused."""
    return JournalFailed(f"journal failed: {doing} {path}: {os_error_text(error)}")


def os_error_text(error: OSError) -> str:
    """Say what an OSError means: name, text of the system, what to do."""
    name = errno.errorcode.get(error.errno or 0, "unknown error")
    return f"{error.strerror or error} ({name}); {_ADVICE.get(error.errno or 0, _ADVICE_ELSE)}"
