"""A presentation state shows an image as it would look without: what it leaves out would be switched off (PS3.4 N.2).

Window, modality LUT, shutter, overlays and polarity are copied from the source, never chosen.
"""

from __future__ import annotations

import copy
import math
from fractions import Fraction

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicom_node.sr_writer.pictures.display import pixel_aspect

_MODALITY = ("RescaleIntercept", "RescaleSlope", "RescaleType", "ModalityLUTSequence")
_SHUTTER = (
    "ShutterShape", "ShutterLeftVerticalEdge", "ShutterRightVerticalEdge", "ShutterUpperHorizontalEdge",
    "ShutterLowerHorizontalEdge", "CenterOfCircularShutter", "RadiusOfCircularShutter",
    "VerticesOfThePolygonalShutter", "ShutterPresentationValue",
)  # fmt: skip
_WINDOW = ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction")
_OVERLAY_GROUPS = range(0x6000, 0x6020, 2)
_LUT_BITS = (8, 16)
OVERLAY_LAYER = "SOURCE OVERLAY"


def look_of(source: Dataset) -> Dataset:
    """Return the attributes that one presentation state has for all its images; sources of one look can share it."""
    look = Dataset()
    for keyword in (*_MODALITY, *_SHUTTER):
        if source.get(keyword) not in (None, ""):
            look[keyword] = copy.deepcopy(source[keyword])
    if "RescaleSlope" in look and "RescaleType" not in look:
        look.RescaleType = "HU" if source.get("Modality") == "CT" else "US"
    for group in _OVERLAY_GROUPS:
        if (group, 0x3000) in source:
            look.add_new((group, 0x1001), "CS", OVERLAY_LAYER)
    look.PresentationLUTShape = "INVERSE" if source.PhotometricInterpretation == "MONOCHROME1" else "IDENTITY"
    return look


def has_overlay(look: Dataset) -> bool:
    """Whether the look switches on an overlay plane of the source."""
    return any((group, 0x1001) in look for group in _OVERLAY_GROUPS)


def window_of(source: Dataset) -> Dataset | None:
    """Return the item of the Softcopy VOI LUT Sequence that repeats the source's own LUT or windows.

    A source without any gets the range of its values, since without an item the whole range of its bits is shown;
    `None` when it has no pixels either.
    """
    item = Dataset()
    if source.get("VOILUTSequence"):
        item.VOILUTSequence = [_widened(table) for table in source.VOILUTSequence]
        return item
    if _is_usable(source.get("WindowCenter"), source.get("WindowWidth")):
        for keyword in _WINDOW:
            if source.get(keyword) not in (None, ""):
                item[keyword] = copy.deepcopy(source[keyword])
                item[keyword].value = _first(item[keyword].value)
        return item
    return _whole_range(source) if "PixelData" in source else None


def aspect_of(source: Dataset) -> list[int]:
    """Return the pixel aspect ratio as (height, width) in whole numbers (PS3.3 C.10.4)."""
    ratio = Fraction(pixel_aspect(source)).limit_denominator(1000)
    return [max(1, ratio.numerator), ratio.denominator]


def _widened(table: Dataset) -> Dataset:
    """Return a table whose values have 8 or 16 bits, as presentation states want (PS3.3 C.11.8), and the same look."""
    widened = copy.deepcopy(table)
    entries, first, bits = (int(value) for value in table.LUTDescriptor)
    if bits in _LUT_BITS:
        return widened
    data = table.LUTData
    values = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.array(data)
    wide = (values.astype(np.float64) * ((2**16 - 1) / (2**bits - 1)) + 0.5).astype("<u2")
    widened["LUTDescriptor"].value = [entries, first, 16]
    widened.add_new("LUTData", "OW", wide.tobytes())
    return widened


def _first(value: object) -> object:
    """Return the first of several windows: the one a viewer opens with; a presentation state has one (C.11.8)."""
    return value[0] if isinstance(value, MultiValue) and value else value


def _is_usable(center: object, width: object) -> bool:
    if center in (None, "") or width in (None, ""):
        return False
    first = width[0] if isinstance(width, MultiValue) else width
    return float(str(first)) >= 1


def _whole_range(source: Dataset) -> Dataset:
    slope, intercept = float(source.get("RescaleSlope") or 1), float(source.get("RescaleIntercept") or 0)
    pixels = source.pixel_array
    ends = sorted(float(end) * slope + intercept for end in (pixels.min(), pixels.max()))
    item = Dataset()
    # The window of C.11.2.1.2.1 that takes the lowest value to black and the highest to white.
    width = max(1.0, math.ceil(ends[1] - ends[0]) + 1)
    item.WindowCenter, item.WindowWidth = round((ends[0] + ends[1] + 1) / 2, 3), width
    item.WindowCenterWidthExplanation = "Range of values"
    return item
