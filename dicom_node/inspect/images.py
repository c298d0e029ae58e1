"""What images, parametric maps and enclosed documents tell of themselves, and how an object looks as one picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset

from dicom_node.core.errors import UnreadableObject
from dicom_node.decoding.stored import pixel_aspect, stored_values
from dicom_node.inspect.described import (
    UNDECODABLE,
    DescriptionPart,
    first_item,
    items,
    meaning_in,
    text_of,
    unit_text,
    why,
)
from dicom_node.inspect.segments import color_of, masks
from dicom_node.sr_writer.pictures.display import display_rgb

_PDF_A = b"<pdfaid:part>"


def image_part(dataset: Dataset) -> DescriptionPart:
    """Return size, pixels, window and origin of an image."""
    return DescriptionPart(facts=tuple((name, text) for name, text in _image_facts(dataset) if text))


def _image_facts(dataset: Dataset) -> Iterator[tuple[str, str]]:
    frames = text_of(dataset, "NumberOfFrames")
    size = f"{text_of(dataset, 'Columns')} x {text_of(dataset, 'Rows')} pixels"
    yield "size", size + (f", {frames} frames" if frames not in {"", "1"} else "")
    yield "pixels", f"{text_of(dataset, 'BitsStored')} bit {text_of(dataset, 'PhotometricInterpretation')}"
    yield "image type", text_of(dataset, "ImageType")
    window = text_of(dataset, "WindowCenter"), text_of(dataset, "WindowWidth")
    yield "window", f"center {window[0]} width {window[1]}" if all(window) else ""
    yield "body part", text_of(dataset, "BodyPartExamined")
    yield "derivation", text_of(dataset, "DerivationDescription")
    yield "slice", _slice(dataset)


def _slice(dataset: Dataset) -> str:
    spacing, thickness = text_of(dataset, "PixelSpacing"), text_of(dataset, "SliceThickness")
    return f"{spacing.replace(', ', ' x ')} mm per pixel, {thickness or '?'} mm thick" if spacing else ""


def map_part(dataset: Dataset) -> DescriptionPart:
    """Return what a parametric map's numbers are, and between what they lie."""
    mapping = first_item(
        first_item(dataset, "SharedFunctionalGroupsSequence")
        or first_item(dataset, "PerFrameFunctionalGroupsSequence"),
        "RealWorldValueMappingSequence",
    )
    unit = unit_text(first_item(mapping, "MeasurementUnitsCodeSequence"))
    quantity = meaning_in(first_item(mapping, "QuantityDefinitionSequence"), "ConceptCodeSequence")
    facts = [*image_part(dataset).facts, ("quantity", quantity or text_of(mapping, "LUTExplanation")), ("unit", unit)]
    notes: tuple[str, ...] = ()
    try:
        values = map_values(dataset)
        facts.append(("values", f"{float(np.nanmin(values)):.4g} to {float(np.nanmax(values)):.4g} {unit}".strip()))
    except UNDECODABLE as error:
        notes = (f"The values cannot be decoded: {why(error)}",)
    return DescriptionPart(facts=tuple((name, text) for name, text in facts if text), notes=notes)


def map_values(dataset: Dataset) -> NDArray[Any]:
    """Return the real values of a parametric map, (frames, rows, columns)."""
    stored = stored_values(dataset).reshape(-1, int(dataset.Rows), int(dataset.Columns)).astype(np.float64)
    groups = first_item(dataset, "SharedFunctionalGroupsSequence")
    mapping = first_item(groups, "RealWorldValueMappingSequence")
    slope, intercept = mapping.get("RealWorldValueSlope"), mapping.get("RealWorldValueIntercept")
    return stored * float(1 if slope is None else slope) + float(intercept or 0)


def document_part(dataset: Dataset) -> DescriptionPart:
    """Return title and kind of an enclosed document."""
    enclosed = document_of(dataset)
    made = "PDF/A, for archives" if _PDF_A in enclosed else ""
    facts = (
        ("title", text_of(dataset, "DocumentTitle")),
        ("concept", meaning_in(dataset, "ConceptNameCodeSequence")),
        ("document", f"{text_of(dataset, 'MIMETypeOfEncapsulatedDocument')}, {len(enclosed)} bytes"),
        ("conformance", made),
    )
    return DescriptionPart(facts=tuple((name, text) for name, text in facts if text))


def document_of(dataset: Dataset) -> bytes:
    """Return the document without the byte that makes its length even."""
    enclosed = bytes(dataset.get("EncapsulatedDocument") or b"")
    length = dataset.get("EncapsulatedDocumentLength")
    return enclosed[: int(length)] if length else enclosed


# --- pictures --------------------------------------------------------------------------------------------------------

RgbUint8 = NDArray[np.uint8]
_INK = (255, 210, 60)


def image_picture(dataset: Dataset) -> RgbUint8:
    """Return an image as a viewer shows it first, with square pixels; of many frames the middle one."""
    rgb, aspect = display_rgb(dataset), pixel_aspect(dataset)
    if abs(aspect - 1) < 0.01 or not 0.05 < aspect < 20:
        return rgb
    size = (rgb.shape[1], round(rgb.shape[0] * aspect))
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR))


def segmentation_picture(dataset: Dataset) -> RgbUint8:
    """Return the plane in which most is marked, each segment in its colour on black."""
    colors = {int(item.get("SegmentNumber") or 0): color_of(item) for item in items(dataset, "SegmentSequence")}
    areas: dict[tuple[float, ...], float] = defaultdict(float)
    for mask in masks(dataset):
        areas[mask.plane] += float(mask.share.sum())
    if not areas:
        raise UnreadableObject("The segmentation has no frames, so there is no picture of it.")
    fullest = max(areas, key=lambda plane: areas[plane])
    canvas = np.zeros((int(dataset.Rows), int(dataset.Columns), 3), dtype=np.float32)
    for mask in masks(dataset):
        if mask.plane == fullest:
            share = mask.share[..., np.newaxis]
            canvas = canvas * (1 - share) + np.array(colors.get(mask.segment_number, _INK), np.float32) * share
    return np.rint(canvas).astype(np.uint8)


def map_picture(dataset: Dataset) -> RgbUint8:
    """Return the frame with the greatest value of a parametric map, from the least (black) to the greatest (white)."""
    values = map_values(dataset)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    hottest = np.nan_to_num(values, nan=low)
    frame = hottest[int(hottest.max(axis=(1, 2)).argmax())]
    gray = np.rint((frame - low) / max(high - low, 1e-12) * 255).astype(np.uint8)
    return np.repeat(gray[:, :, np.newaxis], 3, axis=2)
