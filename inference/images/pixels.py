"""One received image to numbers: lengths checked before anything is decoded, then rescale, padding, VOI, polarity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import UID, JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes

from dicom_node.core.errors import NotAnalysable
from dicom_node.headers.sound import READ_ERRORS, first_unreadable

Stored = NDArray[np.integer[Any] | np.floating[Any]]

#: JPEG, JPEG-LS and JPEG 2000 streams all end with this marker.
_EOI = b"\xff\xd9"
_ENDING_IN_EOI = frozenset((*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes))

_SIZES = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "PixelRepresentation")

#: Most stored values one frame may hold (Rows x Columns x Samples): above any detector, below any bomb.
MAX_VALUES = 1 << 28

AIR_HU = -1024


def check_pixel_length(dataset: Dataset) -> None:
    """Compare the length of PixelData with what Rows, Columns, frames, samples and bits ask for.

    Older applications pad behind the pixels (PS3.5 8.1.1, note), which is accepted up to less than a row: more than
    that, and Rows or Columns may be wrong.
    Raises `NotAnalysable` (UNREADABLE_PIXELS) when they disagree; truncated pixels otherwise decode silently.
    """
    try:
        frames = int(dataset.get("NumberOfFrames", 1) or 1)
        values = dataset.Rows * dataset.Columns * dataset.SamplesPerPixel
        expected_bytes = (values * frames * dataset.BitsAllocated + 7) // 8
        row_bytes = max(2, dataset.Columns * dataset.SamplesPerPixel * dataset.BitsAllocated // 8)
        found_bytes = len(dataset.PixelData)
        syntax = dataset.file_meta.TransferSyntaxUID
        compressed = bool(syntax.is_encapsulated)
    except READ_ERRORS as error:
        wrong = [one for one in _SIZES if not isinstance(dataset.get(one), int)]
        told = ", ".join(wrong) or type(error).__name__
        raise _unreadable(dataset, f"pixel attributes are missing or malformed ({told})") from error
    if not 0 < values <= MAX_VALUES or frames < 1:
        raise _unreadable(dataset, f"its size of {values} values is not plausible")
    if compressed:
        _check_ends(dataset, syntax, frames)
    elif not 0 <= found_bytes - expected_bytes < row_bytes:
        raise _unreadable(dataset, f"it holds {found_bytes} bytes of pixels where {expected_bytes} are due")


def _check_ends(dataset: Dataset, syntax: UID, frames: int) -> None:
    """Refuse a compressed image that is cut off: decoders of JPEG 2000 fill what is missing with something smooth."""
    if syntax not in _ENDING_IN_EOI:
        return
    try:
        streams = list(generate_frames(dataset.PixelData, number_of_frames=frames))
    except READ_ERRORS as error:
        raise _unreadable(dataset, f"its compressed frames cannot be told apart ({type(error).__name__})") from error
    if len(streams) != frames or any(not stream.rstrip(b"\0").endswith(_EOI) for stream in streams):
        raise _unreadable(dataset, "its compressed pixels are cut off")


def stored_values(dataset: Dataset) -> Stored:
    """Decode the stored values. Raises `NotAnalysable` (UNREADABLE_PIXELS); a crash in a codec ends the process."""
    check_pixel_length(dataset)
    try:
        if dataset.Rows * dataset.Columns * int(dataset.get("NumberOfFrames", 1) or 1) > MAX_VALUES:
            raise _unreadable(dataset, "it holds more values than can be read at once")
        pixels: Stored = dataset.pixel_array
    except READ_ERRORS as error:
        raise _unreadable(dataset, f"its pixels do not decode ({type(error).__name__})") from error
    return pixels


def stored_frames(dataset: Dataset, frame_numbers: Sequence[int]) -> Iterator[Stored]:
    """Decode single frames (rows, columns) of a multi-frame object, numbers from 1, in the order asked for.

    Raises `NotAnalysable` (UNREADABLE_PIXELS).
    """
    check_pixel_length(dataset)
    try:
        yield from iter_pixels(dataset, indices=[number - 1 for number in frame_numbers])
    except READ_ERRORS as error:
        raise _unreadable(dataset, f"its pixels do not decode ({type(error).__name__})") from error


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


def _plane(dataset: Dataset) -> Stored:
    stored = stored_values(dataset)
    if stored.ndim != 2:
        raise _unreadable(dataset, f"it has {stored.ndim} dimensions where rows and columns are due")
    return stored


def padding_mask(dataset: Dataset, stored: Stored) -> NDArray[np.bool_]:
    """Tell which stored values are padding (PS3.3 C.7.5.1.1.2): one value, or all up to the range limit."""
    value = dataset.get("PixelPaddingValue")
    if not isinstance(value, int):
        return np.zeros(stored.shape, bool)
    limit = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((value, limit if isinstance(limit, int) else value))
    padded: NDArray[np.bool_] = (stored >= low) & (stored <= high)
    return padded


def display_values(dataset: Dataset, *, voi: bool) -> NDArray[np.float32]:
    """Return a projection image as 0..1 (rows, columns), dark to bright as a viewer shows it; padding is 0.

    Modality LUT or rescale, then VOI LUT or window if `voi` (else the full range), then MONOCHROME1 is inverted.
    Raises `NotAnalysable`: NOT_MONOCHROME for colour, UNREADABLE_PIXELS.
    """
    interpretation = str(dataset.get("PhotometricInterpretation", ""))
    if interpretation not in {"MONOCHROME1", "MONOCHROME2"}:
        raise NotAnalysable("NOT_MONOCHROME", f"The image is {interpretation or 'of unknown colour'}, not greyscale.")
    stored = stored_values(dataset)
    if stored.ndim != 2:
        raise NotAnalysable("MULTI_FRAME", "The image has more than one frame; a single projection is needed.")
    padded = padding_mask(dataset, stored)
    if voi:
        _check_window(dataset)
    try:
        values = apply_modality_lut(stored, dataset)
        values = np.asarray(apply_voi_lut(values, dataset) if voi else values, dtype=np.float32)
    except READ_ERRORS as error:
        raise _unreadable(dataset, f"its look-up tables cannot be applied ({type(error).__name__})") from error
    shown = _to_unit_range(values, padded)
    if interpretation == "MONOCHROME1":
        shown = 1.0 - shown
    shown[padded] = 0.0
    return shown


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


def _to_unit_range(values: NDArray[np.float32], padded: NDArray[np.bool_]) -> NDArray[np.float32]:
    inside = values[~padded]
    if inside.size == 0 or float(inside.max()) <= float(inside.min()):
        raise NotAnalysable("EMPTY_IMAGE", "All pixels of the image have the same value.")
    low, high = float(inside.min()), float(inside.max())
    scaled: NDArray[np.float32] = np.clip((values - low) / (high - low), 0.0, 1.0).astype(np.float32)
    return scaled


def _unreadable(dataset: Dataset, problem: str) -> NotAnalysable:
    return NotAnalysable(
        "UNREADABLE_PIXELS", f"Image number {dataset.get('InstanceNumber', '?')} cannot be read: {problem}."
    )
