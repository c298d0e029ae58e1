"""An archive is whole for every reader, and is written without being held."""

from __future__ import annotations

import hashlib
import subprocess
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import pytest

from dicom_node.operate.exports.zip_stream import ZipEntry, ZipStream

AT = datetime(2026, 3, 14, 9, 30, tzinfo=UTC)


def test_what_went_in_comes_out_by_python_and_by_unzip(tmp_path: Path) -> None:
    content = {"a/one.dcm": bytes(range(256)) * 5000, "empty.json": b"", "täglich.csv": b"x,y\r\n"}
    stream = ZipStream(AT)
    archive = b"".join(stream.bytes_of(ZipEntry(name, lambda it=it: [it]) for name, it in content.items()))  # type: ignore[misc]
    assert {one.name: one.sha256 for one in stream.written} == {
        name: hashlib.sha256(it).hexdigest() for name, it in content.items()
    }
    with ZipFile(BytesIO(archive)) as read:
        assert read.testzip() is None
        assert {name: read.read(name) for name in read.namelist()} == content
    (tmp_path / "it.zip").write_bytes(archive)
    subprocess.run(["unzip", "-q", str(tmp_path / "it.zip"), "-d", str(tmp_path / "out")], check=True)
    assert (tmp_path / "out/a/one.dcm").read_bytes() == content["a/one.dcm"]


def test_an_archive_far_larger_than_what_is_held_of_it() -> None:
    piece = hashlib.shake_256(b"noise").digest(1 << 18)  # it does not shrink

    def pieces() -> Iterator[bytes]:
        yield from (piece for _ in range(64))

    tracemalloc.start()
    size = sum(map(len, ZipStream(AT).bytes_of([ZipEntry("it", pieces)])))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size > 15 << 20
    assert peak < 4 << 20


def test_an_archive_that_broke_off_is_none() -> None:
    def breaking() -> Iterator[bytes]:
        yield b"half"
        raise OSError("the disk has gone")

    got: list[bytes] = []
    with pytest.raises(OSError, match="gone"):
        got.extend(ZipStream(AT).bytes_of([ZipEntry("it", breaking)]))
    with pytest.raises(BadZipFile):
        ZipFile(BytesIO(b"".join(got)))
