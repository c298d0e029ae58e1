"""What stands in for the objects of the reviewed result, which are kept as they are: enough of each to refer to it."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset

from dicom_node.analysis.context import ReviewedObject
from dicom_node.analysis.written import WrittenObject
from dicom_node.core.entities import ArtifactKind
from dicom_node.core.outputs.artifact_kinds import OutputSet
from dicom_node.sr_writer.identity import ResultIdentity
from dicom_node.sr_writer.overlays.segmentation import tracking_uid
from dicom_node.sr_writer.text import long_string

#: Modalities by which reports tell images from states and documents; what speaks of a whole result is not referred to.
_MODALITIES = {
    ArtifactKind.SECONDARY_CAPTURE: "OT",
    ArtifactKind.SEGMENTATION: "SEG",
    ArtifactKind.PARAMETRIC_MAP: "OT",
    ArtifactKind.PRESENTATION_STATE: "PR",
    ArtifactKind.KEY_OBJECTS: "KO",
}


def kept_objects(identity: ResultIdentity, wanted: OutputSet) -> Iterator[WrittenObject]:
    """Yield the objects of the reviewed result that the readers of an output set have."""
    for order, one in enumerate(identity.context.kept, start=1):
        if one.kind in _MODALITIES and wanted.key in (one.output_keys or (wanted.key,)):
            yield WrittenObject(
                kind=one.kind, dataset=_stand_in(one, identity), order=order, description=f"Kept {one.kind}",
                picture_key=one.picture_key, finding_key=one.finding_key, output_keys=one.output_keys,
            )  # fmt: skip


def _stand_in(kept: ReviewedObject, identity: ResultIdentity) -> Dataset:
    header = Dataset()
    header.SOPClassUID = kept.sop_class_uid
    header.SOPInstanceUID = kept.sop_instance_uid
    header.SeriesInstanceUID = kept.series_instance_uid
    header.StudyInstanceUID = identity.source.StudyInstanceUID
    header.Modality = _MODALITIES[kept.kind]
    if kept.kind is ArtifactKind.SEGMENTATION:
        by_number = sorted((number, key) for key, number in kept.segment_numbers.items())
        highest = max(kept.segment_numbers.values(), default=0)  # no finding may name one: what is withheld does not
        header.SegmentSequence = [_segment(number, key, identity) for number, key in by_number]
        header.SharedFunctionalGroupsSequence = [Dataset()]
        header.PerFrameFunctionalGroupsSequence = [_frame(number + 1) for number in range(highest)]
    return header


def _segment(number: int, finding_key: str, identity: ResultIdentity) -> Dataset:
    assert identity.context.review is not None
    reviewed = identity.context.review.of(finding_key)
    item = Dataset()
    item.SegmentNumber = number
    item.TrackingUID = tracking_uid(identity, finding_key)
    item.TrackingID = long_string((reviewed.said_by_model or reviewed.finding).label)
    return item


def _frame(segment_number: int) -> Dataset:
    """Return the frame of a segment on a single image: each has one, in the order of their numbers."""
    named, groups = Dataset(), Dataset()
    named.ReferencedSegmentNumber = segment_number
    groups.SegmentIdentificationSequence = [named]
    return groups
