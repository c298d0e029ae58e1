"""Where on an image a number comes from: an outline that viewers of reports can open and draw."""

from __future__ import annotations

import numpy as np
from highdicom.sr import ContentSequence, CoordinatesForMeasurement, SourceImageForRegion
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.analysis import Analysis
from dicom_node.model import Finding
from dicom_node.sr_writer.overlays.outline import outlines
from dicom_node.sr_writer.source_frames import referenced_frame_numbers


def measured_area(finding: Finding, analysis: Analysis, image: Dataset) -> CoordinatesForMeasurement:
    """Return what the finding was measured on, as far as it lies on `image` (TID 320).

    It is the outline of its segment, or else the border of the image. OHIF 3.13 shows nothing of a whole report one
    group of which has neither a region nor a number with coordinates.
    """
    return CoordinatesForMeasurement(
        graphic_type="POLYLINE",
        graphic_data=_segment_outline(finding, analysis, image) if _has_segment(finding, analysis) else _border(image),
        source_image=SourceImageForRegion(image.SOPClassUID, image.SOPInstanceUID, referenced_frame_numbers(image)),
    )


def place_first_number(group: Dataset, area: CoordinatesForMeasurement) -> None:
    """Let the first number of a group name a place on an image, and not the image alone.

    The templates are extensible; highdicom does not let groups with a segment have it from the start.
    """
    for item in group.ContentSequence:
        if item.ValueType == "NUM":
            kept = [one for one in item.ContentSequence if one.ValueType != "IMAGE"]
            item.ContentSequence = ContentSequence([*kept, area])
            return


def _has_segment(finding: Finding, analysis: Analysis) -> bool:
    return any(one.finding_key == finding.key for one in analysis.segments)


def _segment_outline(finding: Finding, analysis: Analysis, image: Dataset) -> NDArray[np.float64]:
    """Return the largest outline of the finding's segment on `image`, (points, 2) as column and row."""
    index = next(number for number, source in enumerate(analysis.sources) if source is image)
    mask = next(one.mask for one in analysis.segments if one.finding_key == finding.key)[index]
    polygons = outlines(mask)
    return polygons[0].astype(np.float64) if polygons else _border(image)


def _border(image: Dataset) -> NDArray[np.float64]:
    right, bottom = float(image.Columns), float(image.Rows)
    return np.array([(0, 0), (right, 0), (right, bottom), (0, bottom), (0, 0)], dtype=np.float64)
