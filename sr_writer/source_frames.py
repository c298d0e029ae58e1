"""Results about frames of a multi-frame object: what they refer to is the object and the frame in it."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import CTImageStorage, MRImageStorage, UltrasoundImageStorage

from dicom_node.analysis.answer import Saliency, frame_number_of
from dicom_node.core.entities import Region
from dicom_node.core.uids import derived_uid
from dicom_node.sr_writer.geometry import slice_position_mm

#: What puts an image into the patient (PS3.3 C.7.6.2).
_PLACE = ("FrameOfReferenceUID", "ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing")


def referenced_frame_numbers(source: Dataset) -> list[int] | None:
    """Return the frame a reference to `source` must name, `None` where the object has one frame."""
    number = frame_number_of(source)
    return None if number is None else [number]


def shows(source: Dataset, marked: Region | Saliency) -> bool:
    """Whether a region or a heat map lies on this source."""
    alike = str(source.SOPInstanceUID) == marked.sop_instance_uid
    return alike and marked.frame_number in {None, frame_number_of(source)}


def source_key(source: Dataset) -> str:
    """Return what tells a source from all others: its UID, and the frame where the object has many."""
    number = frame_number_of(source)
    return str(source.SOPInstanceUID) if number is None else f"{source.SOPInstanceUID}:{number}"


def marked_key(marked: Region | Saliency) -> str:
    """Return the `source_key` of the source that a region or a heat map lies on."""
    frame = marked.frame_number
    return marked.sop_instance_uid if frame is None else f"{marked.sop_instance_uid}:{frame}"


def stand_in_uids(sources: Sequence[Dataset], headers: Sequence[Dataset]) -> dict[str, Dataset]:
    """Make the headers into images that builders can tell apart and put in the patient, or that have no place at all.

    The header of a frame gets a UID of its own and a class of single frames. Where an image lacks a part of its place,
    all go without: then builders refer to the images alone, and viewers lay the result over those.
    Returns which source each changed header stands for; `refer_to_frames` takes them out of the finished object again.
    """
    thickness_mm = _slice_thickness_mm(sources)
    placed = thickness_mm is not None and all(_has_place(source) for source in sources)
    standing: dict[str, Dataset] = {}
    for source, header in zip(sources, headers, strict=True):
        # New elements: the header shares those of the source, and assigning would change both.
        if placed:
            header.add_new("SliceThickness", "DS", thickness_mm)
        else:
            for keyword in (*_PLACE, "SliceThickness"):
                header.pop(keyword, None)
        if frame_number_of(source) is not None:
            header.add_new("SOPInstanceUID", "UI", derived_uid("frame", source_key(source)))
        if frame_number_of(source) is not None or not placed:
            header.add_new("SOPClassUID", "UI", _class_of_one_frame(source, placed))
            standing[str(header.SOPInstanceUID)] = source
    return standing


def _class_of_one_frame(source: Dataset, placed: bool) -> str:
    """Return a class that asks for a place in the patient exactly where there is one."""
    if not placed:
        return UltrasoundImageStorage
    return CTImageStorage if source.get("Modality") == "CT" else MRImageStorage


def have_places(sources: Sequence[Dataset]) -> bool:
    """Whether all that puts images into the patient is known of all of these, so that one object can hold them."""
    return _slice_thickness_mm(sources) is not None and all(_has_place(source) for source in sources)


def lacking_place(sources: Sequence[Dataset]) -> str:
    """Return which attributes that put images into the patient some of these lack."""
    lacking = [one for one in _PLACE if not all(source.get(one) for source in sources)]
    return ", ".join(lacking) or ", ".join((*_PLACE, "SliceThickness"))


def _has_place(source: Dataset) -> bool:
    counts = (len(value) if isinstance(value := source.get(one), MultiValue) else bool(value) for one in _PLACE)
    return tuple(counts) == (True, 6, 3, 2)


def _slice_thickness_mm(sources: Sequence[Dataset]) -> float | None:
    """Return what the first source says, else the distance of the first two; `None` where nothing says it."""
    stated = sources[0].get("SliceThickness")
    if stated:
        return float(stated)
    positions = [slice_position_mm(source) for source in sources[:2]]
    if len(positions) < 2 or positions[0] is None or positions[1] is None:
        return None
    return round(abs(positions[1] - positions[0]), 6) or None


def refer_to_frames(segmentation: Dataset, standing: dict[str, Dataset]) -> None:
    """Replace stand-ins by the object and its frame: in what each frame was derived from, and in the list of series."""
    if not standing:
        return
    for reference in _references_of_frames(segmentation):
        number = frame_number_of(_refer(reference, standing))
        if number is not None:
            reference.ReferencedFrameNumber = number
    for series in segmentation.ReferencedSeriesSequence:
        kept: dict[str, Dataset] = {}
        for reference in series.ReferencedInstanceSequence:
            source = _refer(reference, standing)
            kept.setdefault(str(source.SOPInstanceUID), reference)
        series.ReferencedInstanceSequence = list(kept.values())


def _references_of_frames(segmentation: Dataset) -> list[Dataset]:
    """Return what frames were derived from; frames of two segments on one source share one item, named once here."""
    found = {
        id(reference): reference
        for groups in segmentation.PerFrameFunctionalGroupsSequence
        for derivation in groups.get("DerivationImageSequence") or []
        for reference in derivation.SourceImageSequence
    }
    return list(found.values())


def _refer(reference: Dataset, standing: dict[str, Dataset]) -> Dataset:
    """Make a reference to a stand-in one to its object; return the source."""
    source = standing[str(reference.ReferencedSOPInstanceUID)]
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    return source
