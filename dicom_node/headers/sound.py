"""What a received header says that can be read at all; a value that nobody can read counts as not said.

Readable means: pydicom can convert it, and it has the kind (number, text, sequence) and the number of values that the
dictionary of PS3.6 gives the attribute. Whether it may be *written* is a stricter question (`sr_writer.copied`).
"""

from __future__ import annotations

import copy
import math
import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache

from pydicom.datadict import dictionary_keyword, dictionary_VM, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import PersonName

from dicom_node.core.uids import is_valid_uid

#: What pydicom and its codecs raise for broken input, found by reading and by feeding them broken files.
READ_ERRORS = (
    InvalidDicomError,
    ArithmeticError,
    AttributeError,
    BytesLengthException,
    EOFError,
    LookupError,
    NotImplementedError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)

NUMBER_VRS = frozenset({"DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV", "US or SS"})
TEXT_VRS = frozenset({"AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"})
#: One is nothing without the other.
_PAIRS = (frozenset({"WindowCenter", "WindowWidth"}), frozenset({"RescaleSlope", "RescaleIntercept"}))
#: Large, and read frame by frame, where a malformed one has a reason of its own.
_READ_BY_FRAME = frozenset({"PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"})
_PIXELS = 0x7FE0


def drop_unreadable(header: Dataset) -> None:
    """Take what cannot be read out of a header, which keeps the names: see `first_unreadable`."""
    unreadable = list(_unreadable(header))
    names = {dictionary_keyword(tag) for tag in unreadable}
    for pair in _PAIRS:
        if pair & names:
            unreadable += [Tag(keyword) for keyword in pair]
    for tag in unreadable:
        header.pop(tag, None)
    header.unreadable = unreadable_in(header) | names


def without_unreadable(header: Dataset) -> Dataset:
    """Return a header without what cannot be read; the same object where everything can, or where nothing is left."""
    if hasattr(header, "unreadable") or not any(True for _ in _unreadable(header)):
        return header
    sound = with_own_elements(header)
    drop_unreadable(sound)
    return sound


def with_own_elements(header: Dataset) -> Dataset:
    """Return a copy that elements can be put into and taken out of; the elements themselves are shared.

    It has all that reading left in the dataset (encodings, decoded pixels).
    """
    copied = copy.copy(header)
    copied._dict = dict(header.items())
    return copied


def unreadable_in(header: Dataset) -> frozenset[str]:
    """Return the keywords of attributes that were taken out of this header because nobody can read them."""
    return frozenset(getattr(header, "unreadable", ()))


def first_unreadable(header: Dataset, keywords: Iterable[str]) -> str:
    """Return the first of these attributes that nobody could read, "" when there is none.

    For those to whom a value that is missing and one that cannot be read are not the same.
    """
    dropped = unreadable_in(header)
    return next((keyword for keyword in keywords if keyword in dropped), "")


def _unreadable(header: Dataset) -> Iterator[BaseTag]:
    """Yield the standard attributes outside the pixels whose values cannot be read."""
    for tag in list(header.keys()):
        if tag.group != _PIXELS and not tag.is_private:
            due = _due(tag)
            if due is not None and not _is_readable(header, tag, *due):
                yield tag


@lru_cache(maxsize=8192)  # the dictionary has 5,200; senders may write any of 2^32
def _due(tag: BaseTag) -> tuple[str, str] | None:
    """Return VR and number of values of an attribute; `None` where there is nothing to hold it to."""
    try:
        if dictionary_keyword(tag) in _READ_BY_FRAME:
            return None
        return dictionary_VR(tag), dictionary_VM(tag)
    except KeyError:
        return None


def _is_readable(header: Dataset, tag: BaseTag, vr: str, multiplicity: str) -> bool:
    raw: object = header.get_item(tag)
    if isinstance(raw, RawDataElement) and _is_plainly_one_text(raw, vr):
        return True
    try:
        return is_as_due(header[tag], vr, multiplicity)
    except (*READ_ERRORS, OSError):
        return False


def _is_plainly_one_text(raw: RawDataElement, vr: str) -> bool:
    """Whether this is one text value beyond doubt, so that converting it can wait: a series has many headers."""
    is_text = vr == raw.VR and vr in TEXT_VRS and vr != "UI"
    return is_text and isinstance(raw.value, bytes) and b"\\" not in raw.value


def is_as_due(element: DataElement, vr: str, multiplicity: str) -> bool:
    """Whether a converted value has the kind and the number of values that are due; one without a value has.

    Raises one of `READ_ERRORS` where a sequence holds what cannot be read.
    """
    value = element.value
    if vr == "SQ" or isinstance(value, DicomSequence):
        return vr == "SQ" and isinstance(value, DicomSequence) and all(_is_whole(item) for item in value)
    values = list(value) if isinstance(value, MultiValue | list | tuple) else [value]
    if all(one is None or one in ("", b"") for one in values):
        return True
    if multiplicity.isdigit() and vr in NUMBER_VRS | TEXT_VRS and len(values) != int(multiplicity):
        return False
    return all(_has_kind(one, vr) for one in values)


def _is_whole(item: Dataset) -> bool:
    return all(isinstance(child.keyword, str) for child in item.iterall())


def _has_kind(value: object, vr: str) -> bool:
    if vr in NUMBER_VRS:
        return isinstance(value, int | float) and math.isfinite(value)
    if vr == "UI":
        return isinstance(value, str) and is_valid_uid(value)  # what was good enough to be received
    return isinstance(value, str | PersonName) if vr in TEXT_VRS else True
