"""Where on an image a number comes from: an outline that viewers of reports can open and draw."""

from __future__ import annotations

import numpy as np
from highdicom.sr import ContentSequence, CoordinatesForMeasurement, SourceImageForRegion
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.analysis import Analysis, Segment
from dicom_node.model import Finding
from dicom_node.sr_writer.overlays.outline import outlines
from dicom_node.sr_writer.source_frames import referenced_frame_numbers


def measured_area(finding: Finding, analysis: Analysis, image: Dataset) -> CoordinatesForMeasurement:
    """Return what the finding was measured on, as far as it lies on `image` (TID 320).

    It is the outline of its segment, the box around the segments it sums up, or else the border of the image. OHIF
    3.13 shows nothing of a whole report one group of which has neither a region nor a number with coordinates.
    """
    return CoordinatesForMeasurement(
        graphic_type="POLYLINE",
        graphic_data=_area(finding, analysis, image),
        source_image=SourceImageForRegion(image.SOPClassUID, image.SOPInstanceUID, referenced_frame_numbers(image)),
    )


def place_group(group: Dataset, area: CoordinatesForMeasurement) -> None:
    """Let the first number of a group name a place on an image, and not the image alone; or else the group itself.

    The templates are extensible; highdicom does not let groups with a segment have it from the start.
    """
    for item in group.ContentSequence:
        if item.ValueType == "NUM":
            kept = [one for one in item.ContentSequence if one.ValueType != "IMAGE"]
            item.ContentSequence = ContentSequence([*kept, area])
            return
    # A class that the model could not tell has no number: the area is the source of the group, as its images are.
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
