"""The spool: equal bytes once, nothing half-written, errors that say what to do."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dicom_node.errors import SpoolUnavailable
from dicom_node.spool import Spool


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


def test_the_content_decides_not_what_is_written_before_it(spool: Spool) -> None:
    first = spool.put([b"written by 1", b"body"], ".dcm", [b"body"])
    second = spool.put([b"written by 2", b"body"], ".dcm", [b"body"])
    assert first.key == second.key
    assert spool.path(first.key).read_bytes() == b"written by 1body"


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
