"""Enhanced CT and MR: every frame of a multi-frame object as the single-frame image it could have been.

What stands in the shared and the per-frame functional groups (PS3.3 C.7.6.16) becomes plain attributes, so that the
gate reads classic and enhanced objects alike.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
)

from dicom_node.analysis.answer import SourceFrame
from dicom_node.core.errors import NotAnalysable
from dicom_node.decoding.stored import Stored
from dicom_node.headers.sound import READ_ERRORS, drop_unreadable, unreadable_in

ENHANCED_CT = frozenset({EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage})
ENHANCED_MR = frozenset({EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage})
ENHANCED = ENHANCED_CT | ENHANCED_MR

#: More frames than any scanner writes into one object; a header that claims more is not believed.
_MOST_FRAMES = 100_000
_SINGLE_BYTES = 4
#: Groups that speak of other images.
_NOT_LIFTED = frozenset({"ReferencedImageSequence", "DerivationImageSequence"})
_MULTI_FRAME_ONLY = (
    "NumberOfFrames",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "DimensionOrganizationSequence",
    "DimensionIndexSequence",
)
#: Dimensions (PS3.3 C.7.6.17) that say where a frame lies, or are looked at by name.
_SPATIAL = frozenset(
    tag_for_keyword(keyword)
    for keyword in ("StackID", "InStackPositionNumber", "ImagePositionPatient", "ImagePositionVolume", "SliceLocation")
)
#: What a classic image calls the same thing.
_CLASSIC_NAMES = {
    "FrameType": "ImageType",
    "FrameAcquisitionNumber": "AcquisitionNumber",
    "EffectiveEchoTime": "EchoTime",
    "TemporalPositionIndex": "TemporalPositionIdentifier",
}


def frames_of(header: Dataset) -> Iterator[SourceFrame]:
    """Yield every frame of an enhanced object, without pixels; for reading only, as frames share their elements.

    Raises `NotAnalysable` (BAD_FUNCTIONAL_GROUPS) when there is not one set of per-frame groups for every frame.
    """
    try:
        per_frame = list(header.get("PerFrameFunctionalGroupsSequence") or [])
        shared = list(header.get("SharedFunctionalGroupsSequence") or [])
        if not 0 < len(per_frame) == int(header.NumberOfFrames) <= _MOST_FRAMES:
            raise _malformed(f"it has {len(per_frame)} sets of frame attributes for {header.NumberOfFrames} frames")
        base = _base(header)
        for groups in shared[:1]:
            _lift(base, groups)
        elements = {element.tag: element for element in base}
        known = unreadable_in(header)
        for number, groups in enumerate(per_frame, start=1):
            frame = SourceFrame(dict(elements))
            frame.frame_number = number
            frame.unreadable = known
            _lift(frame, groups)
            drop_unreadable(frame)
            yield frame
    except READ_ERRORS as error:
        raise _malformed(f"its frame attributes cannot be read ({type(error).__name__})") from error


def other_dimensions(header: Dataset, frame: SourceFrame) -> tuple[int, ...]:
    """Return the dimension index values of a frame that do not say where it lies: time, b-value, echo …"""
    pointers = [int(item.get("DimensionIndexPointer") or 0) for item in header.get("DimensionIndexSequence") or []]
    values = frame.get("DimensionIndexValues")
    numbers = [int(value) for value in ([values] if isinstance(values, int) else values or [])]
    if len(numbers) != len(pointers):
        return ()
    return tuple(number for number, pointer in zip(numbers, pointers, strict=True) if pointer not in _SPATIAL)


def with_pixels(frame: SourceFrame, stored: Stored) -> SourceFrame:
    """Return the frame with its stored values (rows, columns), readable like any uncompressed image."""
    whole = _copied(frame, frame.frame_number)
    whole.unreadable = unreadable_in(frame)
    whole.file_meta = FileMetaDataset()
    whole.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    whole.Rows, whole.Columns = stored.shape
    whole.BitsAllocated = stored.dtype.itemsize * 8
    little_endian = stored.astype(stored.dtype.newbyteorder("<"), copy=False)
    if stored.dtype.kind == "f":  # these have no other bits (PS3.3 C.7.6.24, C.7.6.25)
        keyword = "FloatPixelData" if stored.dtype.itemsize == _SINGLE_BYTES else "DoubleFloatPixelData"
        setattr(whole, keyword, little_endian.tobytes())
        return whole
    # Decoding has moved the values down to where their words begin.
    whole.HighBit = whole.BitsStored - 1
    whole.PixelData = little_endian.tobytes()
    whole["PixelData"].VR = "OW" if stored.dtype.itemsize > 1 else "OB"
    return whole


def _copied(base: Dataset, frame_number: int) -> SourceFrame:
    """Return a frame with elements of its own: assigning to an attribute changes the element in place."""
    frame = SourceFrame()
    for element in base:
        frame.add(copy.copy(element))
    frame.frame_number = frame_number
    return frame


def _base(header: Dataset) -> Dataset:
    base = Dataset()
    for element in header:
        if element.keyword not in _MULTI_FRAME_ONLY and element.tag.group != 0x7FE0:
            base.add(element)
    return base


def _lift(target: Dataset, groups: Dataset) -> None:
    """Make the attributes of single-item functional groups attributes of the image."""
    for group in groups:
        if group.tag.is_private or group.VR != "SQ" or group.keyword in _NOT_LIFTED or len(group.value) != 1:
            continue
        for element in group.value[0]:
            if element.tag.is_private:
                continue
            classic = _CLASSIC_NAMES.get(element.keyword)
            if classic is None:
                target.add(element)
            else:
                target.add_new(classic, dictionary_VR(classic), element.value)


def _malformed(problem: str) -> NotAnalysable:
    return NotAnalysable("BAD_FUNCTIONAL_GROUPS", f"An enhanced multi-frame object cannot be read: {problem}.")
