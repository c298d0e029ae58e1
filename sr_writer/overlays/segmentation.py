"""Masks become a DICOM Segmentation in the geometry of the source (PS3.3 A.51, A.88)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicom_node import MANUFACTURER, PRODUCT_NAME, __version__
from dicom_node.analysis.answer import Analysis, NotAnalysed, Segment
from dicom_node.analysis.written import WrittenObject
from dicom_node.core import codes
from dicom_node.core.entities import ArtifactKind, Code
from dicom_node.core.outputs.artifact_kinds import SegmentationType
from dicom_node.core.uids import tracking_uid as tracking_uid_of
from dicom_node.sr_writer.identity import ResultIdentity, builder_header, stamp
from dicom_node.sr_writer.source_frames import have_places, lacking_place, refer_to_frames, stand_in_uids
from dicom_node.sr_writer.text import ascii_text, long_string
from dicom_node.sr_writer.writing import ImagesLack, Writing

SERIES_NUMBER = 9903
_WORDS = {
    "BINARY": "Segmentation",
    "FRACTIONAL": "Segmentation with probabilities",
    "LABELMAP": "Segmentation as a label map",
}


def tracking_uid(identity: ResultIdentity, finding_key: str) -> str:
    """Return the UID that ties a segment to the measurement group about it."""
    return tracking_uid_of(identity.context.tracked_by, finding_key)


def segmentations(writing: Writing, variant: object) -> Iterator[WrittenObject]:
    """Make the one SEG of an analysis that has any mask, in the variant wanted (`outputs.SegmentationType`)."""
    if isinstance(writing.answer, NotAnalysed):
        return
    wanted = cast("SegmentationType", variant)
    made = segmentation(writing.answer, writing.identity, wanted)
    if made is not None:
        kind = str(made.get("SegmentationType"))
        instead = "" if kind.lower() == wanted else f", binary as {_WHY_BINARY[wanted]}"
        yield WrittenObject(
            kind=ArtifactKind.SEGMENTATION, dataset=made, order=1, description=f"{_WORDS[kind]}{instead}"
        )


_WHY_BINARY = {"fractional": "the model gives no probabilities", "labelmap": "segments overlap"}


def segmentation(analysis: Analysis, identity: ResultIdentity, variant: SegmentationType = "binary") -> Dataset | None:
    """Return the SEG of all segments that contain anything, `None` when none does.

    Segments are numbered 1, 2, … in the order of the analysis, without the empty ones. BINARY where `variant` cannot
    be had: fractional without probabilities, a label map of segments that overlap. Raises `ImagesLack` where several
    images have no place in the patient: nothing would say which frame lies on which.
    """
    segments = [segment for segment in analysis.segments if segment.mask.any()]
    if not segments:
        return None
    if len(analysis.sources) > 1 and not have_places(analysis.sources):
        raise ImagesLack(lacking_place(analysis.sources))
    sources = source_headers(analysis.sources)
    standing = stand_in_uids(analysis.sources, sources)
    seed = () if variant == "binary" else (variant,)
    dataset: Dataset = Segmentation(
        source_images=sources,
        **_voxels(segments, variant),
        segment_descriptions=[_description(n, segment, identity) for n, segment in enumerate(segments, start=1)],
        series_instance_uid=identity.uid("seg-series", *seed),
        series_number=SERIES_NUMBER,
        sop_instance_uid=identity.uid("seg", *seed),
        instance_number=1,
        omit_empty_frames=True,
        content_label="AI_SEGMENTATION",
        **made_by(identity),
    )
    refer_to_frames(dataset, standing)
    make_repeatable(dataset, identity.uid("seg-dimensions", *seed))
    _name_sides(dataset, segments, analysis)
    if "FrameOfReferenceUID" not in dataset:
        dataset.PatientOrientation = analysis.sources[0].get("PatientOrientation") or ""
    _stamp(dataset, identity)
    return dataset


def _voxels(segments: Sequence[Segment], variant: SegmentationType) -> dict[str, Any]:
    """Return type and voxels as highdicom wants them."""
    if variant == "fractional" and (values := fractions(segments)) is not None:
        return {
            "segmentation_type": "FRACTIONAL",
            "fractional_type": "PROBABILITY",
            "max_fractional_value": FRACTION_STEPS,
            "pixel_array": values,
        }
    labels = label_map(segments)
    if labels is None:
        return {"segmentation_type": "BINARY", "pixel_array": channels(segments)}
    return {"segmentation_type": "LABELMAP" if variant == "labelmap" else "BINARY", "pixel_array": labels}


def _stamp(dataset: Dataset, identity: ResultIdentity) -> None:
    """Stamp without the groups of frames: there is nothing in hundreds of them that stamping looks for."""
    frames = dataset.pop("PerFrameFunctionalGroupsSequence")
    stamp(dataset, identity, f"segmentation {identity.model.name}")
    dataset[frames.tag] = frames


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


def _name_sides(dataset: Dataset, segments: Sequence[Segment], analysis: Analysis) -> None:
    """Say left or right in the code of each segment whose finding has a side, not only in its label."""
    sides = {finding.key: finding.laterality for finding in analysis.findings}
    described = [item for item in dataset.SegmentSequence if item.SegmentNumber > 0]
    for item, segment in zip(described, segments, strict=True):
        side = sides.get(segment.finding_key)
        if side is not None:
            item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [coded(side)]


# --- the voxels as one array -----------------------------------------------------------------------------------------

#: FRACTIONAL stores 0..255 for 0..1.
FRACTION_STEPS = 255


def label_map(segments: Sequence[Segment]) -> NDArray[np.uint8] | None:
    """Return (slices, rows, columns) with the number of each voxel's segment, `None` where segments overlap."""
    labels = segments[0].mask.astype(np.uint8)
    for number, segment in enumerate(segments[1:], start=2):
        for label, mask in zip(labels, segment.mask, strict=True):
            if mask.any():
                if label[mask].any():
                    return None
                label[mask] = number
    return labels


def channels(segments: Sequence[Segment]) -> NDArray[np.uint8]:
    """Return (slices, rows, columns, segments), 1 inside."""
    return np.stack([segment.mask for segment in segments], axis=-1).astype(np.uint8)


def fractions(segments: Sequence[Segment]) -> NDArray[np.float32] | None:
    """Return the probabilities (slices, rows, columns, segments), `None` unless all segments have them."""
    known = [segment.probability_zyx for segment in segments]
    found = [one for one in known if one is not None]
    return np.stack(found, axis=-1) if len(found) == len(known) else None


# --- the headers that highdicom builds from --------------------------------------------------------------------------

#: What is looked at in each image; all else is taken from the first.
_OF_EACH = tuple(
    Tag(keyword)
    for keyword in (
        *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Rows", "Columns"),
        *("FrameOfReferenceUID", "ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "SliceThickness"),
    )
)


def source_headers(sources: Sequence[Dataset]) -> list[Dataset]:
    """Return a header of each source; of hundreds of slices a whole one each costs more than the pixels do."""
    return [builder_header(sources[0]), *(_short(source) for source in sources[1:])]


def made_by(identity: ResultIdentity) -> dict[str, Any]:
    """Return what every builder is told of who made an object."""
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": PRODUCT_NAME,
        "software_versions": __version__,
        "device_serial_number": identity.context.node_uid,
        "content_description": long_string(f"{identity.marking}: {identity.model.name}"),
        "content_creator_name": f"{long_string(identity.context.ae_title, 16)}^",
    }


def make_repeatable(dataset: Dataset, dimension_uid: str) -> None:
    """Replace the dimension organisation UID, which highdicom draws at random."""
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimension_uid


def _short(source: Dataset) -> Dataset:
    return Dataset({tag: source[tag] for tag in _OF_EACH if tag in source})
