"""A DICOM file as a sender sees it: what must be negotiated, and where the data set starts."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from io import BytesIO, FileIO
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.dsutils import encode, split_dataset

from dicom_node.core.errors import DeliveryRefused
from dicom_node.core.uids import is_valid_uid

#: Transfer syntaxes that can be turned into each other without touching a pixel, in order of preference.
CONVERTIBLE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
#: What every receiver should take; proposed beside the file's own syntax if that is convertible.
UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


@dataclass(frozen=True, slots=True)
class DicomFile:
    """Path, identity and transfer syntax; the data set is everything from `offset` on."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    offset: int

    def fallback_syntaxes(self) -> tuple[str, ...]:
        """Return the other transfer syntaxes it can be sent in."""
        if self.transfer_syntax_uid not in CONVERTIBLE:
            return ()
        return tuple(syntax for syntax in UNCOMPRESSED if syntax != self.transfer_syntax_uid)


def read_dicom_file(path: Path) -> DicomFile:
    """Read the file meta information only. Raises `DeliveryRefused` for what is no complete DICOM file."""
    try:
        meta, offset = split_dataset(path)
        uids = [str(meta[keyword].value) for keyword in _NEEDED]
    except OSError as error:
        raise DeliveryRefused(f"{path.name} cannot be read: {error.strerror}.") from error
    except (InvalidDicomError, EOFError, KeyError, ValueError) as error:
        raise DeliveryRefused(
            f"{path.name} is not a DICOM file with file meta information (PS3.10 7.1); it cannot be sent."
        ) from error
    if not all(is_valid_uid(uid) for uid in uids):
        raise DeliveryRefused(f"{path.name} has an invalid UID in its file meta information; it cannot be sent.")
    return DicomFile(path, uids[0], uids[1], uids[2], offset)


def opened(file: DicomFile) -> FileIO:
    """Open the file unbuffered, so that it is read straight into the sending buffer."""
    try:
        return FileIO(file.path)
    except OSError as error:
        raise DeliveryRefused(f"{file.path.name} cannot be read: {error.strerror}.") from error


def transcoded(file: DicomFile, transfer_syntax_uid: str) -> BytesIO:
    """Return the data set in another of the convertible transfer syntaxes; pixels are copied, not decoded."""
    syntax = UID(transfer_syntax_uid)
    try:
        dataset = dcmread(file.path)
    except (OSError, InvalidDicomError, EOFError, ValueError, zlib.error) as error:
        raise DeliveryRefused(f"Object {file.sop_instance_uid} cannot be read; it stays unsent.") from error
    encoded = encode(dataset, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
    if encoded is None:
        raise DeliveryRefused(f"Object {file.sop_instance_uid} cannot be written as {syntax.name}; it stays unsent.")
    return BytesIO(encoded)


_NEEDED = ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID")
