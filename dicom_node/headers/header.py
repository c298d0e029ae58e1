"""What the node must know of a received object: read from its header, pixels untouched.

The data set comes from a stranger. Whatever is wrong with it ends in `RefusedObject` with the status to answer.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import BinaryIO

from pydicom import Dataset
from pydicom.dataelem import DataElement
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from dicom_node import MANUFACTURER
from dicom_node.core.entities import InstanceRole, PatientNumber
from dicom_node.core.errors import RefusedObject, StoreStatus
from dicom_node.core.received.rejections import KEY_OBJECT_SELECTION
from dicom_node.core.series.age import AGE_YEARS, completed_years
from dicom_node.core.uids import is_valid_uid
from dicom_node.headers.rejection_note import NOTE_TAGS, rejection_of
from dicom_node.headers.sound import READ_ERRORS

#: Attributes kept for routing and for the operator. No names, no patient identifiers.
ROUTING_KEYWORDS = (
    "Modality", "BodyPartExamined", "StudyDescription", "SeriesDescription", "ProtocolName", "ImageType",
    "Manufacturer", "ManufacturerModelName", "StationName", "InstitutionName", "PatientAge", "PatientSex",
    "PatientPosition", "ViewPosition", "Laterality", "ImageLaterality", "PresentationIntentType", "Rows", "Columns",
    "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "SliceThickness", "ConvolutionKernel",
    "ContrastBolusAgent", "GantryDetectorTilt", "AcquisitionNumber", "InstanceNumber", "SeriesNumber", "StudyDate",
    "AccessionNumber", "BurnedInAnnotation", "QualityControlImage", "QualityControlSubject",
    "RequestedProcedurePriority", "RescaleType", "KVP", "MultienergyCTAcquisition", "AnatomicRegionSequence",
)  # fmt: skip
_IDENTITY_KEYWORDS = ("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_MARK_KEYWORDS = ("ContributingEquipmentSequence",)
#: Read for the age alone: the date itself is not kept.
_AGE_KEYWORDS = ("PatientBirthDate",)
_PATIENT_KEYWORDS = ("PatientID", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence")
_LONGEST_NUMBER = 64
_WANTED: list[BaseTag | int] = [
    Tag(keyword)
    for keyword in (*_IDENTITY_KEYWORDS, *ROUTING_KEYWORDS, *_MARK_KEYWORDS, *_AGE_KEYWORDS, *_PATIENT_KEYWORDS)
]

#: Everything the node wants stands before this tag; what a large header is large by (functional groups) stands behind.
_BEHIND_WANTED = 0x50000000
_StopWhen = Callable[[BaseTag, str | None, int], bool]
_PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_PIXEL_VRS = (b"OB", b"OW", b"OF", b"OD", b"UN")
_UNDEFINED_LENGTH = 0xFFFFFFFF
_ITEM = 0xFFFEE000
_ELEMENT_HEADER_BYTES = 8
#: pydicom looks for the end of a value of unknown length in pieces of this size; those may come up short.
_READ_AHEAD_BYTES = 8192
_MAX_ATTRIBUTE_CHARACTERS = 256

#: Objects that speak about images instead of being images: reports, segmentations, presentation states, documents.
_EVIDENCE_PREFIXES = (
    "1.2.840.10008.5.1.4.1.1.88.",  # structured reports, key object selections
    "1.2.840.10008.5.1.4.1.1.66",  # registrations, segmentations, surface segmentations
    "1.2.840.10008.5.1.4.1.1.11.",  # presentation states
    "1.2.840.10008.5.1.4.1.1.104.",  # encapsulated documents
    "1.2.840.10008.5.1.4.1.1.30",  # parametric maps
    "1.2.840.10008.5.1.4.1.1.90.",  # content assessment results
    "1.2.840.10008.5.1.4.1.1.481.",  # radiotherapy objects
    "1.2.840.10008.5.1.4.1.1.9.",  # waveforms
)
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # and, one level below, its multi-frame kinds


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The part of a received object that the index keeps."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    role: InstanceRole
    attributes: Mapping[str, str]
    #: Whose the object says it is; kept apart from what routes decide by.
    patient: PatientNumber | None = None


class _Watched(io.BytesIO):
    """A stream that notes when less was there than asked for; pydicom takes a cut-off value for a short one."""

    is_cut_off = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Read. Only the end of the data set may come where the next element is looked for."""
        found = super().read(size)
        asked = size or 0
        if len(found) < asked < _READ_AHEAD_BYTES and not (asked == _ELEMENT_HEADER_BYTES and not found):
            self.is_cut_off = True
        return found


def read_header(data_set: bytes | bytearray | memoryview, transfer_syntax_uid: str) -> Header:
    """Read the header of an encoded data set (no preamble, no file meta).

    Raises `RefusedObject`: 0xC000 when it cannot be parsed, lacks its UIDs or is cut off inside the pixel data;
    reading stops before the pixels.
    """
    stream = _Watched(data_set)
    dataset = _parsed(stream, transfer_syntax_uid, _at_pixels)
    if stream.is_cut_off or stream.tell() > len(data_set):
        raise _not_understood("it is cut off inside its header")
    _refuse_cut_off_pixels(stream, UID(transfer_syntax_uid))
    return _read_on(stream, 0, transfer_syntax_uid, _header(dataset))


def read_header_of_file(file: BinaryIO, transfer_syntax_uid: str) -> Header:
    """Read the header of a data set that begins where `file` stands and was found whole before, however large it is.

    Raises `RefusedObject` with 0xC000 when it cannot be parsed or lacks its UIDs.
    """
    start = file.tell()
    return _read_on(file, start, transfer_syntax_uid, _header(_parsed(file, transfer_syntax_uid, _behind_wanted)))


def _read_on(stream: BinaryIO, start: int, transfer_syntax_uid: str, header: Header) -> Header:
    """Add what a rejection note says, whose data set begins at `start`; of what is no note, nothing more is read."""
    if header.sop_class_uid != KEY_OBJECT_SELECTION:
        return header
    stream.seek(start)
    try:
        rejection = rejection_of(_parsed(stream, transfer_syntax_uid, _behind_wanted, NOTE_TAGS))
    except READ_ERRORS as error:
        raise _not_understood(f"the objects that it selects cannot be read ({type(error).__name__})") from error
    if rejection is None:
        return header
    return replace(header, attributes={**header.attributes, **rejection.as_attributes()})


def _header(dataset: Dataset) -> Header:
    uids = {keyword: _uid(dataset, keyword) for keyword in _IDENTITY_KEYWORDS[1:]}
    return Header(
        sop_class_uid=uids["SOPClassUID"],
        sop_instance_uid=uids["SOPInstanceUID"],
        study_instance_uid=uids["StudyInstanceUID"],
        series_instance_uid=uids["SeriesInstanceUID"],
        role=_role(dataset, uids["SOPClassUID"]),
        attributes=_attributes(dataset),
        patient=_patient(dataset),
    )


def _patient(dataset: Dataset) -> PatientNumber | None:
    """Return the patient's number and its issuer, by its name or else by its universal id (PS3.3 C.7.1.1, 10.14)."""
    number, issuer = _text(dataset.get("PatientID")), _text(dataset.get("IssuerOfPatientID"))
    qualifiers = dataset.get("IssuerOfPatientIDQualifiersSequence")
    if not issuer and isinstance(qualifiers, Sequence) and qualifiers:
        try:
            issuer = _text(qualifiers[0].get("UniversalEntityID"))
        except READ_ERRORS:
            issuer = ""
    fits = number and max(len(number), len(issuer)) <= _LONGEST_NUMBER
    return PatientNumber(number, issuer) if fits else None


def _parsed(
    stream: BinaryIO, transfer_syntax_uid: str, stop_when: _StopWhen, wanted: list[BaseTag | int] = _WANTED
) -> Dataset:
    syntax = UID(transfer_syntax_uid)
    try:
        dataset = read_dataset(
            stream,
            is_implicit_VR=syntax.is_implicit_VR,
            is_little_endian=syntax.is_little_endian,
            stop_when=stop_when,
            specific_tags=wanted,
        )
        for element in dataset:  # values are decoded on access; do it here, where failure has an answer
            _ = element.value
    except RecursionError as error:
        raise _not_understood("its sequences are nested too deeply") from error
    except Exception as error:
        raise _not_understood(f"its header cannot be parsed ({type(error).__name__})") from error
    return dataset


def _at_pixels(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag in _PIXEL_TAGS


def _behind_wanted(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return int(tag) >= _BEHIND_WANTED


def _refuse_cut_off_pixels(stream: io.BytesIO, syntax: UID) -> None:
    """Hold the length the pixel data element claims against what is there; pydicom does not."""
    start = stream.tell()
    head = stream.read(12)
    if len(head) < 8:
        return
    order = "<" if syntax.is_little_endian else ">"
    # Some write Implicit VR under an Explicit syntax; pydicom reads that, so look instead of believing.
    if head[4:6] not in _PIXEL_VRS:
        (length,), header_bytes = struct.unpack(order + "L", head[4:8]), 8
    else:
        (length,), header_bytes = struct.unpack(order + "L", head[8:12].ljust(4, b"\0")), 12
    end = stream.seek(0, io.SEEK_END)
    available = end - start - header_bytes
    if length == _UNDEFINED_LENGTH:
        stream.seek(start + header_bytes)
        _refuse_cut_off_fragments(stream, end)
    elif length > available:
        raise _not_understood(f"its pixel data is cut off: {length} bytes announced, {max(available, 0)} received")


def _refuse_cut_off_fragments(stream: io.BytesIO, end: int) -> None:
    """Step from fragment to fragment of encapsulated pixel data (PS3.5 A.4); it is always Little Endian."""
    while head := stream.read(_ELEMENT_HEADER_BYTES):
        group, element, length = struct.unpack("<HHL", head.ljust(_ELEMENT_HEADER_BYTES, b"\0"))
        if len(head) < _ELEMENT_HEADER_BYTES or stream.tell() + length > end:
            raise _not_understood("a fragment of its pixel data is cut off")
        if (group << 16 | element) != _ITEM:
            return
        stream.seek(length, io.SEEK_CUR)


def _uid(dataset: Dataset, keyword: str) -> str:
    value = str(dataset.get(keyword) or "")
    if not is_valid_uid(value):
        raise _not_understood(f"{keyword} is {'not a valid UID' if value else 'missing'}")
    return value


def _not_understood(what: str) -> RefusedObject:
    return RefusedObject(StoreStatus.CANNOT_UNDERSTAND, f"The object was refused: {what}. Correct it at the sender.")


def _role(dataset: Dataset, sop_class_uid: str) -> InstanceRole:
    if _is_own(dataset):
        return InstanceRole.OWN_RESULT
    image_type = _text(dataset.get("ImageType"))
    is_capture = sop_class_uid == _SECONDARY_CAPTURE or sop_class_uid.startswith(f"{_SECONDARY_CAPTURE}.")
    if (is_capture and image_type.startswith("DERIVED\\SECONDARY")) or sop_class_uid.startswith(_EVIDENCE_PREFIXES):
        return InstanceRole.EVIDENCE
    return InstanceRole.SOURCE


def _is_own(dataset: Dataset) -> bool:
    if _text(dataset.get("Manufacturer")) == MANUFACTURER:
        return True
    equipment = dataset.get("ContributingEquipmentSequence") or []
    return any(_text(item.get("Manufacturer")) == MANUFACTURER for item in equipment)


def _attributes(dataset: Dataset) -> dict[str, str]:
    found: dict[str, str] = {}
    for element in dataset:
        name = _ATTRIBUTE_NAMES.get(element.tag)
        text = (_codes(element) if element.VR == "SQ" else _text(element)) if name else ""
        if name and text:
            found[name] = text[:_MAX_ATTRIBUTE_CHARACTERS]
    years = completed_years(*(_text(dataset.get(one)) for one in ("PatientAge", "PatientBirthDate", "StudyDate")))
    return found | ({AGE_YEARS: years} if years else {})


def _codes(sequence: DataElement) -> str:
    """Return the code values of a sequence of codes, as values are joined."""
    return "\\".join(filter(None, (_text(item.get("CodeValue")) for item in sequence.value or [])))


def _text(value: object) -> str:
    """Return a value as on the wire: several values joined by a backslash, control characters dropped."""
    if isinstance(value, DataElement):
        value = value.value
    if value is None:
        return ""
    text = "\\".join(str(v) for v in value) if isinstance(value, MultiValue | list) else str(value)
    return "".join(c for c in text if c.isprintable()).strip()


def snake_case(keyword: str) -> str:
    """Turn a DICOM keyword into the name it has here: ``BodyPartExamined`` → ``body_part_examined``."""
    letters: list[str] = []
    for index, letter in enumerate(keyword):
        before = keyword[index - 1] if index else ""
        after = keyword[index + 1] if index + 1 < len(keyword) else ""
        if letter.isupper() and index and (before.islower() or (before.isupper() and after.islower())):
            letters.append("_")
        letters.append(letter.lower())
    return "".join(letters)


_ATTRIBUTE_NAMES: dict[int, str] = {Tag(keyword): snake_case(keyword) for keyword in ROUTING_KEYWORDS}
