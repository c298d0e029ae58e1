"""Values of interest (PS3.3 C.11.2): the window or the table by which an image asks to be shown, applied as viewers do.

The same for the picture that a reader sees and for the model: what is darker than the window is black and what is
brighter is white, whether the image has such values or not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

Floats = NDArray[np.float32]
#: Center and width, in units of the modality LUT.
Window = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Voi:
    """How values become 0..1; `window` is `None` where a table does it."""

    apply: Callable[[Floats], Floats]
    window: Window | None


def voi_of(source: Dataset, window: Window | None = None) -> Voi | None:
    """Return `window` if given, else what the header asks for first; `None` when it asks for nothing usable.

    Eight bits without a window are a picture already, and are shown as they are.
    """
    if window is not None:
        return Voi(lambda values: _linear(values, *window), window)
    if source.get("VOILUTSequence"):
        return Voi(lambda values: _through_table(values, source), None)
    asked = _header_window(source)
    if asked is None:
        return Voi(lambda values: unit_values(values / 255.0), (128.0, 256.0)) if _is_eight_bit(source) else None
    function = _FUNCTIONS.get(str(source.get("VOILUTFunction") or "LINEAR"), _linear)
    return Voi(lambda values: function(values, *asked), asked)


def unit_values(values: NDArray[Any]) -> Floats:
    """Cut values off below 0 and above 1."""
    return np.asarray(np.clip(values, 0.0, 1.0), dtype=np.float32)


def _is_eight_bit(source: Dataset) -> bool:
    rescaled = source.get("ModalityLUTSequence") or source.get("RescaleSlope") is not None
    return source.get("BitsStored") == 8 and source.get("PixelRepresentation") == 0 and not rescaled


def _header_window(source: Dataset) -> Window | None:
    center, width = source.get("WindowCenter"), source.get("WindowWidth")
    if center in (None, "") or width in (None, ""):
        return None
    first_center = float(center[0] if isinstance(center, MultiValue) else center)
    first_width = float(width[0] if isinstance(width, MultiValue) else width)
    smallest = 1 if source.get("VOILUTFunction") in (None, "", "LINEAR") else 0
    return (first_center, first_width) if first_width >= smallest and first_width > 0 else None


def _linear(values: Floats, center: float, width: float) -> Floats:
    """PS3.3 C.11.2.1.2.1."""
    return unit_values((values - (center - 0.5)) / max(width - 1.0, 1.0) + 0.5)


def _linear_exact(values: Floats, center: float, width: float) -> Floats:
    """PS3.3 C.11.2.1.3.2."""
    return unit_values((values - center) / width + 0.5)


def _sigmoid(values: Floats, center: float, width: float) -> Floats:
    """PS3.3 C.11.2.1.3.1."""
    return unit_values(1.0 / (1.0 + np.exp(-4.0 * (values - center) / width)))


_FUNCTIONS = {"LINEAR": _linear, "LINEAR_EXACT": _linear_exact, "SIGMOID": _sigmoid}


def _through_table(values: Floats, source: Dataset) -> Floats:
    """PS3.3 C.11.2.1.1: what lies before the table has its first value, what lies behind it the last."""
    item = source.VOILUTSequence[0]
    entries, first, bits = int(item.LUTDescriptor[0]) or 1 << 16, int(item.LUTDescriptor[1]), int(item.LUTDescriptor[2])
    table = _table_of(item.LUTData, entries, source)
    index = np.clip(values.astype(np.int64) - first, 0, min(entries, len(table)) - 1)
    return unit_values(table[index].astype(np.float32) / float(2**bits - 1))


def _table_of(data: Any, entries: int, source: Dataset) -> NDArray[Any]:
    """Return the values of a table; words of bytes (OW) may hold one entry each, or two of eight bits."""
    if not isinstance(data, bytes):
        return np.atleast_1d(np.asarray(data, dtype=np.int64))
    if len(data) < 2 * entries:
        return np.frombuffer(data, np.uint8)
    # A data set that was never in a file has the byte order of this program.
    order = "<" if source.original_encoding[1] is not False else ">"
    return np.frombuffer(data, f"{order}u2", count=entries)


def is_inverted(source: Dataset) -> bool:
    """Tell whether the lowest value is white.

    The Presentation LUT Shape says so (PS3.3 C.7.6.1, C.8.11.3); where there is none MONOCHROME1 does (C.7.6.3.1.2). A
    radiograph of MONOCHROME1 has INVERSE beside it: the two say one thing, and the greys are turned round once.
    """
    shape = source.get("PresentationLUTShape")
    if shape in ("IDENTITY", "INVERSE"):
        return bool(shape == "INVERSE")
    return bool(source.get("PhotometricInterpretation") == "MONOCHROME1")
