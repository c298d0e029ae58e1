"""What the senders send: synthetic images, new ones for every round, so that nothing is a duplicate."""

from __future__ import annotations

import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

CT, ENHANCED_CT, MR = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("2", "2.1", "4"))
_ROOT = "1.2.826.0.1.3680043.8.498.77."
#: Stands where the number of the instance goes: ten digits, the first one never a zero.
_PLACE = "9999999999"


@dataclass(frozen=True, slots=True)
class Load:
    """One kind of object: how many bytes of pixels, in frames of which size."""

    name: str
    sop_class_uid: str
    rows: int
    frames: int = 1

    @property
    def pixel_bytes(self) -> int:
        """The bytes of its pixel data (16 bits each)."""
        return self.rows * self.rows * 2 * self.frames


LOADS = {
    "ct": Load("ct", CT, 512),  # 512 KiB
    "mr": Load("mr", MR, 176),  # 60 KiB
    "big": Load("big", ENHANCED_CT, 512, 2048),  # 1 GiB
}


def encoded(load: Load) -> bytes:
    """Return a DICOM file up to and without its pixels, with `_PLACE` where the numbers go."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = UID(load.sop_class_uid)
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = UID(_ROOT + _PLACE)
    image.StudyInstanceUID, image.SeriesInstanceUID = UID(f"{_ROOT}1.{_PLACE}"), UID(f"{_ROOT}2.{_PLACE}")
    image.Modality, image.PatientID, image.PatientName = "CT", "BENCHMARK", "Bench^Mark"
    image.StudyDate, image.StudyDescription, image.SeriesDescription = "20260101", "Benchmark", "Benchmark"
    image.Manufacturer, image.ImageType = "Bench", ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.Rows = image.Columns = load.rows
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    if load.frames > 1:
        image.NumberOfFrames = load.frames
    image.PixelData = b"\0\0"
    buffer = BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()[: -len(b"\0\0") - 4] + load.pixel_bytes.to_bytes(4, "little")


def write_load(folder: Path, load: Load, count: int, series: int) -> int:
    """Write `count` files of one series, numbered by `series`; return how many bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    head, pixels = encoded(load), os.urandom(min(load.pixel_bytes, 1 << 20))
    for old in folder.glob("*.dcm"):
        old.unlink()
    study = f"{1_000_000_000 + series}"
    for index in range(count):
        number = f"{1_000_000_000 + series * 10_000 + index}"
        with (folder / f"{index:05d}.dcm").open("wb") as file:
            file.write(_numbered(head, study, number))
            for start in range(0, load.pixel_bytes, len(pixels)):
                file.write(pixels[: load.pixel_bytes - start])
    return count * (len(head) + load.pixel_bytes)


def _numbered(head: bytes, study: str, number: str) -> bytes:
    place = _PLACE.encode()
    for prefix in (b"77.1.", b"77.2."):
        head = head.replace(prefix + place, prefix + study.encode())
    return head.replace(place, number.encode())
