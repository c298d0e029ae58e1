"""The stored values of an image (PS3.5 8.1), whatever it is encoded in: checked, decoded, and nothing but its own bits.

Sizes are compared before anything is decoded: codecs believe their own headers, and write behind a buffer or wrap rows
where these differ from the image's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.multival import MultiValue
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import UID

from dicom_node.core.errors import NotAnalysable
from dicom_node.decoding.codecs import CODECS, NATIVE, decoder
from dicom_node.decoding.codestream import Codestream, DamagedStream, read_codestream
from dicom_node.headers.sound import READ_ERRORS

Stored = NDArray[np.integer[Any] | np.floating[Any]]

#: Most stored values one image may hold (Rows x Columns x Samples x Frames): above any detector, below any bomb.
MAX_VALUES = 1 << 28

_SIZES = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")
#: Values of floating point have all their bits (PS3.3 C.7.6.24 and C.7.6.25).
_FLOATS = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}
_AS_STORED: dict[str, Any] = {
    "correct_unused_bits": False,
    "apply_jls_sign_correction": False,
    "apply_j2k_sign_correction": False,
    "allow_excess_frames": False,
}


@dataclass(frozen=True, slots=True)
class _Format:
    """The Image Pixel attributes (PS3.3 C.7.6.3) of one object, as numbers that agree with each other."""

    syntax: UID
    keyword: str
    rows: int
    columns: int
    samples: int
    frames: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: bool
    is_subsampled: bool

    @property
    def values(self) -> int:
        return self.rows * self.columns * self.samples

    @property
    def shift(self) -> int:
        """By how many bits the values lie to the left in their words."""
        return self.high_bit + 1 - self.bits_stored

    @property
    def native_bytes(self) -> int:
        """Of two chrominance samples, one is left out in YBR_FULL_422 (PS3.3 C.7.6.3.1.2)."""
        values = self.values * 2 // 3 if self.is_subsampled else self.values
        return (values * self.frames * self.bits_allocated + 7) // 8


def check_pixels(dataset: Dataset) -> None:
    """Compare the pixels of an object with what its header says of them, without decoding any.

    Native pixels must be as long as Rows, Columns, frames, samples and bits ask for. Older applications pad behind them
    (PS3.5 8.1.1, note), which is accepted up to less than a row: more than that, and Rows or Columns may be wrong.
    Compressed frames must be as many as Number of Frames says, and whole, of the size of the image, and wide enough.
    Raises `NotAnalysable` (UNREADABLE_PIXELS), which names the image.
    """
    form = _format(dataset)
    if form.syntax.is_encapsulated:
        _check_streams(dataset, form)
        return
    found = len(dataset[form.keyword].value)
    row_bytes = max(2, form.columns * form.samples * form.bits_allocated // 8)
    if not 0 <= found - form.native_bytes < row_bytes:
        raise unreadable(dataset, f"it holds {found} bytes of pixels where {form.native_bytes} are due")


def stored_values(dataset: Dataset) -> Stored:
    """Decode the stored values: (rows, columns), with frames before and samples behind where there are several.

    Colours in YBR_FULL are returned as RGB. Raises `NotAnalysable` (UNREADABLE_PIXELS).
    """
    check_pixels(dataset)
    form = _format(dataset)
    if form.values * form.frames > MAX_VALUES:
        raise unreadable(dataset, "it holds more values than can be read at once")
    return _decoded(dataset, form, None)


def stored_frames(dataset: Dataset, frame_numbers: Sequence[int]) -> Iterator[Stored]:
    """Decode single frames of a multi-frame object, numbers from 1, in the order asked for; each as `stored_values`.

    Raises `NotAnalysable` (UNREADABLE_PIXELS).
    """
    check_pixels(dataset)
    form = _format(dataset)
    for number in frame_numbers:
        yield _decoded(dataset, form, number - 1)


def pixel_aspect(header: Dataset) -> float:
    """Return the height of a pixel divided by its width; 1 when the source does not say."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"):
        value = header.get(keyword)
        if isinstance(value, MultiValue) and len(value) == 2 and all(float(v) > 0 for v in value):
            return float(value[0]) / float(value[1])
    return 1.0


def padding_mask(dataset: Dataset, stored: Stored) -> NDArray[np.bool_]:
    """Tell which stored values are padding (PS3.3 C.7.5.1.1.2): one value, or all up to the range limit.

    Both are read as the pixels are: files exist that write them unsigned beside signed pixels, and the other way round.
    """
    value = dataset.get("PixelPaddingValue")
    if not isinstance(value, int):
        return np.zeros(stored.shape, bool)
    limit = dataset.get("PixelPaddingRangeLimit")
    ends = (value, limit if isinstance(limit, int) else value)
    low, high = sorted(_as_stored(end, dataset) for end in ends)
    padded: NDArray[np.bool_] = (stored >= low) & (stored <= high)
    return padded


def _as_stored(value: int, dataset: Dataset) -> int:
    """Return a value as a word of the pixels would mean it, with their sign."""
    word = 1 << int(dataset.BitsAllocated)
    if dataset.PixelRepresentation:
        return value - word if value >= word // 2 else value
    return value + word if value < 0 else value


def unreadable(dataset: Dataset, problem: str, reason: str = "UNREADABLE_PIXELS") -> NotAnalysable:
    """Return the refusal of one image, named by its number and its SOP Instance UID."""
    name = f"Image number {dataset.get('InstanceNumber', '?')} ({dataset.get('SOPInstanceUID', 'without a UID')})"
    return NotAnalysable(reason, f"{name} cannot be read: {problem}.")


def _contradiction(dataset: Dataset, problem: str) -> NotAnalysable:
    return unreadable(dataset, problem, "PIXELS_CONTRADICT_HEADER")


# --- what the header says --------------------------------------------------------------------------------------------


def _format(dataset: Dataset) -> _Format:
    try:
        form = _read_format(dataset)
    except READ_ERRORS as error:
        wrong = [one for one in _SIZES if not isinstance(dataset.get(one), int)]
        told = ", ".join(wrong) or type(error).__name__
        raise unreadable(dataset, f"pixel attributes are missing or malformed ({told})") from error
    _check_format(dataset, form)
    return form


def _read_format(dataset: Dataset) -> _Format:
    keyword = next((one for one in _FLOATS if one in dataset), "PixelData")
    bits_allocated = int(dataset.BitsAllocated)
    bits_stored = bits_allocated if keyword in _FLOATS else int(dataset.BitsStored)
    high_bit = dataset.get("HighBit")
    if dataset[keyword].value is None:
        raise AttributeError(keyword)
    syntax = dataset.file_meta.TransferSyntaxUID
    return _Format(
        syntax=syntax,
        keyword=keyword,
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        samples=int(dataset.SamplesPerPixel),
        frames=int(dataset.get("NumberOfFrames", 1) or 1),
        bits_allocated=bits_allocated,
        bits_stored=bits_stored,
        high_bit=bits_stored - 1 if high_bit is None or keyword in _FLOATS else int(high_bit),
        is_signed=keyword == "PixelData" and bool(dataset.PixelRepresentation),
        is_subsampled=not syntax.is_encapsulated and dataset.get("PhotometricInterpretation") == "YBR_FULL_422",
    )


def _check_format(dataset: Dataset, form: _Format) -> None:
    if not 0 < form.values <= MAX_VALUES or form.frames < 1:
        raise unreadable(dataset, f"its size of {form.values} values is not plausible")
    if form.syntax not in CODECS and form.syntax not in NATIVE:
        raise unreadable(dataset, f"the node does not decode {form.syntax.name}", "ENCODING_NOT_READ")
    if form.keyword in _FLOATS and (form.bits_allocated != _FLOATS[form.keyword] or form.syntax.is_encapsulated):
        raise _contradiction(dataset, f"its {form.keyword} is not of {_FLOATS[form.keyword]} bits, or compressed")
    if not 0 < form.bits_stored <= form.bits_allocated:
        raise _contradiction(dataset, f"it stores {form.bits_stored} bits in {form.bits_allocated}")
    if not form.bits_stored - 1 <= form.high_bit < form.bits_allocated:
        raise _contradiction(
            dataset, f"its High Bit {form.high_bit} has no room for {form.bits_stored} of {form.bits_allocated} bits"
        )


# --- what compressed frames say of themselves ------------------------------------------------------------------------


def _check_streams(dataset: Dataset, form: _Format) -> None:
    try:
        streams = list(generate_frames(dataset.PixelData, number_of_frames=form.frames))
        told = [read_codestream(stream, form.syntax) for stream in streams]
    except DamagedStream as error:
        raise unreadable(dataset, str(error)) from error
    except READ_ERRORS as error:
        raise unreadable(dataset, f"its compressed frames cannot be told apart ({type(error).__name__})") from error
    if len(streams) != form.frames:
        raise unreadable(dataset, f"it holds {len(streams)} compressed frames where {form.frames} are due")
    for one in told:
        if one is not None:
            _check_stream(dataset, one, form)


def _check_stream(dataset: Dataset, found: Codestream, form: _Format) -> None:
    problem = _disagreement(found, form) or _unclear_bits(found, form)
    if problem:
        raise _contradiction(dataset, problem)
    if not found.is_whole:
        raise unreadable(dataset, "its compressed pixels are cut off")


def _disagreement(found: Codestream, form: _Format) -> str:
    """Return how a compressed frame differs from the image it is said to be; "" if it does not."""
    if (found.rows, found.columns) != (form.rows, form.columns):
        return (
            f"its compressed pixels are {found.rows} rows of {found.columns} where the header says "
            f"{form.rows} rows of {form.columns}"
        )
    if found.components != form.samples:
        return f"its compressed pixels have {found.components} components where the header says {form.samples}"
    if found.precision > form.bits_allocated:
        return f"its compressed pixels have {found.precision} bits where {form.bits_allocated} are allocated"
    return ""


def _unclear_bits(found: Codestream, form: _Format) -> str:
    """JPEG knows no sign and no place of a value in its word: both follow from the precision, or from nothing."""
    if form.is_signed and not found.is_signed and found.precision < form.bits_stored:
        return f"its compressed pixels have {found.precision} bits, so the sign of {form.bits_stored} has no place"
    if form.shift and found.precision <= form.high_bit:
        return f"its High Bit {form.high_bit} is beyond the {found.precision} bits that are compressed"
    return ""


# --- decoding --------------------------------------------------------------------------------------------------------


def _decoded(dataset: Dataset, form: _Format, index: int | None) -> Stored:
    try:
        raw, told = decoder(form.syntax).as_array(dataset, index=index, raw=True, validate=False, **_AS_STORED)
    except READ_ERRORS as error:
        raise unreadable(dataset, f"its pixels do not decode ({type(error).__name__})") from error
    values = own_bits(raw, form)
    if form.samples == 3 and str(told["photometric_interpretation"]) in ("YBR_FULL", "YBR_FULL_422"):
        values = convert_color_space(values, "YBR_FULL", "RGB")
    return values


def own_bits(raw: NDArray[Any], form: _Format) -> Stored:
    """Return the values of words: moved down from under High Bit, their sign extended, and nothing else of the word.

    What unused bits hold is nobody's to rely on, such as the overlays of old (PS3.5 8.1.1).
    """
    native: NDArray[Any] = raw.astype(raw.dtype.newbyteorder("="), copy=False)
    width = native.dtype.itemsize * 8
    if native.dtype.kind == "f" or form.bits_allocated == 1 or form.bits_stored == width:
        return native
    above = width - 1 - form.high_bit
    moved = native << above
    shifted: Stored = moved >> (width - form.bits_stored)
    return shifted
