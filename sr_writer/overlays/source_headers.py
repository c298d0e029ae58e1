"""The headers of source images as builders of multi-frame results want them: all of the first, little of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicom_node import MANUFACTURER, PRODUCT_NAME, __version__
from dicom_node.sr_writer.identity import ResultIdentity, builder_header
from dicom_node.sr_writer.text import long_string

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
