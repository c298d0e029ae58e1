"""One picture of an object: an image through its window, masks in their colours, graphics on black, a map in gray."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset

from dicom_node.errors import UnreadableObject
from dicom_node.inspect.images import map_values
from dicom_node.inspect.masks import masks
from dicom_node.inspect.segments import color_of
from dicom_node.inspect.words import first_item, items, text_of
from dicom_node.sr_writer.pictures.display import display_rgb, pixel_aspect

RgbUint8 = NDArray[np.uint8]
_LEAST_CANVAS_PX, _MOST_CANVAS_PX = 512, 4096
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


def presentation_picture(dataset: Dataset) -> RgbUint8:
    """Return graphics and texts in image coordinates on black; the image itself is another object."""
    area = first_item(dataset, "DisplayedAreaSelectionSequence")
    corner = area.get("DisplayedAreaBottomRightHandCorner") or (_LEAST_CANVAS_PX, _LEAST_CANVAS_PX)
    columns, rows = (min(max(int(value), 1), _MOST_CANVAS_PX) for value in corner)
    scale = max(1, -(-_LEAST_CANVAS_PX // max(columns, rows)))
    canvas = Image.new("RGB", (columns * scale, rows * scale))
    pen = ImageDraw.Draw(canvas)
    for annotation in items(dataset, "GraphicAnnotationSequence"):
        for one in items(annotation, "GraphicObjectSequence"):
            _draw_graphic(pen, one, scale)
        for one in items(annotation, "TextObjectSequence"):
            place = one.get("AnchorPoint") or one.get("BoundingBoxTopLeftHandCorner")
            if place is not None:
                pen.text((place[0] * scale, place[1] * scale), text_of(one, "UnformattedTextValue"), fill=_INK)
    return np.asarray(canvas)


def _draw_graphic(pen: ImageDraw.ImageDraw, graphic: Dataset, scale: int) -> None:
    values = [float(value) * scale for value in graphic.get("GraphicData") or ()]
    points = list(zip(values[0::2], values[1::2], strict=False))
    kind = text_of(graphic, "GraphicType")
    if kind == "CIRCLE" and len(points) == 2:
        (x, y), edge = points
        radius = float(np.hypot(edge[0] - x, edge[1] - y))
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=_INK)
    elif kind == "POINT" or len(points) == 1:
        pen.point(points, fill=_INK)
    elif len(points) > 1:
        pen.line(points, fill=_INK)
