"""What an image says of itself, for the image library: TID 1602, with 1603 for projections and 1604 for sections.

What the image lacks or has wrong is left out: all but the modality is optional there. The target region is, too: the
codes of chest, abdomen and pelvis changed, and validators know the old ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from highdicom.sr import (
    CodeContentItem,
    CodedConcept,
    DateContentItem,
    NumContentItem,
    TextContentItem,
    TimeContentItem,
    UIDRefContentItem,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dictionary
from pydicom.sr.coding import Code as ConceptName

from dicom_node import codes
from dicom_node.model import Code
from dicom_node.sr_writer.overlays.segmentation import coded
from dicom_node.uids import is_valid_uid

_RELATIONSHIP = "HAS ACQ CONTEXT"
_DATE = re.compile(r"\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
_TIME = re.compile(r"([01]\d|2[0-3])[0-5]\d[0-5]\d(\.\d{1,6})?")
_SIDES = {"L": codes.LEFT, "R": codes.RIGHT}
_DCM = dictionary.DCM
_ORIENTATION = (
    _DCM.ImageOrientationPatientRowX, _DCM.ImageOrientationPatientRowY, _DCM.ImageOrientationPatientRowZ,
    _DCM.ImageOrientationPatientColumnX, _DCM.ImageOrientationPatientColumnY, _DCM.ImageOrientationPatientColumnZ,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One row: a code, a number with its unit, or a text of the value type named."""

    name: ConceptName
    value: Code | str | float
    value_type: str
    unit: Code | None = None

    def item(self) -> Any:
        """Return the content item."""
        name = CodedConcept.from_code(self.name)
        if isinstance(self.value, Code):
            return CodeContentItem(name=name, value=coded(self.value), relationship_type=_RELATIONSHIP)
        if self.unit is not None:
            number = float(self.value)
            value = int(number) if number.is_integer() else number
            return NumContentItem(name=name, value=value, unit=coded(self.unit), relationship_type=_RELATIONSHIP)
        return _TEXTS[self.value_type](name=name, value=self.value, relationship_type=_RELATIONSHIP)


_TEXTS: dict[str, Any] = {
    "DATE": DateContentItem,
    "TIME": TimeContentItem,
    "UIDREF": UIDRefContentItem,
    "TEXT": TextContentItem,
}


def descriptors(image: Dataset) -> tuple[Descriptor, ...]:
    """Return the descriptors of one image, none where its modality has no code: that is the one a library needs."""
    modality = _modalities().get(str(image.get("Modality")))
    if modality is None:
        return ()
    is_section = _numbers(image, "ImageOrientationPatient", 6) is not None
    specific = _section(image) if is_section else _projection(image)
    return (Descriptor(_DCM.Modality, modality, "CODE"), *_general(image), *specific)


@cache
def _modalities() -> dict[str, Code]:
    """Return CID 29 by value."""
    return {
        one.value: Code(one.value, one.scheme_designator, one.meaning) for one in dictionary.cid29.concepts.values()
    }


def _general(image: Dataset) -> Iterator[Descriptor]:
    side = _SIDES.get(str(image.get("ImageLaterality") or image.get("Laterality") or ""))
    if side is not None:
        yield Descriptor(_DCM.ImageLaterality, side, "CODE")
    for name, keyword, value_type, valid in (
        (_DCM.StudyDate, "StudyDate", "DATE", _DATE),
        (_DCM.StudyTime, "StudyTime", "TIME", _TIME),
        (_DCM.AcquisitionDate, "AcquisitionDate", "DATE", _DATE),
        (_DCM.AcquisitionTime, "AcquisitionTime", "TIME", _TIME),
    ):
        text = str(image.get(keyword) or "")
        if valid.fullmatch(text):
            yield Descriptor(name, text, value_type)
    frame_of_reference = str(image.get("FrameOfReferenceUID") or "")
    if is_valid_uid(frame_of_reference):
        yield Descriptor(_DCM.FrameOfReferenceUID, frame_of_reference, "UIDREF")
    for name, keyword in ((_DCM.PixelDataRows, "Rows"), (_DCM.PixelDataColumns, "Columns")):
        yield from _measured(name, _numbers(image, keyword, 1), codes.PIXELS)


def _projection(image: Dataset) -> Iterator[Descriptor]:
    orientation = image.get("PatientOrientation") or ()
    letters = [] if isinstance(orientation, str) else [str(one) for one in orientation]
    if len(letters) == 2 and all(re.fullmatch(r"[A-Z]{1,3}", one) for one in letters):
        yield Descriptor(_DCM.PatientOrientationRow, letters[0], "TEXT")
        yield Descriptor(_DCM.PatientOrientationColumn, letters[1], "TEXT")
    yield from _spacing(_numbers(image, "ImagerPixelSpacing", 2) or _numbers(image, "PixelSpacing", 2))


def _section(image: Dataset) -> Iterator[Descriptor]:
    yield from _spacing(_numbers(image, "PixelSpacing", 2))
    yield from _measured(_DCM.SpacingBetweenSlices, _numbers(image, "SpacingBetweenSlices", 1), codes.MILLIMETER)
    yield from _measured(_DCM.SliceThickness, _numbers(image, "SliceThickness", 1), codes.MILLIMETER)
    cosines = _numbers(image, "ImageOrientationPatient", 6) or ()
    for name, cosine in zip(_ORIENTATION, cosines, strict=True):
        yield Descriptor(name, cosine, "NUM", codes.DIRECTION_COSINE)


def _spacing(rows_and_columns_mm: tuple[float, ...] | None) -> Iterator[Descriptor]:
    """Say both spacings: PixelSpacing names the vertical one, between rows, first (PS3.3 10.7.1.3)."""
    if rows_and_columns_mm is not None:
        vertical_mm, horizontal_mm = rows_and_columns_mm
        yield Descriptor(_DCM.HorizontalPixelSpacing, horizontal_mm, "NUM", codes.MILLIMETER)
        yield Descriptor(_DCM.VerticalPixelSpacing, vertical_mm, "NUM", codes.MILLIMETER)


def _measured(name: ConceptName, values: tuple[float, ...] | None, unit: Code) -> Iterator[Descriptor]:
    if values is not None:
        yield Descriptor(name, values[0], "NUM", unit)


def _numbers(image: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return `count` numbers, `None` where the image has others or none."""
    try:
        value = image.get(keyword)
        values = tuple(float(one) for one in (value if count > 1 else (value,)))
    except (TypeError, ValueError):
        return None
    return values if len(values) == count else None
