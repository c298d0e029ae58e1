"""One picture of an object: an image through its window, masks in their colours, a map in gray."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset

from dicom_node.errors import UnreadableObject
from dicom_node.inspect.images import map_values
from dicom_node.inspect.masks import masks
from dicom_node.inspect.segments import color_of
from dicom_node.inspect.words import items
from dicom_node.sr_writer.pictures.display import display_rgb, pixel_aspect

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
