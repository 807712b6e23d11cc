"""The data folder: one owner, one identity, members written once."""

from __future__ import annotations

import errno
import json
import random
import zlib

import pytest

from raftcoord.consensus.identity import DataFolder, DataFolderError
from raftcoord.consensus.interface import FatalError
from raftcoord.consensus.journal import Journal
from raftcoord.testing.simulation.faulty_disk import FaultyDisk, PowerFailure

PATH = "/var/lib/replica"
FILE = f"{PATH}/identity"
SEED = 20_240_601


class SeededRng:
    """Randomness that a test can repeat."""

    def __init__(self, seed: int = SEED) -> None:
        self._random = random.Random(seed)

    def random(self) -> float:
        return self._random.random()

    def token(self, size_bytes: int) -> bytes:
        return self._random.randbytes(size_bytes)


def open_folder(disk: FaultyDisk, name: str = "a", *, seed: int = SEED, path: str = PATH) -> DataFolder:
    return DataFolder.open(disk=disk, rng=SeededRng(seed), path=path, name=name)


def test_a_new_folder_gets_an_identity_that_it_keeps() -> None:
    disk = FaultyDisk()
    folder = open_folder(disk)
    assert len(folder.identity) == 32
    assert int(folder.identity, 16)
    assert (folder.name, folder.path, folder.members) == ("a", PATH, None)
    assert disk.exists(folder.journal_directory)
    assert disk.exists(folder.snapshot_directory)
    assert folder.journal_directory != folder.snapshot_directory
    disk.lose_power(random.Random(SEED))
    again = open_folder(disk, seed=1)
    assert (again.identity, again.members) == (folder.identity, None)


def test_the_folders_own_name_is_made_durable() -> None:
    disk = FaultyDisk()
    open_folder(disk)
    synced = {path for kind, path in disk.operations if kind == "sync_directory"}
    assert {"/", "/var", "/var/lib", PATH} <= synced


def test_two_folders_have_two_identities() -> None:
    disk = FaultyDisk()
    rng = SeededRng()
    folders = [DataFolder.open(disk=disk, rng=rng, path=f"/{name}", name=name) for name in "ab"]
    assert folders[0].identity != folders[1].identity


def test_a_slash_at_the_end_names_the_same_folder() -> None:
    disk = FaultyDisk()
    folder = open_folder(disk, path=PATH + "/")
    assert folder.path == PATH
    disk.kill()
    assert open_folder(disk).identity == folder.identity


def test_a_folder_is_used_by_one_process() -> None:
    disk = FaultyDisk()
    folder = open_folder(disk)
    with pytest.raises(DataFolderError, match="in use by another process") as raised:
        open_folder(disk)
    assert isinstance(raised.value, FatalError)
    folder.close()
    again = open_folder(disk)
    disk.kill()  # the lock goes with the process
    assert open_folder(disk).identity == again.identity


def test_a_folder_that_was_refused_is_not_left_locked() -> None:
    disk = FaultyDisk()
    open_folder(disk, "a").close()
    with pytest.raises(DataFolderError, match="belongs to replica 'a', not to 'b'"):
        open_folder(disk, "b")
    open_folder(disk, "a")


@pytest.mark.parametrize("name", ["", "x" * 256, "é" * 128])
def test_names_are_bounded(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        open_folder(FaultyDisk(), name)


def test_members_are_recorded_once() -> None:
    disk = FaultyDisk()
    folder = open_folder(disk)
    members = {"b": "2" * 32, "a": folder.identity, "ç": "3" * 32}
    folder.record_members(members)
    folder.record_members(dict(reversed(members.items())))
    assert folder.members == members
    with pytest.raises(DataFolderError, match="contradict"):
        folder.record_members({**members, "b": "4" * 32})
    disk.lose_power(random.Random(SEED))
    again = open_folder(disk)
    assert (again.members, again.identity) == (members, folder.identity)
    with pytest.raises(DataFolderError, match="contradict"):
        again.record_members({"a": folder.identity})
    assert again.members == members


def test_members_must_hold_their_owner() -> None:
    folder = open_folder(FaultyDisk())
    for members in ({}, {"b": folder.identity}, {"a": "0" * 32}):
        with pytest.raises(ValueError, match="does not hold"):
            folder.record_members(members)
    with pytest.raises(ValueError, match="members; at most"):
        folder.record_members({"a": folder.identity} | {f"m{i}": "1" * 32 for i in range(1000)})
    assert folder.members is None


def test_members_cannot_be_changed_from_outside() -> None:
    folder = open_folder(FaultyDisk())
    given = {"a": folder.identity}
    folder.record_members(given)
    given["b"] = "?"
    members = folder.members
    assert members is not None
    with pytest.raises(TypeError):
        members["b"] = "?"  # type: ignore[index]
    assert folder.members == {"a": folder.identity}


@pytest.mark.parametrize("left", ["journal", "snapshots"])
def test_data_without_an_identity_is_refused(left: str) -> None:
    disk = FaultyDisk()
    folder = open_folder(disk)
    if left == "journal":
        Journal.open(disk=disk, directory=folder.journal_directory, segment_bytes=8192, snapshot=None).close()
    else:
        disk.open(f"{folder.snapshot_directory}/snapshot-{1:020d}-{1:010d}.snap", create=True)
    folder.close()
    disk.remove(FILE)
    with pytest.raises(DataFolderError, match="damaged or mixed"):
        open_folder(disk)
    assert FILE not in disk.files


def test_every_flipped_bit_and_every_other_length_is_found() -> None:
    disk = FaultyDisk()
    folder = open_folder(disk)
    folder.record_members({"a": folder.identity, "b": "2" * 32})
    contents = disk.contents()
    good = contents[FILE]
    rng = random.Random(SEED)
    broken = [good[:length] for length in range(len(good))] + [good + b"\n"]
    for offset in range(len(good)):
        flipped = bytearray(good)
        flipped[offset] ^= 1 << rng.randrange(8)
        broken.append(bytes(flipped))
    for data in broken:
        disk.put({**contents, FILE: data})
        with pytest.raises(DataFolderError, match=FILE):
            open_folder(disk)
        assert disk.contents()[FILE] == data, f"seed {SEED}"


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"format": 2}, "start the release that last used it"),
        ({"format": "1"}, "no format version"),
        ({"identity": 5}, "make no sense"),
        ({"name": None}, "make no sense"),
        ({"members": ["a"]}, "make no sense"),
        ({"members": {"a": 1}}, "make no sense"),
    ],
)
def test_files_of_other_shapes_are_refused(fields: dict[str, object], complaint: str) -> None:
    disk = FaultyDisk()
    open_folder(disk)
    contents = disk.contents()
    text = json.dumps({**json.loads(contents[FILE].split(b"\n")[0]), **fields}).encode()
    disk.put({**contents, FILE: b"%s\n%08x\n" % (text, zlib.crc32(text))})
    with pytest.raises(DataFolderError, match=complaint):
        open_folder(disk)


def test_json_that_is_no_object_is_refused() -> None:
    disk = FaultyDisk()
    open_folder(disk)
    for text in (b"[]", b"null", b"{", b"\xff"):
        disk.put({FILE: b"%s\n%08x\n" % (text, zlib.crc32(text))})
        with pytest.raises(DataFolderError, match=FILE):
            open_folder(disk)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_a_folder_that_cannot_be_written_is_refused_at_once(number: int) -> None:
    for new in (True, False):
        for after in range(100):
            disk = FaultyDisk()
            identity = None
            if not new:
                identity = open_folder(disk).identity
                disk.kill()
            disk.operations.clear()
            disk.fail_with(number, after=after)
            try:
                open_folder(disk, seed=2)
            except DataFolderError as error:
                if errno.errorcode[number] not in str(error) or PATH not in str(error):
                    pytest.fail(f"unclear: {error}")
            else:
                assert after > 5
                break
            disk.heal()
            found = open_folder(disk, seed=3).identity
            assert identity in (None, found)
        else:
            pytest.fail("the disk was never left alone")


def test_power_failures_at_every_moment() -> None:
    """An identity that was told stays; members that were recorded stay."""
    for seed in range(200):
        rng = random.Random(seed)
        disk = FaultyDisk()
        identity = members = None
        for attempt in range(8):
            disk.fail(PowerFailure(), after=rng.randint(0, 18))
            try:
                folder = open_folder(disk, seed=seed * 100 + attempt)
                assert identity in (None, folder.identity), f"seed {seed}"
                assert members is None or folder.members == members, f"seed {seed}"
                identity = folder.identity
                folder.record_members({"a": identity, "b": "2" * 32})
                members = folder.members
            except PowerFailure:
                pass
            if rng.random() < 0.7:
                disk.lose_power(rng)
            else:
                disk.kill()
        assert identity in (None, open_folder(disk).identity), f"seed {seed}"
