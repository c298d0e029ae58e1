"""Which images of a series a model of single images may see: for presentation, one frame, a clean frontal view."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.uid import (
    DigitalIntraOralXRayImageStorageForProcessing,
    DigitalMammographyXRayImageStorageForProcessing,
    DigitalXRayImageStorageForProcessing,
)

from dicom_node.core.errors import NotAnalysable
from dicom_node.inference.cards.card import Gate
from dicom_node.inference.images.exclusions import (
    DERIVED,
    LOCALIZER,
    TOO_LOSSY,
    VALUES,
    Exclusion,
    check_readable,
    image_types,
    is_too_lossy,
    refused,
    shared_exclusion,
)
from dicom_node.inference.images.radiographs.mammogram import (
    TOMOSYNTHESIS,
    breast_side,
    is_of_tomosynthesis,
    mammogram_exclusion,
    mammogram_view,
)
from dicom_node.inference.images.radiographs.views import LATERAL, region_exclusion, view_exclusion
from dicom_node.inference.images.remarks import lossy_remarks
from dicom_node.inference.model_run import SourceImage

#: Classes of raw detector data, whatever Presentation Intent Type says or does not (PS3.3 A.26 to A.28).
_RAW_CLASSES = frozenset(
    {
        DigitalXRayImageStorageForProcessing,
        DigitalMammographyXRayImageStorageForProcessing,
        DigitalIntraOralXRayImageStorageForProcessing,
    }
)

_NO_PIXELS = Exclusion("NO_PIXELS", "without pixels")
_MULTI_FRAME = Exclusion("MULTI_FRAME", "with more than one frame")
_RAW = Exclusion("FOR_PROCESSING_ONLY", "raw detector data (FOR PROCESSING)")


def frontal_images(images: Sequence[SourceImage], notes: list[str], gate: Gate | None = None) -> list[SourceImage]:
    """Return the images a model may see in order of InstanceNumber; notes tell what was left out and why.

    Frontal views alone, unless the card says `views = "any"`; an image that names no view passes. With
    `views = "mammogram"` CC and MLO views of one whole breast, each told with its side. Raises `NotAnalysable` with the
    commonest reason when none is left.
    """
    kept: list[SourceImage] = []
    left_out: list[Exclusion] = []
    for image in sorted(images, key=_order):
        exclusion = _exclusion(image.header, gate or Gate())
        if exclusion is None:
            check_readable(image.header, VALUES)
            kept.append(image)
        else:
            left_out.append(exclusion)
            notes.append(f"Left out: image {image.header.get('InstanceNumber', '?')}, {exclusion.words}.")
    if kept:
        notes.extend(lossy_remarks([image.header for image in kept]))
        if gate is not None and gate.views == "mammogram":
            notes.extend(_breast_remark(image.header) for image in kept)
        return kept
    if not left_out:
        raise NotAnalysable("NO_IMAGES", "The series holds no image.")
    # That there is a lateral view alone says more than that a localizer or raw data lie beside it.
    raise refused([LATERAL] * Counter(left_out)[LATERAL] or left_out)


def _order(image: SourceImage) -> tuple[int, str]:
    number = image.header.get("InstanceNumber")
    return (int(number) if number is not None else 0, str(image.header.get("SOPInstanceUID")))


def _exclusion(header: Dataset, gate: Gate) -> Exclusion | None:
    if "Rows" not in header:
        return _NO_PIXELS
    image_type = image_types(header)
    is_raw = header.get("SOPClassUID") in _RAW_CLASSES or header.get("PresentationIntentType") == "FOR PROCESSING"
    # A view that was processed again stays a view (DERIVED, PRIMARY); a bone or soft tissue image is none.
    is_derived = image_type[:2] == ["DERIVED", "SECONDARY"] and not gate.derived_allowed
    rules = (
        (gate.views == "mammogram" and is_of_tomosynthesis(header), TOMOSYNTHESIS),
        (int(header.get("NumberOfFrames") or 1) > 1, _MULTI_FRAME),
        (is_raw, _RAW),
        ("LOCALIZER" in image_type, LOCALIZER),
        (is_derived, DERIVED),
        (is_too_lossy(header, gate), TOO_LOSSY),
    )
    applying = next((exclusion for applies, exclusion in rules if applies), None)
    return applying or _view_exclusion(header, gate) or shared_exclusion(header, gate)


def _view_exclusion(header: Dataset, gate: Gate) -> Exclusion | None:
    if gate.views == "any":
        return None
    if gate.views == "mammogram":
        return mammogram_exclusion(header)
    return view_exclusion(header) or (region_exclusion(header) if gate.views == "frontal-chest" else None)


def _breast_remark(header: Dataset) -> str:
    return f"Image {header.get('InstanceNumber', '?')}: {breast_side(header)} breast, {mammogram_view(header)} view."
