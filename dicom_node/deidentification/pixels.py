"""Where pixels may tell who it is: objects that may show the patient, and text inside and behind the coded data."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
    UncompressedTransferSyntaxes,
)

from dicom_node.core.errors import CannotClean
from dicom_node.core.identifying import ProfileOption
from dicom_node.deidentification import jpeg, jpeg_2000, rle
from dicom_node.deidentification.encapsulation import frames_of, put_together, without_offset_tables
from dicom_node.deidentification.profile import DeidentificationProfile

#: SOP classes, with those below them, whose pixels commonly show names, or the patient: secondary capture, ultrasound,
#: and visible light.
_MAY_SHOW = tuple(f"1.2.840.10008.5.1.4.1.1.{one}" for one in ("7", "6", "3", "77.1"))
_ENCAPSULATED = "1.2.840.10008.5.1.4.1.1.104."
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_OVERLAYS = range(0x6000, 0x6020, 2)


def why_not_exported(dataset: Dataset, profile: DeidentificationProfile) -> str:
    """Return why an object cannot leave under this profile; "" where it can. No reason repeats a value."""
    sop_class = str(dataset.get("SOPClassUID", ""))
    if sop_class.startswith(_ENCAPSULATED) or "EncapsulatedDocument" in dataset:
        return "a document within the object, which no profile cleans"
    if "ContentSequence" in dataset and ProfileOption.CLEAN_STRUCTURED_CONTENT not in profile.options:
        return (
            "a structured report, of which the basic profile leaves nothing; option clean_structured_content keeps it"
        )
    return "" if profile.keep_burned_in else _what_pixels_may_show(dataset, sop_class)


def _what_pixels_may_show(dataset: Dataset, sop_class: str) -> str:
    if "YES" in (dataset.get("BurnedInAnnotation"), dataset.get("RecognizableVisualFeatures")):
        return "it says itself that its pixels show who it is"
    if any(sop_class == one or sop_class.startswith(f"{one}.") for one in _MAY_SHOW):
        return "a kind of image whose pixels commonly show names (ultrasound, secondary capture, photograph)"
    if "ConversionType" in dataset:
        return "a digitised or captured picture, which may show names"
    return ""


def clean_pixel_data(dataset: Dataset) -> None:
    """Leave nothing but the picture in the pixel data: no comment of a codec, nothing before, between or behind frames,
    no overlay in unused bits. Raises `CannotClean` where picture and other bytes cannot be told apart."""
    syntax, present = _syntax_of(dataset), [one for one in _PIXELS if one in dataset and dataset[one].value]
    if present and syntax not in CLEANERS:
        raise CannotClean(f"pixels in {syntax.name}, in which nothing here can tell text from picture")
    if syntax.is_encapsulated and present and present != ["PixelData"]:
        raise CannotClean("its pixels are floating point numbers, which have no compressed form")
    if not present or not syntax.is_encapsulated:
        without_offset_tables(dataset)
    for keyword in present:
        CLEANERS[syntax](dataset, keyword)


def _syntax_of(dataset: Dataset) -> UID:
    return UID(dataset.file_meta.TransferSyntaxUID)


# --- not compressed -------------------------------------------------------------------------------------------------


def _clean_native(dataset: Dataset, keyword: str) -> None:
    """Leave pixels of the length that their attributes give, without overlays in unused bits (PS3.5 8.1.2)."""
    bits, samples = int(dataset.BitsAllocated), _frames(dataset) * _pixels(dataset) * int(dataset.SamplesPerPixel)
    if str(dataset.get("PhotometricInterpretation")) == "YBR_FULL_422":
        samples = samples * 2 // 3
    kept = bytes(dataset[keyword].value[: (samples * bits + 7) // 8])
    if bits == 16 and any((group, 0x0102) in dataset and dataset[group, 0x0102].value for group in _OVERLAYS):
        kept = _without_unused_bits(kept, dataset)
    dataset[keyword].value = kept + b"\0" * (len(kept) % 2)


def _without_unused_bits(stored: bytes, dataset: Dataset) -> bytes:
    bits, high = int(dataset.BitsStored), int(dataset.HighBit)
    words = np.frombuffer(stored, ">u2" if _syntax_of(dataset) == ExplicitVRBigEndian else "<u2", len(stored) // 2)
    own = np.uint16(((1 << bits) - 1) << (high - bits + 1))
    return bytes((words & own).astype(words.dtype).tobytes())


def _frames(dataset: Dataset) -> int:
    return int(dataset.get("NumberOfFrames") or 1)


def _pixels(dataset: Dataset) -> int:
    return int(dataset.Rows) * int(dataset.Columns)


# --- compressed -----------------------------------------------------------------------------------------------------


def _clean_jpeg(dataset: Dataset, keyword: str) -> None:
    streams = frames_of(dataset[keyword].value, _frames(dataset), jpeg.begins)
    put_together(dataset, [jpeg.cleaned(one) for one in streams])


def _clean_jpeg_2000(dataset: Dataset, keyword: str) -> None:
    streams = frames_of(dataset[keyword].value, _frames(dataset), jpeg_2000.begins)
    put_together(dataset, [jpeg_2000.cleaned(one) for one in streams])


def _clean_rle(dataset: Dataset, keyword: str) -> None:
    """A frame of RLE is one fragment (PS3.5 A.4.2), and has a segment for each byte of its samples."""
    planes = int(dataset.SamplesPerPixel) * int(dataset.BitsAllocated) // 8
    streams = frames_of(dataset[keyword].value, _frames(dataset), lambda _: True)
    put_together(dataset, [rle.cleaned(one, planes, _pixels(dataset)) for one in streams])


#: How pixel data is cleaned in each transfer syntax that can leave: all that the node takes, and deflated files.
#: A film (MPEG, HEVC), JPEG XL or a stream that lies elsewhere (JPIP) is in none of them.
CLEANERS: Mapping[UID, Callable[[Dataset, str], None]] = {
    **dict.fromkeys(UncompressedTransferSyntaxes, _clean_native),
    **dict.fromkeys((*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes), _clean_jpeg),
    **dict.fromkeys(JPEG2000TransferSyntaxes, _clean_jpeg_2000),
    RLELossless: _clean_rle,
}
