"""The data folder of one replica: whose it is, that nobody else uses it, and who the members are.

    lock           locked for as long as a process uses the folder
    identity       JSON and its CRC: format, identity, name, members
    journal/       see journal.py
    snapshots/     see snapshot_store.py

Invariants:
  1. An identity is drawn once, is durable before anyone is told of it, and never changes. Whoever answers
     with it has this folder, and so all that was ever made durable under it.
  2. Members are written down once, and durably before anyone relies on it.
  3. A folder with data but without an identity is never given a new one: its log belongs to someone.
"""

from __future__ import annotations

import contextlib
import json
import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from raftcoord.consensus.interface import FatalError
from raftcoord.consensus.journal_errors import os_error_text
from raftcoord.runtime import Disk, File, Rng

FORMAT_VERSION: Final = 1
NAME_BYTES_MAX: Final = 255
MEMBERS_MAX: Final = 1000
_IDENTITY_BYTES: Final = 16
_FILE_BYTES_MAX: Final = 1024 * 1024

_log = logging.getLogger(__name__)


class DataFolderError(FatalError):
    """The data folder cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class _Record:
    """What the identity file says."""

    identity: str
    name: str
    members: Mapping[str, str] | None

    def encode(self) -> bytes:
        members = None if self.members is None else dict(sorted(self.members.items()))
        fields = {
            "format": FORMAT_VERSION,
            "identity": self.identity,
            "members": members,
            "name": self.name,
        }
        text = json.dumps(fields).encode()
        return b"%s\n%08x\n" % (text, zlib.crc32(text))

    @classmethod
    def decode(cls, data: bytes) -> _Record:
        """Raises ValueError when the file is damaged, or of a newer format."""
        text, _, rest = data.partition(b"\n")
        if rest != b"%08x\n" % zlib.crc32(text):
            raise ValueError("the file is damaged: its checksum is wrong")
        fields = json.loads(text)
        if not isinstance(fields, dict) or not isinstance(fields.get("format"), int):
            raise ValueError("the file is damaged: it has no format version")
        if fields["format"] != FORMAT_VERSION:
            raise ValueError(
                f"the folder has format {fields['format']}, this release knows {FORMAT_VERSION}: "
                "start the release that last used it, or a newer one"
            )
        identity, name, members = fields.get("identity"), fields.get("name"), fields.get("members")
        if not (isinstance(identity, str) and isinstance(name, str) and _is_members(members)):
            raise ValueError("the file is damaged: its fields make no sense")
        return cls(identity, name, members)


def _is_members(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, dict) and all(isinstance(identity, str) for identity in value.values())


class DataFolder:
    """A locked data folder; made by `open`."""

    def __init__(self, *, disk: Disk, path: str, lock: File, record: _Record) -> None:
        self._disk = disk
        self._path = path
        self._lock = lock
        self._record = record

    def __repr__(self) -> str:
        formed = self._record.members is not None
        return f"<DataFolder {self._path!r} name={self.name!r} identity={self.identity} formed={formed}>"

    @classmethod
    def open(cls, *, disk: Disk, rng: Rng, path: str, name: str) -> DataFolder:
        """Lock the folder and read whose it is; a new or empty one becomes `name`'s.

        Raises:
            DataFolderError: the folder is in use, unreadable, full, damaged, or somebody else's.
            ValueError: the name is empty or too long.
        """
        if not 0 < len(name.encode()) <= NAME_BYTES_MAX:
            raise ValueError(f"a replica's name has 1 to {NAME_BYTES_MAX} bytes, not {len(name.encode())}")
        path = path.rstrip("/") or "/"
        try:
            _make_durably(disk, path)
            lock = _lock(disk, path)
        except OSError as error:
            raise _unusable(path, error) from error
        try:
            record = _claim(disk, rng, path, name)
            folder = cls(disk=disk, path=path, lock=lock, record=record)
            for directory in (folder.journal_directory, folder.snapshot_directory):
                disk.make_directory(directory)
            disk.sync_directory(path)
        except OSError as error:
            lock.close()
            raise _unusable(path, error) from error
        except BaseException:
            lock.close()
            raise
        _log.info("data_folder_opened folder=%r", folder)
        return folder

    @property
    def path(self) -> str:
        return self._path

    @property
    def name(self) -> str:
        return self._record.name

    @property
    def identity(self) -> str:
        """32 hexadecimal digits that no other folder has."""
        return self._record.identity

    @property
    def members(self) -> Mapping[str, str] | None:
        """Name to identity of all members; None before they were recorded."""
        members = self._record.members
        return None if members is None else MappingProxyType(dict(members))

    @property
    def journal_directory(self) -> str:
        return f"{self._path}/journal"

    @property
    def snapshot_directory(self) -> str:
        return f"{self._path}/snapshots"

    def record_members(self, members: Mapping[str, str]) -> None:
        """Write down who the members are; durable on return. The same again is fine.

        Raises:
            DataFolderError: other members were recorded before, or the disk refused.
            ValueError: this replica is not among them under its identity, or they are too many.
        """
        if members.get(self.name) != self.identity:
            raise ValueError(f"{dict(members)} does not hold {self.name!r} as {self.identity}")
        if len(members) > MEMBERS_MAX:
            raise ValueError(f"{len(members)} members; at most {MEMBERS_MAX}")
        if self._record.members is not None:
            if dict(self._record.members) == dict(members):
                return
            raise DataFolderError(
                f"data folder {self._path}: its members are {dict(self._record.members)}, "
                f"which {dict(members)} would contradict"
            )
        record = replace(self._record, members=dict(members))
        try:
            _store(self._disk, self._path, record)
        except OSError as error:
            raise _unusable(self._path, error) from error
        self._record = record

    def close(self) -> None:
        """Release the lock."""
        self._lock.close()


def _unusable(path: str, error: OSError) -> DataFolderError:
    return DataFolderError(f"data folder {path} cannot be used: {os_error_text(error)}")


def _make_durably(disk: Disk, path: str) -> None:
    """Make the folder; sync every folder that got a new name in it."""
    parents = []
    missing = path
    while not disk.exists(missing):
        parent = missing.rpartition("/")[0] or ("/" if missing.startswith("/") else ".")
        parents.append(parent)
        if parent in ("/", "."):
            break
        missing = parent
    disk.make_directory(path)
    for parent in parents:
        disk.sync_directory(parent)


def _lock(disk: Disk, path: str) -> File:
    try:
        return disk.lock(f"{path}/lock")
    except BlockingIOError as error:
        raise DataFolderError(
            f"data folder {path} is in use by another process: every replica needs a folder of its own"
        ) from error


def _claim(disk: Disk, rng: Rng, path: str, name: str) -> _Record:
    """Return what the identity file says; write it if the folder is new."""
    file_path = f"{path}/identity"
    if not disk.exists(file_path):
        _refuse_data_without_identity(disk, path)
        record = _Record(rng.token(_IDENTITY_BYTES).hex(), name, None)
        _store(disk, path, record)
        return record
    try:
        with contextlib.closing(disk.open(file_path)) as file:
            record = _Record.decode(file.pread(_FILE_BYTES_MAX, 0))
    except ValueError as error:
        raise DataFolderError(f"data folder {path}: {file_path}: {error}") from error
    if record.name != name:
        raise DataFolderError(
            f"data folder {path} belongs to replica {record.name!r}, not to {name!r}: "
            "correct the name or the folder in the configuration"
        )
    # A process killed between rename and sync left a name that is not durable yet; and a folder that
    # cannot be written must be refused now, not at the first entry.
    _store(disk, path, record)
    return record


def _refuse_data_without_identity(disk: Disk, path: str) -> None:
    for directory, suffix in (("journal", ".log"), ("snapshots", ".snap")):
        folder = f"{path}/{directory}"
        if disk.exists(folder) and any(name.endswith(suffix) for name in disk.list_directory(folder)):
            raise DataFolderError(
                f"data folder {path} is damaged or mixed: {folder} holds data, but there is no identity "
                "file; bring back the file, or replace this replica by a new member with an empty folder"
            )


def _store(disk: Disk, path: str, record: _Record) -> None:
    temporary = f"{path}/identity.tmp"
    with contextlib.closing(disk.open(temporary, create=True)) as file:
        file.pwrite(record.encode(), 0)
        file.sync()
    disk.rename(temporary, f"{path}/identity")
    disk.sync_directory(path)
