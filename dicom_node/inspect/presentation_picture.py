"""The graphics and texts of a presentation state, each layer in its colour, on black: the image is another object."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset

from dicom_node.inspect.colors import Rgb, srgb_of
from dicom_node.inspect.words import first_item, items, plain, text_of

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
