"""What a display shutter hides of an image, as a viewer hides it (PS3.3 C.7.6.11)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicom_node.decoding.stored import pixel_aspect

Hidden = NDArray[np.bool_]

_WHITE_P_VALUE = 65535


def hidden_by_shutter(header: Dataset) -> Hidden | None:
    """Return which pixels (rows, columns) lie outside a shutter; `None` for an image without one.

    Of several shutters each hides what is outside of it. Raises `ValueError` where a shutter cannot be applied: it is
    of an unknown shape, or does not say where it lies.
    """
    shapes = [str(shape).strip().upper() for shape in _several(header.get("ShutterShape"))]
    if not shapes:
        return None
    seen = np.ones((int(header.Rows), int(header.Columns)), dtype=bool)
    for shape in shapes:
        opening = _OPENINGS.get(shape)
        if opening is None:
            raise ValueError(f"ShutterShape {shape}")
        try:
            seen &= opening(header, seen.shape)
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"the {shape.lower()} shutter") from error
    return ~seen


def shutter_gray(header: Dataset) -> float:
    """Return what a viewer shows instead of hidden pixels, 0 (black, unless the header says otherwise) to 1."""
    value = header.get("ShutterPresentationValue")
    return min(max(int(value), 0), _WHITE_P_VALUE) / _WHITE_P_VALUE if isinstance(value, int) else 0.0


def _rectangle(header: Dataset, size: tuple[int, ...]) -> Hidden:
    """Edges are rows and columns that are still seen, counted from 1."""
    left, right = int(header.ShutterLeftVerticalEdge), int(header.ShutterRightVerticalEdge)
    upper, lower = int(header.ShutterUpperHorizontalEdge), int(header.ShutterLowerHorizontalEdge)
    seen = np.zeros(size, dtype=bool)
    seen[max(upper - 1, 0) : max(lower, 0), max(left - 1, 0) : max(right, 0)] = True
    return seen


def _circle(header: Dataset, size: tuple[int, ...]) -> Hidden:
    """The radius counts pixels along a row; where pixels are not square, the circle is one on the screen."""
    row, column = (int(one) for one in header.CenterOfCircularShutter)
    rows, columns = np.ogrid[1 : size[0] + 1, 1 : size[1] + 1]
    seen: Hidden = ((rows - row) * pixel_aspect(header)) ** 2 + (columns - column) ** 2 <= int(
        header.RadiusOfCircularShutter
    ) ** 2
    return seen


def _polygon(header: Dataset, size: tuple[int, ...]) -> Hidden:
    """Vertices are row and column, counted from 1; the last is joined to the first."""
    numbers = [int(one) for one in header.VerticesOfThePolygonalShutter]
    corners = [(column - 1, row - 1) for row, column in zip(numbers[::2], numbers[1::2], strict=True)]
    drawn = Image.new("1", (size[1], size[0]))
    ImageDraw.Draw(drawn).polygon(corners, fill=1, outline=1)
    return np.asarray(drawn, dtype=bool)


_OPENINGS: Mapping[str, Callable[[Dataset, tuple[int, ...]], Hidden]] = {
    "RECTANGULAR": _rectangle,
    "CIRCULAR": _circle,
    "POLYGONAL": _polygon,
}


def _several(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, MultiValue | list | tuple) else [value]
