"""Two received files held against each other: in which attributes they differ, and whether they show the same pixels.

What only says how and where an object is kept is no difference: transfer syntax, character set, group lengths, padding,
the archive's own marks. Runs in a process with limits, for both files come from strangers.
"""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.pixels.utils import iter_pixels
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from dicom_node.core.received.versions import Difference, PixelVerdict
from dicom_node.headers.patient import compare as compare_patients
from dicom_node.headers.patient import said_in
from dicom_node.headers.sound import READ_ERRORS
from dicom_node.logs import quiet_third_parties

#: How an object is encoded, and where it is kept (PS3.3 C.12.1, PS3.4 C.4): nothing that it says of its patient.
_NOT_CONTENT = frozenset(
    Tag(keyword)
    for keyword in (
        "LengthToEnd", "SpecificCharacterSet", "InstanceCoercionDateTime", "RetrieveAETitle", "InstanceAvailability",
        "StorageMediaFileSetID", "StorageMediaFileSetUID", "PlanarConfiguration",
    )
)  # fmt: skip
_PIXEL_GROUP = 0x7FE0
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
#: Colours may be stored in other words than they are shown: a codec's own model stands for RGB once it is decoded.
_COLOUR = ("RGB", "YBR_")
#: Of larger files only the headers are compared.
_MOST_DECODED_BYTES = 256 << 20
#: What a header, a codec or a file that is not there may raise.
_FAILURES = (*READ_ERRORS, OSError, MemoryError)


def compare(pair: tuple[Path, Path]) -> Difference | None:
    """Return in what the second file differs from the first, `None` where one of them cannot be read."""
    quiet_third_parties()
    try:
        is_large = max(path.stat().st_size for path in pair) > _MOST_DECODED_BYTES
        old, new = (dcmread(path, stop_before_pixels=is_large) for path in pair)
        pixels = PixelVerdict.UNKNOWN if is_large else pixel_verdict(old, new)
        is_other_patient = compare_patients(said_in(old), said_in(new)).is_other_patient
        return Difference(tuple(changed_attributes(old, new)), pixels, is_other_patient)
    except _FAILURES:
        return None


def changed_attributes(old: Dataset, new: Dataset) -> list[str]:
    """Return the keywords of top-level attributes that say something else, sorted; tags for those without keyword.

    Values are compared by what they mean: in whatever character set, byte order and spelling of a number. An attribute
    without a value is as good as none.
    """
    may_be_raw = _encoding(old) == _encoding(new)
    tags = {*old.keys(), *new.keys()}
    return sorted(_name(tag) for tag in tags if _is_content(tag) and not _is_same(old, new, tag, may_be_raw=may_be_raw))


def _encoding(header: Dataset) -> tuple[Any, ...]:
    """Return what bytes of a value must have in common to be compared as they are."""
    return (*header.original_encoding, str(header.get("SpecificCharacterSet")))


def _is_content(tag: BaseTag) -> bool:
    return tag.element != 0 and tag.group != _PIXEL_GROUP and tag not in _NOT_CONTENT


def _is_same(old: Dataset, new: Dataset, tag: BaseTag, *, may_be_raw: bool) -> bool:
    raw = [header.get_item(tag) if tag in header else None for header in (old, new)]
    if may_be_raw and all(isinstance(one, RawDataElement) for one in raw) and raw[0].value == raw[1].value:  # type: ignore[union-attr]
        return True
    try:
        before, now = _value(old, tag), _value(new, tag)
    except _FAILURES:
        return False  # not readable, and not equal byte by byte
    return bool(before == now)


def _value(header: Dataset, tag: BaseTag) -> object:
    value = header[tag].value if tag in header else None
    if tag.is_private and isinstance(value, bytes):
        return value.rstrip(b"\0 ") or None
    if tag == Tag("PhotometricInterpretation") and str(value).startswith(_COLOUR):
        return "colour"
    return None if value is None or (hasattr(value, "__len__") and len(value) == 0) else value


def _name(tag: BaseTag) -> str:
    return keyword_for_tag(tag) or f"({tag.group:04X},{tag.element:04X})"


# --- pixels --------------------------------------------------------------------------------------------------------


def pixel_verdict(old: Dataset, new: Dataset) -> PixelVerdict:
    """Tell whether two objects, read with their pixels, show the same ones; those that have none do."""
    if not any(keyword in header for header in (old, new) for keyword in _PIXELS):
        return PixelVerdict.EQUAL
    if _syntax(old) == _syntax(new) and all(old.get(keyword) == new.get(keyword) for keyword in _PIXELS):
        return PixelVerdict.EQUAL
    try:
        frames = zip_longest(iter_pixels(old), iter_pixels(new))
        is_equal = all(_is_equal(before, now, _used_bits(new)) for before, now in frames)
    except _FAILURES:
        return PixelVerdict.UNKNOWN
    return PixelVerdict.EQUAL if is_equal else PixelVerdict.CHANGED


def _syntax(header: Dataset) -> UID:
    return UID(header.file_meta.TransferSyntaxUID)


def _used_bits(header: Dataset) -> int:
    """Return the bits of a stored value that are the picture's; some codecs drop the others (PS3.5 8.1.1)."""
    stored, high = int(header.get("BitsStored", 64)), int(header.get("HighBit", 63))
    return (1 << stored) - 1 if high == stored - 1 else -1


def _is_equal(before: Any, now: Any, used_bits: int) -> bool:
    if before is None or now is None or before.shape != now.shape:
        return False
    if before.dtype != now.dtype or not np.issubdtype(now.dtype, np.integer):
        return bool(np.array_equal(before, now))
    mask = np.array(used_bits & ((1 << 8 * now.itemsize) - 1), dtype=f"u{now.itemsize}").view(now.dtype)
    return not np.any((before ^ now) & mask)
