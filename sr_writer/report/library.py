"""The image library (TID 1600): the analysed images and what they show, then the objects that were made of them.

The second part makes the report the root of its result: whoever follows it finds every object of the set (IHE AIR).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from highdicom.sr import (
    CodeContentItem,
    CodedConcept,
    CompositeContentItem,
    ContainerContentItem,
    ContentSequence,
    DateContentItem,
    ImageContentItem,
    NumContentItem,
    TextContentItem,
    TimeContentItem,
    UIDRefContentItem,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dictionary
from pydicom.sr.coding import Code as ConceptName

from dicom_node.analysis.answer import whole_objects
from dicom_node.core import codes
from dicom_node.core.entities import Code
from dicom_node.core.uids import is_valid_uid
from dicom_node.sr_writer.overlays.segmentation import coded

#: Objects that are no images, by modality, and what they are.
_NO_IMAGES = {"PR": codes.PRESENTATION_STATE, "KO": codes.KEY_OBJECT_SELECTION, "DOC": codes.DOCUMENT}


def image_library(images: Sequence[Dataset], results: Sequence[Dataset]) -> ContainerContentItem:
    """Return one group for each series that was analysed, and one for the `results` that no finding refers to."""
    groups = [_sources(series) for series in _by_series(whole_objects(images))]
    if results:
        groups.append(_group([_result(one) for one in results]))
    library = ContainerContentItem(name=dictionary.DCM.ImageLibrary, relationship_type="CONTAINS")
    library.ContentSequence = ContentSequence(groups)
    return library


def _sources(series: Sequence[Dataset]) -> ContainerContentItem:
    """Say once what all images of a series have in common; a projection says at its entry what it has alone.

    Sections do not: a position for each of hundreds of slices would only repeat what the slices themselves say.
    """
    of_each = [descriptors(image) for image in series]
    common = set(of_each[0]).intersection(*of_each[1:])
    entries, source = [], coded(codes.SOURCE)
    for image, own in zip(series, of_each, strict=True):
        entry = _image(image, source)
        rest = [one.item() for one in own if one not in common]
        if rest and "ImageOrientationPatient" not in image:
            entry.ContentSequence = ContentSequence(rest)
        entries.append(entry)
    return _group([*(one.item() for one in of_each[0] if one in common), *entries])


def _by_series(images: Iterable[Dataset]) -> list[list[Dataset]]:
    found: dict[str, list[Dataset]] = {}
    for image in images:
        found.setdefault(str(image.SeriesInstanceUID), []).append(image)
    return list(found.values())


def _result(one: Dataset) -> Any:
    kind = _NO_IMAGES.get(str(one.Modality))
    if kind is None:
        # Not an illustration of a finding: there may be none, or the study was not analysed.
        return _image(one, coded(codes.SUPPLEMENTARY_DATA))
    return CompositeContentItem(
        name=coded(kind),
        referenced_sop_class_uid=one.SOPClassUID,
        referenced_sop_instance_uid=one.SOPInstanceUID,
        relationship_type="CONTAINS",
    )


def _image(one: Dataset, name: CodedConcept) -> ImageContentItem:
    return ImageContentItem(
        name=name,
        referenced_sop_class_uid=one.SOPClassUID,
        referenced_sop_instance_uid=one.SOPInstanceUID,
        relationship_type="CONTAINS",
    )


def _group(items: Sequence[Any]) -> ContainerContentItem:
    group = ContainerContentItem(name=dictionary.DCM.ImageLibraryGroup, relationship_type="CONTAINS")
    group.ContentSequence = ContentSequence(items)
    return group


# --- what an image says of itself (TID 1602; 1603 of projections, 1604 of sections) ----------------------------------

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
