"""Stored objects read for viewers in confined processes: what is hostile ends one process and one answer."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless

from dicom_node.core.errors import NodeError, UnreadableObject
from dicom_node.headers.file_meta import file_head
from dicom_node.sandbox.host import ProcessLimits
from dicom_node.storage.digest import file_sha256
from dicom_node.viewing.described import View
from dicom_node.viewing.readers import ImageReaders, ObjectLost, StoredFile

SIDE = 16384


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("objects")


@pytest.fixture(scope="module")
def readers(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageReaders]:
    limits = ProcessLimits(time_s=60, address_space_mb=1280)  # less than a node allows: the bomb ends sooner
    one = ImageReaders(tmp_path_factory.mktemp("work") / "readers", folder, limits=limits)
    yield one
    one.close()


def image(rows: int = 4, columns: int = 4, syntax: UID = ExplicitVRLittleEndian, frames: int = 1) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "2.25.1"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel, dataset.NumberOfFrames = rows, columns, 1, frames
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


def kept(folder: Path, name: str, dataset: Dataset, pixels: bytes) -> StoredFile:
    dataset.PixelData = pixels
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    else:
        dataset["PixelData"].VR = "OW"
    dataset.save_as(folder / name, enforce_file_format=True)
    return stored(folder / name)


def stored(path: Path) -> StoredFile:
    return StoredFile(path, file_sha256(path))


def test_an_object_that_breaks_its_reader_keeps_nobody_else_from_theirs(readers: ImageReaders, folder: Path) -> None:
    good = kept(folder, "good", image(), bytes(range(32)))
    assert readers.decoded(good, 1) == bytes(range(32))
    run = b"\x81\0" * (SIDE * SIDE // 128)  # 128 zeros in two bytes, so often that nobody can hold the picture
    frame = struct.pack("<16L", 2, 64, 64 + len(run), *[0] * 13) + run + run
    bomb = kept(folder, "bomb", image(SIDE, SIDE, RLELossless), encapsulate([frame]))
    ended: list[Exception] = []

    def open_the_bomb() -> None:
        try:
            readers.drawn(bomb, 1, View(viewport=(64, 64)))
        except NodeError as error:
            ended.append(error)

    thread = threading.Thread(target=open_the_bomb)
    thread.start()
    assert readers.drawn(good, 1, View()).content.startswith(b"\xff\xd8")
    thread.join()
    assert isinstance(ended[0], UnreadableObject)
    assert "worker process" in str(ended[0])
    assert readers.drawn(good, 1, View(media_type="image/png")).content.startswith(b"\x89PNG")


def nested(path: Path) -> None:
    """Write sequences within sequences, a thousand deep, that never end."""
    sequence, item = b"\x40\0\x30\xa7SQ\0\0\xff\xff\xff\xff", b"\xfe\xff\0\xe0\xff\xff\xff\xff"
    path.write_bytes(
        file_head("1.2.840.10008.5.1.4.1.1.7", "2.25.1", ExplicitVRLittleEndian) + (sequence + item) * 1000
    )


def cut_off(path: Path) -> None:
    kept(
        path.parent, path.name, image(64, 64, JPEGBaseline8Bit), encapsulate([b"\xff\xd8" + bytes(5000) + b"\xff\xd9"])
    )
    path.write_bytes(path.read_bytes()[:2000])


@pytest.mark.parametrize("make", [
    nested, cut_off, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(bytes(5000)),
    lambda path: path.write_bytes(bytes(128) + b"DICM" + b"\xff" * 5000),
    lambda path: kept(path.parent, path.name, image(65535, 65535, frames=99), bytes(64)),
], ids=["nested", "cut off", "empty", "zeros", "noise", "too large"])  # fmt: skip
def test_what_cannot_be_read_is_told_and_not_shown(
    readers: ImageReaders, tmp_path: Path, folder: Path, make: Callable[[Path], object]
) -> None:
    path = folder / tmp_path.name
    make(path)
    with pytest.raises(NodeError):
        readers.drawn(stored(path), 1, View())


def test_frames_of_several_fragments_are_told_apart_by_where_they_begin(readers: ImageReaders, folder: Path) -> None:
    frames = [b"\xff\xd8" + bytes([number]) * 4000 + b"\xff\xd9" for number in range(3)]
    for name, has_table in (("table", True), ("none", False)):
        pixels = encapsulate(frames, fragments_per_frame=2, has_bot=has_table)
        file = kept(folder, name, image(8, 8, JPEGBaseline8Bit, 3), pixels)
        layout = readers.describe(file).layout
        content = file.path.read_bytes()
        found = [b"".join(content[at : at + length] for at, length in layout.pieces(number)) for number in (1, 2, 3)]
        assert [one.rstrip(b"\0") for one in found] == frames, name


def test_a_process_reads_objects_and_nothing_else(readers: ImageReaders, folder: Path, tmp_path: Path) -> None:
    elsewhere = kept(tmp_path, "elsewhere", image(), bytes(32))
    with pytest.raises(UnreadableObject, match="PermissionError"):
        readers.describe(elsewhere)
    with pytest.raises(ObjectLost):
        readers.describe(StoredFile(folder / "no such", "0" * 64))
