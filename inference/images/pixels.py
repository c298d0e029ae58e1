"""From the stored values of one image to numbers that mean something: rescale, padding, VOI, polarity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_modality_lut

from dicom_node.core.errors import NotAnalysable
from dicom_node.decoding.shutter import Hidden, hidden_by_shutter, shutter_gray
from dicom_node.decoding.stored import Stored, padding_mask, stored_values, unreadable
from dicom_node.decoding.voi import is_inverted, unit_values, voi_of
from dicom_node.headers.sound import READ_ERRORS, first_unreadable
from dicom_node.inference.seen_pixels import note_pixels

AIR_HU = -1024
#: Colours in three samples (PS3.3 C.7.6.3.1.2), of which the decoders make RGB.
_COLORS = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"})


def hounsfield_units(dataset: Dataset) -> NDArray[np.int16]:
    """Return Hounsfield units, (rows, columns), rounded (PS3.3 C.11.1.1.2); padding becomes air.

    Raises `NotAnalysable`: NOT_CT_HU when Rescale Slope or Intercept is absent (it is never guessed).
    """
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    if not isinstance(slope, int | float) or not isinstance(intercept, int | float):
        raise NotAnalysable(
            "NOT_CT_HU", "An image has no Rescale Slope and Intercept, so its values are not Hounsfield."
        )
    stored = _plane(dataset)
    values = stored.astype(np.float32) * float(slope) + float(intercept)
    values[padding_mask(dataset, stored)] = AIR_HU
    rounded: NDArray[np.int16] = np.clip(np.rint(values), -32768, 32767).astype(np.int16)
    return rounded


def rescaled_values(dataset: Dataset) -> NDArray[np.float32]:
    """Return the values of an image whose scale is its own, as MR, (rows, columns): rescaled where the header says
    how, so that slices agree; padding becomes the lowest value. Raises `NotAnalysable` (UNREADABLE_PIXELS)."""
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    stored = _plane(dataset)
    values = stored.astype(np.float32)
    if isinstance(slope, int | float) and isinstance(intercept, int | float) and slope:
        values = values * np.float32(slope) + np.float32(intercept)
    padded = padding_mask(dataset, stored)
    if padded.any() and not padded.all():
        values[padded] = values[~padded].min()
    return values


def _read(dataset: Dataset) -> Stored:
    stored = stored_values(dataset)
    note_pixels(dataset, stored)
    return stored


def _plane(dataset: Dataset) -> Stored:
    stored = _read(dataset)
    if stored.ndim != 2:
        raise unreadable(dataset, f"it has {stored.ndim} dimensions where rows and columns are due")
    return stored


def display_values(dataset: Dataset, *, voi: bool) -> NDArray[np.float32]:
    """Return a projection image as 0..1 (rows, columns), dark to bright as a viewer shows it; padding is 0.

    Modality LUT or rescale; then VOI LUT or window if `voi`, whatever part of it the image fills (PS3.3 C.11.2), else
    and without either the image's own range; then what is stored inverted is turned round. What a display shutter hides
    has the gray that a viewer shows there, and no part in the range.
    Raises `NotAnalysable`: NOT_MONOCHROME for colour, UNREADABLE_PIXELS, EMPTY_IMAGE.
    """
    interpretation = str(dataset.get("PhotometricInterpretation", ""))
    if interpretation not in {"MONOCHROME1", "MONOCHROME2"}:
        raise NotAnalysable("NOT_MONOCHROME", f"The image is {interpretation or 'of unknown colour'}, not greyscale.")
    stored = _read(dataset)
    if stored.ndim != 2:
        raise NotAnalysable("MULTI_FRAME", "The image has more than one frame; a single projection is needed.")
    padded = padding_mask(dataset, stored)
    hidden = hidden_pixels(dataset)
    if voi:
        _check_window(dataset)
    try:
        values = np.asarray(apply_modality_lut(stored, dataset), dtype=np.float32)
        asked = voi_of(dataset) if voi else None
        values = asked.apply(values) if asked is not None else values
    except READ_ERRORS as error:
        raise unreadable(dataset, f"its look-up tables cannot be applied ({type(error).__name__})") from error
    low, high = _range(values, padded if hidden is None else padded | hidden)
    shown = values if asked is not None else unit_values((values - low) / (high - low))
    if is_inverted(dataset):
        shown = 1.0 - shown
    shown[padded] = 0.0
    if hidden is not None:
        shown[hidden] = shutter_gray(dataset)
    return shown


def color_values(dataset: Dataset, *, voi: bool) -> NDArray[np.float32]:
    """Return an image as red, green and blue, 0..1 (3, rows, columns); a grey one is repeated (`display_values`).

    What a display shutter hides has the gray that a viewer shows there. Raises `NotAnalysable`: NOT_MONOCHROME for
    colours that nobody knows how to show, MULTI_FRAME, UNREADABLE_PIXELS.
    """
    interpretation = str(dataset.get("PhotometricInterpretation", ""))
    if interpretation in {"MONOCHROME1", "MONOCHROME2"}:
        return np.repeat(display_values(dataset, voi=voi)[None], 3, axis=0)
    if interpretation not in _COLORS or dataset.get("SamplesPerPixel") != 3:
        raise NotAnalysable("NOT_MONOCHROME", f"The image is {interpretation or 'of unknown colour'}, which is no RGB.")
    stored = _read(dataset)  # of YBR it makes RGB
    if stored.ndim != 3:
        raise NotAnalysable("MULTI_FRAME", "The image has more than one frame; a single picture is needed.")
    white = np.float32(2 ** int(dataset.BitsStored) - 1)
    values = np.ascontiguousarray(stored.transpose(2, 0, 1), dtype=np.float32) / white
    hidden = hidden_pixels(dataset)
    if hidden is not None:
        values[:, hidden] = shutter_gray(dataset)
    return values


def hidden_pixels(header: Dataset) -> Hidden | None:
    """Return what a display shutter hides, (rows, columns), `None` where there is none.

    Raises `NotAnalysable` (UNREADABLE_ATTRIBUTE) where a shutter is told and cannot be applied: a viewer would show
    another image than the model sees.
    """
    try:
        return hidden_by_shutter(header)
    except ValueError as error:
        raise NotAnalysable(
            "UNREADABLE_ATTRIBUTE",
            f"{error} of image number {header.get('InstanceNumber', '?')} cannot be applied, and the answer depends on "
            "what is shown.",
        ) from error


def _check_window(dataset: Dataset) -> None:
    """Raise `NotAnalysable` (UNREADABLE_ATTRIBUTE) where the header asks for a window that means nothing.

    What a viewer shows of such an image is its own choice, and what a model makes of it would be chance. A width must
    be at least 1 for the linear function, and above 0 for the others (PS3.3 C.11.2.1.2.1).
    """
    keyword = first_unreadable(dataset, ("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"))
    if not keyword and not dataset.get("VOILUTSequence") and _is_void(dataset):
        keyword = "WindowWidth"
    if keyword:
        raise NotAnalysable(
            "UNREADABLE_ATTRIBUTE",
            f"{keyword} of image number {dataset.get('InstanceNumber', '?')} cannot be used, "
            "and the answer depends on what is shown.",
        )


def _is_void(dataset: Dataset) -> bool:
    width = dataset.get("WindowWidth")
    first = width[0] if isinstance(width, MultiValue) and width else width
    if not isinstance(first, int | float) or dataset.get("WindowCenter") in (None, ""):
        return False
    smallest = 1 if str(dataset.get("VOILUTFunction") or "LINEAR") == "LINEAR" else 0
    return first < smallest or first <= 0


def _range(values: NDArray[np.float32], left_out: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the lowest and the highest value that is seen. Raises `NotAnalysable` (EMPTY_IMAGE) where all are one."""
    inside = values[~left_out]
    if inside.size == 0 or float(inside.max()) <= float(inside.min()):
        raise NotAnalysable("EMPTY_IMAGE", "All pixels of the image have the same value.")
    return float(inside.min()), float(inside.max())
