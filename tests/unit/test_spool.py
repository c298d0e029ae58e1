"""The spool: equal bytes once, nothing half-written, errors that say what to do."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dicom_node.core.errors import RefusedObject, SpoolUnavailable
from dicom_node.headers.file_meta import file_head, read_head
from dicom_node.storage.spool import Spool, StoredObject

SYNTAX = "1.2.840.10008.1.2.1"
HEAD = file_head("1.2.840.10008.5.1.4.1.1.2", "1.2.3", SYNTAX)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def files(spool: Spool) -> list[Path]:
    return sorted(path for path in spool.folder.rglob("*") if path.is_file())


def test_what_was_put_comes_back(spool: Spool) -> None:
    stored = spool.put([b"head", bytearray(b"body"), memoryview(b"tail")], ".dcm")
    assert spool.path(stored.key).read_bytes() == b"headbodytail"
    assert (stored.size_bytes, stored.key) == (12, f"{stored.sha256[:2]}/{stored.sha256}.dcm")


def test_equal_bytes_are_kept_once(spool: Spool) -> None:
    assert spool.put([b"a", b"b"], ".dcm") == spool.put([b"ab"], ".dcm")
    assert len(files(spool)) == 1


def received(spool: Spool, head: bytes, body: bytes = b"body") -> StoredObject:
    return spool.put([head, body], ".dcm", [SYNTAX.encode(), body])


def test_the_content_decides_not_what_is_written_before_it(spool: Spool) -> None:
    first = received(spool, HEAD)
    second = received(spool, HEAD.replace(b"DICOMAINODE", b"DICOMAINOD2"))
    assert first.key == second.key
    assert spool.path(first.key).read_bytes() == HEAD + b"body"


def test_what_is_there_already_is_whole(spool: Spool) -> None:
    image, picture = received(spool, HEAD), spool.put([b"picture"], ".png")
    assert spool.is_whole(image.key)
    assert spool.is_whole(picture.key)
    assert not spool.is_whole(image.key.replace(image.sha256, "0" * 64))


@pytest.mark.parametrize("at", [*range(128, 144), *range(144, len(HEAD), 7), -4, -1])
def test_a_flipped_bit_that_changes_what_is_read_is_seen(spool: Spool, at: int) -> None:
    """In the prefix, the length of the head, the transfer syntax and the data set; the rest of the head only says who
    wrote the file."""
    stored = received(spool, HEAD)
    content = bytearray(spool.path(stored.key).read_bytes())
    content[at] ^= 0x10
    spool.path(stored.key).write_bytes(content)
    try:
        head = read_head(bytes(content))
        unchanged = (head.transfer_syntax_uid, bytes(content[head.data_set_offset :])) == (SYNTAX, b"body")
    except RefusedObject:
        unchanged = False
    assert unchanged or not spool.is_whole(stored.key)


@pytest.mark.parametrize("end", [0, 100, 140, 200, -1])
def test_what_was_cut_off_is_replaced_when_it_comes_again(spool: Spool, end: int) -> None:
    for stored in (received(spool, HEAD), spool.put([b"picture" * 50], ".png")):
        path = spool.path(stored.key)
        whole = path.read_bytes()
        path.write_bytes(whole[:end])
        assert not spool.is_whole(stored.key)
        received(spool, HEAD)
        spool.put([b"picture" * 50], ".png")
        assert path.read_bytes() == whole


def test_a_part_takes_the_place_of_a_damaged_file(spool: Spool) -> None:
    stored = spool.put([b"large"], ".png")
    spool.path(stored.key).write_bytes(b"l")
    part = spool.new_part("test")
    part.write(b"large")
    part.keep(stored.sha256, ".png")
    assert spool.path(stored.key).read_bytes() == b"large"


def test_many_threads_may_put_the_same(spool: Spool) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = {stored.key for stored in pool.map(lambda _: spool.put([b"same" * 5000], ".dcm"), range(32))}
    assert len(keys) == len(files(spool)) == 1


def test_a_folder_that_cannot_be_written_leaves_nothing_and_says_what_to_do(spool: Spool) -> None:
    """A file stands where the object's folder must be: the write itself succeeds, the move into place does not."""
    digest_folder = spool.put([b"x"], ".dcm").key[:2]
    spool.path(f"{digest_folder}").joinpath(spool.put([b"x"], ".dcm").key[3:]).unlink()
    spool.path(digest_folder).rmdir()
    spool.path(digest_folder).write_bytes(b"")
    with pytest.raises(SpoolUnavailable, match="Free space there or repair"):
        spool.put([b"x"], ".dcm")
    assert list((spool.folder / "incoming").iterdir()) == []


def test_a_full_disk_leaves_nothing(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(SpoolUnavailable, match="No space left"):
        spool.put([b"x"], ".dcm")
    assert files(spool) == []


def test_what_a_crash_left_is_removed_and_whole_objects_stay(spool: Spool) -> None:
    stored = spool.put([b"x"], ".dcm")
    (spool.folder / "incoming" / "crashed.part").write_bytes(b"half")
    assert spool.remove_parts() == 1
    assert files(spool) == [spool.path(stored.key)]


def test_keys_are_listed_by_suffix(spool: Spool) -> None:
    objects = {spool.put([bytes([n])], ".dcm").key for n in range(20)}
    spool.put([b"picture"], ".png")
    assert set(spool.keys(".dcm")) == objects


def test_free_space_is_told(spool: Spool) -> None:
    assert spool.free_bytes() > 0


def test_a_part_becomes_an_object_when_it_is_kept(spool: Spool) -> None:
    part = spool.new_part("stow")
    for piece in (b"head", bytearray(b"body"), memoryview(b"tail")):
        part.write(piece)
    assert (part.size_bytes, list(spool.keys(".dcm"))) == (12, [])
    stored = part.keep("ab" * 32, ".dcm")
    assert (stored.key, stored.size_bytes) == (f"ab/{'ab' * 32}.dcm", 12)
    assert spool.path(stored.key).read_bytes() == b"headbodytail"
    assert list((spool.folder / "incoming").iterdir()) == []


def test_a_part_is_durable_before_it_has_its_name_and_its_name_before_it_is_kept(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fdatasync, fsync, rename = os.fdatasync, os.fsync, Path.rename
    monkeypatch.setattr(os, "fdatasync", lambda fd: done.append("bytes") or fdatasync(fd))
    monkeypatch.setattr(os, "fsync", lambda fd: done.append("folder") or fsync(fd))
    monkeypatch.setattr(Path, "rename", lambda path, to: done.append("rename") or rename(path, to))
    part = spool.new_part("stow")
    part.write(b"x")
    part.keep("cd" * 32, ".dcm")
    assert done == ["bytes", "folder", "rename", "folder"]


def test_a_part_of_known_content_is_kept_once(spool: Spool) -> None:
    first, second = spool.new_part("stow"), spool.new_part("watch")
    for part in (first, second):
        part.write(b"same")
    assert first.keep("ef" * 32, ".dcm") == second.keep("ef" * 32, ".dcm")
    assert len(files(spool)) == 1


def test_a_discarded_part_leaves_nothing(spool: Spool) -> None:
    part = spool.new_part("stow")
    part.write(b"x")
    part.discard()
    part.discard()
    assert files(spool) == []


def test_only_the_leftovers_of_one_owner_are_removed(spool: Spool) -> None:
    for owner in ("stow", "stow", "dicom"):
        spool.new_part(owner).finish()
    assert spool.remove_parts("stow") == 2
    assert [path.name.split("-")[0] for path in files(spool)] == ["dicom"]


def test_parts_that_nobody_writes_any_more_are_removed(spool: Spool) -> None:
    old, new = (spool.new_part("upload").finish() for _ in range(2))
    os.utime(old, (0, 0))
    assert spool.remove_abandoned_parts() == 1
    assert files(spool) == [new]
