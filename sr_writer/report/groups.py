"""One measurement group per finding: planar (TID 1410), volumetric (TID 1411) or about whole images (TID 1501)."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    CoordinatesForMeasurement,
    FindingSite,
    ImageContentItem,
    ImageRegion,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ReferencedSegment,
    ReferencedSegmentationFrame,
    SourceImageForMeasurement,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    SourceImageForSegmentation,
    SourceSeriesForSegmentation,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage

from dicom_node import PRODUCT_NAME, __version__
from dicom_node.analysis.answer import Analysis, Saliency, Segment, SourceFrame
from dicom_node.analysis.written import WrittenObject
from dicom_node.core import codes
from dicom_node.core.assessment.review import ReviewedFinding
from dicom_node.core.entities import ArtifactKind, Finding, ModelIdentity, Region
from dicom_node.core.entities import Measurement as Quantity
from dicom_node.sr_writer.identity import ResultIdentity
from dicom_node.sr_writer.overlays.outline import outlines
from dicom_node.sr_writer.overlays.segmentation import coded, tracking_uid
from dicom_node.sr_writer.report.statements import coded_reason
from dicom_node.sr_writer.report.verification import tell_review
from dicom_node.sr_writer.source_frames import referenced_frame_numbers, shows
from dicom_node.sr_writer.text import ascii_text, long_string, number

#: An image-level group names at most this many images; the image library names them all.
_MOST_GROUP_IMAGES = 3


@dataclass(frozen=True, slots=True)
class WrittenSegments:
    """What a finding is about in a finished SEG: one segment, or several that it sums up."""

    segmentation: Dataset
    numbers: tuple[int, ...]
    #: Tracking Identifier of the first.
    identifier: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSources:
    """What the groups refer to: the analysis, its SEG if one was made, and the pictures by their key."""

    analysis: Analysis
    segmentation: Dataset | None
    pictures: dict[str, Dataset]
    #: Parametric maps, by the key of the finding they explain.
    maps: dict[str, list[Dataset]]

    def image(self, marked: Region | Saliency) -> Dataset:
        """Return the analysed image, or frame of one, on which a region or a heat map lies."""
        return next(
            (source for source in self.analysis.sources if shows(source, marked)), None
        ) or self._frame_of_whole(marked)

    def _frame_of_whole(self, marked: Region | Saliency) -> Dataset:
        """Return the frame that is marked of an object that is here as a whole, as those of a reviewed result are."""
        whole = next(one for one in self.analysis.sources if str(one.SOPInstanceUID) == marked.sop_instance_uid)
        frame = SourceFrame(whole)
        frame.frame_number = marked.frame_number or 1
        return frame

    @property
    def is_planar(self) -> bool:
        """Whether segments are referred to by their frame, which holds one segment of the one image (TID 1410 row 7).

        The frame of a label map holds all of them, so there a reference must name the segment, as for a volume.
        """
        seg = self.segmentation
        return seg is not None and len(self.analysis.sources) == 1 and seg.SOPClassUID == SegmentationStorage

    def segments(self, uids: Collection[str]) -> WrittenSegments | None:
        """Return the segments tracked under these UIDs, `None` when all are empty or were not made."""
        if self.segmentation is None:
            return None
        items = [item for item in self.segmentation.SegmentSequence if item.get("TrackingUID") in uids]
        if not items:
            return None
        numbers = tuple(int(item.SegmentNumber) for item in items)
        return WrittenSegments(self.segmentation, numbers, str(items[0].TrackingID))


def report_sources(analysis: Analysis, referred: Sequence[WrittenObject]) -> ReportSources:
    """Return the sources of a report that may refer to these objects and to no others."""
    maps: dict[str, list[Dataset]] = {}
    for one in referred:
        if one.finding_key:
            maps.setdefault(one.finding_key, []).append(one.dataset)
    return ReportSources(
        analysis=analysis,
        maps=maps,
        segmentation=next((one.dataset for one in referred if one.kind is ArtifactKind.SEGMENTATION), None),
        pictures={one.picture_key: one.dataset for one in referred if one.picture_key},
    )


def measurement_groups(sources: ReportSources, identity: ResultIdentity) -> list[Any]:
    """Return the groups of all findings, those with a region first: OHIF opens the first group and draws it.

    Then come those with a segment, then those about whole images; within each the order is the model's.
    """
    findings = sorted(sources.analysis.findings, key=lambda f: (f.region is None, f.segment_number is None))
    return [_group(finding, sources, identity) for finding in findings]


def _summed_segments(finding: Finding, sources: ReportSources, identity: ResultIdentity) -> WrittenSegments | None:
    """Return what a finding without a segment sums up when it only measures: all segments of its kind.

    Such a sum is about their union, so it is a volumetric group like theirs; it names them all.
    """
    if finding.presence is not None or finding.segment_number is not None:
        return None
    alike = (one.key for one in sources.analysis.findings if one.code == finding.code)
    summed = sources.segments({tracking_uid(identity, key) for key in alike})
    return None if summed is not None and len(summed.numbers) > 1 and sources.is_planar else summed


def algorithm_identification(model: ModelIdentity, parameters: Sequence[str]) -> AlgorithmIdentification:
    """Return TID 4019: name, version and everything needed to repeat the run."""
    return AlgorithmIdentification(
        name=ascii_text(model.name),
        version=ascii_text(model.version),
        parameters=[
            *(ascii_text(parameter) for parameter in parameters),
            f"digest={model.digest}",
            f"node={PRODUCT_NAME} {__version__}",
        ],
        family=coded(codes.ARTIFICIAL_INTELLIGENCE),
        manufacturer=ascii_text(model.manufacturer),
    )


def _reviewed(finding: Finding, identity: ResultIdentity) -> ReviewedFinding:
    """Return what a review says of a finding; without one it is what the model said."""
    review = identity.context.review
    return ReviewedFinding(finding=finding, said_by_model=finding) if review is None else review.of(finding.key)


def _group(finding: Finding, sources: ReportSources, identity: ResultIdentity) -> Any:
    reviewed = _reviewed(finding, identity)
    uid = tracking_uid(identity, finding.key)
    own = None if reviewed.removed else sources.segments({uid})
    shown_on = _images_of(finding, sources)
    algorithm = (
        None if reviewed.is_changed else algorithm_identification(identity.model, _parameters(finding, identity.model))
    )
    parts: dict[str, Any] = {
        # The segment of the finding carries the same identifier, letter by letter (IHE AIR).
        "tracking_identifier": TrackingIdentifier(
            uid=uid, identifier=long_string(finding.label) if own is None else own.identifier
        ),
        "finding_type": coded(finding.code),
        "algorithm_id": algorithm,
        "finding_sites": [_site(finding)],
        "measurements": _numbers(finding, shown_on[0], identity.model),
        "qualitative_evaluations": _evaluations(finding),
    }
    segments = own or _summed_segments(finding, sources, identity)
    if finding.region is not None:
        group: Any = _planar_group(finding.region, sources, parts)
    elif segments is not None:
        make = _segment_frame_group if sources.is_planar else _segments_group
        group = make(segments, shown_on[0], parts)
    else:
        group = MeasurementsAndQualitativeEvaluations(
            source_images=[SourceImageForMeasurementGroup(*_reference(image)) for image in shown_on], **parts
        )
    if finding.region is None:
        place_group(group[0], measured_area(finding, sources.analysis, shown_on[0]))
    for image in () if reviewed.is_changed else _explaining_images(finding, sources):
        group[0].ContentSequence.append(_visual_explanation(image))
    tell_review(group[0], reviewed, identity)
    return group


def _planar_group(region: Region, sources: ReportSources, parts: dict[str, Any]) -> Any:
    """TID 1410 with the outline as 2D coordinates, which every SR class takes."""
    image = sources.image(region)
    outline = ImageRegion(
        graphic_type="POLYLINE",
        graphic_data=np.array(region.points_xy_px, dtype=float),
        source_image=SourceImageForRegion(*_reference(image)),
    )
    return PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=outline, **parts)


def _segment_frame_group(segments: WrittenSegments, image: Dataset, parts: dict[str, Any]) -> Any:
    """TID 1410 for a segment on a single image."""
    frame = ReferencedSegmentationFrame(
        sop_class_uid=segments.segmentation.SOPClassUID,
        sop_instance_uid=segments.segmentation.SOPInstanceUID,
        frame_number=_frame_of(segments),
        segment_number=segments.numbers[0],
        source_image=SourceImageForSegmentation(*_reference(image)),
    )
    # PS3.3 table 10-3: the frame says it all, and a segment number beside it is not allowed.
    del frame[0].ReferencedSOPSequence[0].ReferencedSegmentNumber
    return PlanarROIMeasurementsAndQualitativeEvaluations(referenced_segment=frame, **parts)


def _segments_group(segments: WrittenSegments, image: Dataset, parts: dict[str, Any]) -> Any:
    """TID 1411 for one segment of a volume, or the union of several."""
    referenced = ReferencedSegment(
        sop_class_uid=segments.segmentation.SOPClassUID,
        sop_instance_uid=segments.segmentation.SOPInstanceUID,
        segment_number=segments.numbers[0],
        source_series=SourceSeriesForSegmentation(image.SeriesInstanceUID),
    )
    referenced[0].ReferencedSOPSequence[0].ReferencedSegmentNumber = list(segments.numbers)
    return VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=referenced, **parts)


def _reference(image: Dataset) -> tuple[str, str, list[int] | None]:
    """Return what a reference to a source image names: class, instance, and the frame where it is one of many."""
    return image.SOPClassUID, image.SOPInstanceUID, referenced_frame_numbers(image)


def _frame_of(segments: WrittenSegments) -> int:
    """Return the (1-based) frame that holds a segment of a single-image SEG."""
    # What is equal for all frames, as the segment is where there is one frame, stands in the shared groups.
    shared = segments.segmentation.SharedFunctionalGroupsSequence[0].get("SegmentIdentificationSequence")
    for frame_number, groups in enumerate(segments.segmentation.PerFrameFunctionalGroupsSequence, start=1):
        named = groups.get("SegmentIdentificationSequence") or shared
        # Of a label map no frame says which segment it holds: it holds all of them.
        if not named or named[0].ReferencedSegmentNumber == segments.numbers[0]:
            return frame_number
    raise ValueError(f"Segment {segments.numbers[0]} has no frame in the segmentation.")


def _images_of(finding: Finding, sources: ReportSources) -> list[Dataset]:
    """Return the images a finding was inferred from, the most telling first."""
    analysis = sources.analysis
    if finding.region is not None:
        return [sources.image(finding.region)]
    explained = [one for one in analysis.saliencies if one.finding_key == finding.key]
    if explained:
        return [sources.image(one) for one in explained[:_MOST_GROUP_IMAGES]]
    fullest = {one.finding_key: int(one.mask.sum(axis=(1, 2)).argmax()) for one in analysis.segments if one.mask.any()}
    if finding.key in fullest:
        return [analysis.sources[fullest[finding.key]]]
    if sources.segmentation is not None and not analysis.segments:
        return [_image_of_its_own(finding, analysis)]
    chosen = analysis.key_slices or range(len(analysis.sources))
    # Last those on which the number of a segment stands: viewers write beside the right edge of what was measured, and
    # a sum has it in common with the segment there.
    spread = sorted(chosen, key=lambda index: index in fullest.values())
    return [analysis.sources[index] for index in spread[:_MOST_GROUP_IMAGES]]


def _image_of_its_own(finding: Finding, analysis: Analysis) -> Dataset:
    """Return another image for each finding, as far as there are as many: without the masks nothing tells where in the
    volume a number comes from, and viewers write those of one image on one spot."""
    order = [one.key for one in analysis.findings].index(finding.key)
    return analysis.sources[(order + 1) * len(analysis.sources) // (len(analysis.findings) + 1)]


def _parameters(finding: Finding, model: ModelIdentity) -> list[str]:
    """Return the model's parameters, and what is needed to understand "present" and the score later."""
    parameters = [p for p in model.parameters if finding.threshold is None or not p.startswith("threshold=")]
    if finding.threshold is not None and math.isfinite(finding.threshold):
        parameters.append(f"threshold={number(finding.threshold)}")
    if finding.probability is not None:
        is_calibrated = model.calibrated and finding.score is None
        parameters.append("score=calibrated" if is_calibrated else "score=uncalibrated")
    return parameters


def _site(finding: Finding) -> FindingSite:
    laterality = coded(finding.laterality) if finding.laterality is not None else None
    return FindingSite(anatomic_location=coded(finding.site), laterality=laterality)


def _numbers(finding: Finding, image: Dataset, model: ModelIdentity) -> list[Measurement]:
    """Return the score by its name, and measurements; each names an image, without which older OHIF versions stop."""
    score: list[Quantity] = []
    if finding.probability is not None:
        score = [Quantity(codes.score_code(finding, model), round(finding.probability * 100, 1), codes.PERCENT)]
    return [
        Measurement(
            name=coded(quantity.name),
            value=float(quantity.value),
            unit=coded(quantity.unit),
            derivation=coded(quantity.derivation) if quantity.derivation else None,
            referenced_images=[SourceImageForMeasurement(*_reference(image))],
        )
        for quantity in (*score, *finding.measurements)
        if math.isfinite(quantity.value)
    ]


def _evaluations(finding: Finding) -> list[QualitativeEvaluation]:
    """Return whether it is there, and in place of each number that is withheld the reason, as a code."""
    withheld = [QualitativeEvaluation(name=coded(one.name), value=coded_reason(one.reason)) for one in finding.withheld]
    if finding.presence is None:
        return withheld
    value = coded(codes.PRESENCE_CODES[finding.presence])
    return [QualitativeEvaluation(name=coded(codes.PRESENCE_OF_PROPERTY), value=value), *withheld]


def _explaining_images(finding: Finding, sources: ReportSources) -> list[Dataset]:
    """Return what shows why: the picture the finding names, its heat maps, and these as parametric maps."""
    named = [finding.explanation_key] if finding.explanation_key else []
    heatmaps = [key for key in sources.pictures if key.startswith(f"heatmap:{finding.key}:")]
    pictures = [sources.pictures[key] for key in dict.fromkeys([*named, *heatmaps]) if key in sources.pictures]
    return [*pictures, *sources.maps.get(finding.key, [])]


def _visual_explanation(picture: Dataset) -> ImageContentItem:
    return ImageContentItem(
        name=coded(codes.VISUAL_EXPLANATION),
        referenced_sop_class_uid=picture.SOPClassUID,
        referenced_sop_instance_uid=picture.SOPInstanceUID,
        relationship_type="CONTAINS",
    )


# --- where on an image a number comes from ---------------------------------------------------------------------------


def measured_area(finding: Finding, analysis: Analysis, image: Dataset) -> CoordinatesForMeasurement:
    """Return what the finding was measured on, as far as it lies on `image` (TID 320).

    It is the outline of its segment, the box around the segments it sums up, or else the border of the image. OHIF
    3.13 shows nothing of a whole report one group of which has no coordinates.
    """
    return CoordinatesForMeasurement(
        graphic_type="POLYLINE",
        graphic_data=_area(finding, analysis, image),
        source_image=SourceImageForRegion(image.SOPClassUID, image.SOPInstanceUID, referenced_frame_numbers(image)),
    )


def place_group(group: Dataset, area: CoordinatesForMeasurement) -> None:
    """Let a group name its place on an image, as one with a region does: the area is the source of all its numbers.

    OHIF 3.13 draws all numbers of a group that has a place, and of any other the one number that has. The templates are
    extensible; highdicom does not let groups with a segment have it from the start.
    """
    area.RelationshipType = "CONTAINS"
    group.ContentSequence.append(area)


def _area(finding: Finding, analysis: Analysis, image: Dataset) -> NDArray[np.float64]:
    """Return an outline on `image`, (points, 2) as column and row."""
    index = next(number for number, source in enumerate(analysis.sources) if source is image)
    masks = [one.mask[index] for one in _segments_of(finding, analysis) if one.mask[index].any()]
    if not masks:
        return _box(0, 0, image.Columns, image.Rows)
    polygons = outlines(masks[0]) if len(masks) == 1 else []
    if polygons:
        return polygons[0].astype(np.float64)
    rows, columns = np.nonzero(np.logical_or.reduce(masks))
    return _box(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def _segments_of(finding: Finding, analysis: Analysis) -> list[Segment]:
    """Return the segment of a finding, or all of its kind where it has none and only sums up what they measure."""
    own = [one for one in analysis.segments if one.finding_key == finding.key]
    if own or finding.presence is not None or finding.segment_number is not None:
        return own
    alike = {one.key for one in analysis.findings if one.code == finding.code}
    return [one for one in analysis.segments if one.finding_key in alike]


def _box(left: float, top: float, right: float, bottom: float) -> NDArray[np.float64]:
    corners = ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))
    return np.array(corners, dtype=np.float64)
