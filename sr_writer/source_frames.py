"""Results about frames of a multi-frame object: what they refer to is the object and the frame in it."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage, UltrasoundImageStorage

from dicom_node.analysis import Saliency, frame_number_of
from dicom_node.model import Region
from dicom_node.uids import derived_uid


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
    """Give the header of every frame a UID of its own and a class of single frames, as builders tell images by these.

    Returns which source each stand-in stands for; `refer_to_frames` takes them out of the finished object again.
    """
    standing: dict[str, Dataset] = {}
    for source, header in zip(sources, headers, strict=True):
        if frame_number_of(source) is not None:
            # New elements: the header shares those of the source, and assigning would change both.
            header.add_new("SOPInstanceUID", "UI", derived_uid("frame", source_key(source)))
            header.add_new("SOPClassUID", "UI", _class_of_one_frame(source))
            standing[str(header.SOPInstanceUID)] = source
    return standing


def _class_of_one_frame(source: Dataset) -> str:
    """Return a class that asks for a place in the patient exactly where the frame has one."""
    if "FrameOfReferenceUID" not in source:
        return UltrasoundImageStorage
    return CTImageStorage if source.get("Modality") == "CT" else MRImageStorage


def refer_to_frames(segmentation: Dataset, standing: dict[str, Dataset]) -> None:
    """Replace stand-ins by the object and its frame: in what each frame was derived from, and in the list of series."""
    if not standing:
        return
    for reference in _references_of_frames(segmentation):
        reference.ReferencedFrameNumber = frame_number_of(_refer(reference, standing))
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
