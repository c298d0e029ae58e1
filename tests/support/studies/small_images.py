"""CT images of any size made from bytes in microseconds, so that a test can send thousands."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path

import pydicom

from dicom_node.core.uids import derived_uid

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_LITTLE, IMPLICIT_LITTLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
_LONG = {b"OB", b"OW", b"UN", b"SQ"}


@dataclass(frozen=True)
class Image:
    """A data set as it goes over the wire, Explicit VR Little Endian, and what names it."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    data_set: bytes

    def save(self, folder: Path) -> Path:
        """Write it as a file and return where."""
        dataset = pydicom.filereader.read_dataset(io.BytesIO(self.data_set), False, True)
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(EXPLICIT_LITTLE)
        dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.UID(self.sop_class_uid)
        dataset.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.UID(self.sop_instance_uid)
        path = folder / f"{self.sop_instance_uid}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        return path


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    """Return a data element in Explicit VR Little Endian."""
    value += (b" " if vr not in _LONG | {b"UI"} else b"\0") * (len(value) % 2)
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    return head + (struct.pack("<xxL", len(value)) if vr in _LONG else struct.pack("<H", len(value))) + value


def header(name: str, study: str = "study", patient_name: bytes = b"Phantom^Test", **uids: str) -> bytes:
    """Return all elements before the image: identity, patient, study; `uids` replaces sop_instance_uid, study_uid or
    series_uid."""
    made = {
        "sop_instance_uid": uid(name),
        "study_uid": derived_uid("test-study", study),
        "series_uid": derived_uid("test-series", study),
        **uids,
    }
    return b"".join(
        (
            element(0x00080005, b"CS", b"ISO_IR 192"),
            element(0x00080016, b"UI", CT_IMAGE.encode()),
            element(0x00080018, b"UI", made["sop_instance_uid"].encode()),
            element(0x00080020, b"DA", b"20260105"),
            element(0x00080030, b"TM", b"080000"),
            element(0x00080050, b"SH", b""),
            element(0x00080060, b"CS", b"CT"),
            element(0x00080090, b"PN", b""),
            element(0x00100010, b"PN", patient_name),
            element(0x00100020, b"LO", b"PHANTOM-" + study.encode()),
            element(0x00100030, b"DA", b""),
            element(0x00100040, b"CS", b"O"),
            element(0x0020000D, b"UI", made["study_uid"].encode()),
            element(0x0020000E, b"UI", made["series_uid"].encode()),
            element(0x00200010, b"SH", b""),
            element(0x00200011, b"IS", b"1"),
            element(0x00200013, b"IS", b"1"),
        )
    )


def image_module(rows: int, columns: int, frames: int = 1) -> bytes:
    """Return the elements that describe 16-bit pixels."""
    numbers = [(0x00280002, 1), (0x00280010, rows), (0x00280011, columns), (0x00280100, 16), (0x00280101, 16)]
    numbers += [(0x00280102, 15), (0x00280103, 0)]
    found = {tag: element(tag, b"US", struct.pack("<H", value)) for tag, value in numbers}
    found[0x00280004] = element(0x00280004, b"CS", b"MONOCHROME2")
    if frames > 1:
        found[0x00280008] = element(0x00280008, b"IS", str(frames).encode())
    return b"".join(found[tag] for tag in sorted(found))


def uid(name: str) -> str:
    """Return the SOP Instance UID of the image of this name."""
    return derived_uid("test-instance", name)


def small_image(
    name: str, study: str = "study", *, rows: int = 32, content: bytes = b"", patient_name: bytes = b"Phantom^Test"
) -> Image:
    """Return a square image whose pixels follow from `content` (default: its name)."""
    seed = content or name.encode()
    wanted = rows * rows * 2
    pixels = (seed * (wanted // len(seed) + 1))[:wanted]
    head = header(name, study, patient_name=patient_name) + image_module(rows, rows)
    data_set = head + element(0x7FE00010, b"OW", pixels)
    return Image(CT_IMAGE, uid(name), derived_uid("test-study", study), data_set)
