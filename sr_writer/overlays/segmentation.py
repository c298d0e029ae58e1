"""Masks become a DICOM Segmentation in the geometry of the source (PS3.3 A.51)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node import MANUFACTURER, PRODUCT_NAME, __version__, codes
from dicom_node.analysis import Analysis, NotAnalysed, Segment, WrittenObject
from dicom_node.model import ArtifactKind, Code
from dicom_node.sr_writer.identity import ResultIdentity, builder_header, stamp
from dicom_node.sr_writer.source_frames import refer_to_frames, stand_in_uids
from dicom_node.sr_writer.text import ascii_text, long_string
from dicom_node.sr_writer.writing import Writing

SERIES_NUMBER = 9903


def tracking_uid(identity: ResultIdentity, finding_key: str) -> str:
    """Return the UID that ties a segment to the measurement group about it."""
    return identity.uid("tracking", finding_key)


def segmentations(writing: Writing, _variant: object) -> Iterator[WrittenObject]:
    """Make the one SEG of an analysis that has any mask."""
    made = None if isinstance(writing.answer, NotAnalysed) else segmentation(writing.answer, writing.identity)
    if made is not None:
        yield WrittenObject(kind=ArtifactKind.SEGMENTATION, dataset=made, order=1, description="Segmentation")


def segmentation(analysis: Analysis, identity: ResultIdentity) -> Dataset | None:
    """Return the BINARY SEG of all segments that contain anything, `None` when none does.

    Segments are numbered 1, 2, … in the order of the analysis, without the empty ones.
    """
    segments = [segment for segment in analysis.segments if segment.mask.any()]
    if not segments:
        return None
    sources = [builder_header(source) for source in analysis.sources]
    standing = stand_in_uids(analysis.sources, sources)
    dataset: Dataset = Segmentation(
        source_images=sources,
        pixel_array=_stacked(segments),
        segmentation_type="BINARY",
        segment_descriptions=[_description(n, segment, identity) for n, segment in enumerate(segments, start=1)],
        series_instance_uid=identity.uid("seg-series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=identity.uid("seg"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=PRODUCT_NAME,
        software_versions=__version__,
        device_serial_number=identity.context.node_uid,
        omit_empty_frames=True,
        content_label="AI_SEGMENTATION",
        content_description=long_string(f"{identity.marking}: {identity.model.name}"),
        content_creator_name=f"{long_string(identity.context.ae_title, 16)}^",
    )
    refer_to_frames(dataset, standing)
    _make_repeatable(dataset, identity)
    _name_sides(dataset, segments, analysis)
    if "FrameOfReferenceUID" not in dataset:
        dataset.PatientOrientation = analysis.sources[0].get("PatientOrientation") or ""
    stamp(dataset, identity, f"segmentation {identity.model.name}")
    return dataset


def _stacked(segments: Sequence[Segment]) -> NDArray[np.uint8]:
    """Return a label map (slices, rows, columns), or one channel per segment where segments overlap."""
    labels = np.zeros(segments[0].mask.shape, dtype=np.uint8)
    for number, segment in enumerate(segments, start=1):
        if labels[segment.mask].any():
            return np.stack([segment.mask for segment in segments], axis=-1).astype(np.uint8)
        labels[segment.mask] = number
    return labels


def _description(number: int, segment: Segment, identity: ResultIdentity) -> SegmentDescription:
    model = identity.model
    return SegmentDescription(
        segment_number=number,
        segment_label=long_string(segment.label),
        segmented_property_category=coded(segment.category),
        segmented_property_type=coded(segment.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=long_string(model.name),
            family=coded(codes.ARTIFICIAL_INTELLIGENCE),
            version=long_string(model.version),
            source=long_string(model.manufacturer),
            parameters={"digest": model.digest},
        ),
        tracking_uid=tracking_uid(identity, segment.finding_key),
        tracking_id=ascii_text(segment.label)[:64],
        anatomic_regions=[coded(segment.anatomic_region)] if segment.anatomic_region is not None else None,
        display_color=CIELabColor.from_rgb(*segment.color_rgb),
    )


def coded(code: Code) -> CodedConcept:
    """Return a code as highdicom wants it."""
    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning)


def _make_repeatable(dataset: Dataset, identity: ResultIdentity) -> None:
    """Replace the dimension organisation UID, which highdicom draws at random."""
    uid = identity.uid("seg-dimensions")
    for item in dataset.DimensionOrganizationSequence:
        item.DimensionOrganizationUID = uid
    for item in dataset.DimensionIndexSequence:
        item.DimensionOrganizationUID = uid


def _name_sides(dataset: Dataset, segments: Sequence[Segment], analysis: Analysis) -> None:
    """Say left or right in the code of each segment whose finding has a side, not only in its label."""
    sides = {finding.key: finding.laterality for finding in analysis.findings}
    for item, segment in zip(dataset.SegmentSequence, segments, strict=True):
        side = sides.get(segment.finding_key)
        if side is not None:
            item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [coded(side)]
