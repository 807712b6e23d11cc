"""The folder of a LocalCluster: where it is, who may use it, and what a later run must know again.

Invariants:
  1. A given folder is used by one cluster at a time: an exclusive lock on a file in it, which the reaper
     shares, so that it is free only when the replicas of a killed owner have ended as well.
  2. The secret and the ports are written before the first replica starts, atomically, and readable by
     the owner's user only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
import time
from pathlib import Path

import msgspec

LOCK_WAIT_S = 5.0
_LOCK_POLL_S = 0.05
_SETTINGS_NAME = "cluster.json"


class FolderError(Exception):
    """The folder cannot be used; the text is one line that says why."""


class ClusterSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makes a restarted cluster the same one. Ports are of 127.0.0.1, one for each replica."""

    secret: str
    client_ports: list[int]
    peer_ports: list[int]


class ClusterFolder:
    """A folder to keep data in, or a temporary one.

    Args:
        data_dir: the folder, made when missing; None for a temporary one, which is not made yet, so that
            its reaper can be there first (see `create`).
    """

    def __init__(self, data_dir: str | os.PathLike[str] | None) -> None:
        self.temporary = data_dir is None
        if data_dir is None:
            self.path = Path(tempfile.gettempdir()) / f"raftcoord-{secrets.token_hex(12)}"
        else:
            self.path = Path(data_dir).absolute()
        self._lock_descriptor = -1

    def __repr__(self) -> str:
        return f"<ClusterFolder {str(self.path)!r} {'temporary' if self.temporary else 'kept'}>"

    @property
    def lock_descriptor(self) -> int | None:
        """The descriptor that holds the lock, for the reaper to share; None for a temporary folder."""
        return None if self._lock_descriptor < 0 else self._lock_descriptor

    def claim(self) -> None:
        """Make a kept folder ours.

        Raises:
            FolderError: it cannot be written, or another cluster uses it.
        """
        if self.temporary:
            return
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._lock_descriptor = os.open(self.path / "cluster.lock", flags, 0o600)
        except OSError as error:
            raise FolderError(f"cannot use the folder {self.path}: {error.strerror}") from None
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(self._lock_descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                # The replicas of an owner that was killed a moment ago may be on their way out.
                if time.monotonic() > deadline:
                    self.close()
                    raise FolderError(f"another cluster uses the folder {self.path}") from None
                time.sleep(_LOCK_POLL_S)

    def create(self) -> None:
        """Make a temporary folder. Raises FolderError."""
        if self.temporary:
            try:
                self.path.mkdir(mode=0o700)
            except OSError as error:
                raise FolderError(f"cannot make the folder {self.path}: {error.strerror}") from None

    def load(self) -> ClusterSettings | None:
        """Return what an earlier run wrote, or None.

        Raises:
            FolderError: the file is damaged.
        """
        path = self.path / _SETTINGS_NAME
        try:
            return msgspec.json.decode(path.read_bytes(), type=ClusterSettings)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            raise FolderError(f"cannot read {path}: {error}") from None

    def save(self, settings: ClusterSettings) -> None:
        """Write what the next run must know. Raises OSError."""
        path = self.path / _SETTINGS_NAME
        draft = path.with_suffix(".new")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(settings))
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)

    def remove(self) -> None:
        """Remove a temporary folder; the reaper tries again should this fail."""
        if self.temporary:
            shutil.rmtree(self.path, ignore_errors=True)

    def close(self) -> None:
        """Let go of the lock."""
        if self._lock_descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._lock_descriptor)
            self._lock_descriptor = -1
