"""A presentation state as lists and as a picture: what is drawn, on which images, in which layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset

from dicom_node.inspect.described import (
    DescriptionPart,
    Table,
    class_name,
    counted,
    first_item,
    items,
    plain,
    reference_text,
    short_uid,
    text_of,
)
from dicom_node.inspect.segments import Rgb, srgb_of

_COLUMNS = ("layer", "what", "where", "text or shape", "on")


def presentation_part(dataset: Dataset) -> DescriptionPart:
    """Return layers, graphics, window and images of a softcopy presentation state (PS3.3 A.33)."""
    layers = sorted(items(dataset, "GraphicLayerSequence"), key=lambda one: int(one.get("GraphicLayerOrder") or 0))
    rows = tuple(row for one in items(dataset, "GraphicAnnotationSequence") for row in _rows(one))
    facts = (
        (
            "label",
            ": ".join(t for t in (text_of(dataset, "ContentLabel"), text_of(dataset, "ContentDescription")) if t),
        ),
        ("layers", ", ".join(text_of(one, "GraphicLayer") for one in layers)),
        ("applies to", counted(class_name(one.get("ReferencedSOPClassUID")) for one in _images(dataset))),
        ("window", ", ".join(_windows(dataset))),
    )
    return DescriptionPart(
        facts=tuple((name, text) for name, text in facts if text),
        tables=(Table(title="Graphics and texts", columns=_COLUMNS, rows=rows),) if rows else (),
    )


def _images(dataset: Dataset) -> Iterator[Dataset]:
    for series in items(dataset, "ReferencedSeriesSequence"):
        yield from items(series, "ReferencedImageSequence")


def _windows(dataset: Dataset) -> Iterator[str]:
    for one in items(dataset, "SoftcopyVOILUTSequence"):
        if "WindowCenter" in one:
            yield f"center {text_of(one, 'WindowCenter')} width {text_of(one, 'WindowWidth')}"
        elif items(one, "VOILUTSequence"):
            yield "a look-up table"


def _rows(annotation: Dataset) -> Iterator[tuple[str, ...]]:
    layer = text_of(annotation, "GraphicLayer")
    images = items(annotation, "ReferencedImageSequence")
    on = reference_text(images[0]) + (f" and {len(images) - 1} more" if len(images) > 1 else "") if images else "all"
    for one in items(annotation, "GraphicObjectSequence"):
        points = int(one.get("NumberOfGraphicPoints") or 0)
        filled = ", filled" if text_of(one, "GraphicFilled") == "Y" else ""
        shape = f"{text_of(one, 'GraphicType').lower()}, {points} points{filled}"
        tracked = short_uid(one.get("TrackingUID"))
        yield layer, "graphic", _box(list(one.get("GraphicData") or ())), f"{shape} {tracked}".strip(), on
    for one in items(annotation, "TextObjectSequence"):
        anchor = one.get("AnchorPoint") or one.get("BoundingBoxTopLeftHandCorner") or ()
        yield layer, "text", _box(list(anchor)), text_of(one, "UnformattedTextValue"), on


def _box(values: list[float]) -> str:
    """Return the bounding box of column, row pairs."""
    columns, rows = [float(v) for v in values[0::2]], [float(v) for v in values[1::2]]
    if not columns or not rows:
        return ""
    if len(columns) == 1:
        return f"{columns[0]:g}, {rows[0]:g}"
    return f"{min(columns):g}..{max(columns):g} x {min(rows):g}..{max(rows):g}"


# --- the picture ---------------------------------------------------------------------------------------------------

_LEAST_CANVAS_PX, _MOST_CANVAS_PX = 1024, 4096
_LEAST_TEXT_PX, _TEXT_PX = 9, 14
_INK: Rgb = (255, 210, 60)


def presentation_picture(dataset: Dataset) -> NDArray[np.uint8]:
    """Return what is drawn in image coordinates, on a whole multiple of the image's size; RGB (rows, columns, 3)."""
    area = first_item(dataset, "DisplayedAreaSelectionSequence")
    corner = area.get("DisplayedAreaBottomRightHandCorner") or (_LEAST_CANVAS_PX, _LEAST_CANVAS_PX)
    columns, rows = (min(max(int(value), 1), _MOST_CANVAS_PX) for value in corner)
    scale = max(1, -(-_LEAST_CANVAS_PX // max(columns, rows)))
    canvas = Image.new("RGB", (columns * scale, rows * scale))
    pen, inks = ImageDraw.Draw(canvas), _inks(dataset)
    for annotation in items(dataset, "GraphicAnnotationSequence"):
        ink = inks.get(text_of(annotation, "GraphicLayer"), _INK)
        for one in items(annotation, "GraphicObjectSequence"):
            _draw_graphic(pen, one, scale, ink)
        for one in items(annotation, "TextObjectSequence"):
            _draw_text(pen, one, scale, ink)
    return np.asarray(canvas)


def _inks(dataset: Dataset) -> Mapping[str, Rgb]:
    """Return the colour each layer recommends."""
    found: dict[str, Rgb] = {}
    for layer in items(dataset, "GraphicLayerSequence"):
        stored = layer.get("GraphicLayerRecommendedDisplayCIELabValue")
        if stored is not None and len(stored) == 3:
            found[text_of(layer, "GraphicLayer")] = srgb_of([int(value) for value in stored])
    return found


def _draw_graphic(pen: ImageDraw.ImageDraw, graphic: Dataset, scale: int, ink: Rgb) -> None:
    values = [float(value) * scale for value in graphic.get("GraphicData") or ()]
    points = list(zip(values[0::2], values[1::2], strict=False))
    kind = text_of(graphic, "GraphicType")
    if kind == "CIRCLE" and len(points) == 2:
        (x, y), edge = points
        radius = float(np.hypot(edge[0] - x, edge[1] - y))
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=ink, width=2)
    elif kind == "POINT" or len(points) == 1:
        pen.point(points, fill=ink)
    elif len(points) > 1:
        pen.line(points, fill=ink, width=2)


def _draw_text(pen: ImageDraw.ImageDraw, text: Dataset, scale: int, ink: Rgb) -> None:
    """Draw the lines of a text as high as its box allows."""
    top_left = text.get("BoundingBoxTopLeftHandCorner")
    place = text.get("AnchorPoint") if top_left is None else top_left
    if place is None or len(place) != 2:
        return
    lines = [plain(line) for line in str(text.get("UnformattedTextValue") or "").splitlines()]
    bottom = text.get("BoundingBoxBottomRightHandCorner")
    height_px = _TEXT_PX * len(lines)
    if top_left is not None and bottom is not None and len(bottom) == 2:
        height_px = int((float(bottom[1]) - float(top_left[1])) * scale)
    size_px = min(max(height_px // max(1, len(lines)) - 2, _LEAST_TEXT_PX), 3 * _TEXT_PX)
    font = ImageFont.load_default(size_px)
    for number, line in enumerate(lines):
        at = (float(place[0]) * scale, float(place[1]) * scale + number * (size_px + 2))
        pen.text(at, line, fill=ink, font=font)
