"""Frames decoded and drawn. Runs in a process with limits: codecs meet the bytes of strangers here."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.core.errors import UnreadableObject
from dicom_node.decoding.stored import pixel_aspect, stored_frames, stored_values
from dicom_node.sr_writer.pictures.display import display_rgb
from dicom_node.viewing.described import EncodedFrames, StoredFrame, View

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
#: Largest side of a picture, in pixels.
MAX_SIDE_PX = 8192
_OCTETS = "application/octet-stream"
_ENCAPSULATED_DOCUMENT = 0x00420011
#: Enclosed documents come as what they say they are only where no browser runs what is in them.
_PASSIVE = frozenset({"application/pdf", "model/stl", "model/obj", "model/mtl"})
#: Attributes of single frames (PS3.3 C.7.6.16.2) that decide how a frame looks.
_OF_FRAMES = {
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
}
_FUNCTIONS = {"": "LINEAR", "linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}


def decoded(frame: StoredFrame) -> EncodedFrames:
    """Return the stored values of a frame as in Explicit VR Little Endian; colours of YBR_FULL become RGB.

    Raises `NotAnalysable` and `UnreadableObject`.
    """
    dataset = _with_frame(frame)
    return EncodedFrames(_OCTETS, _native_bytes(dataset, _stored(dataset, frame)))


def drawn(frame: StoredFrame, view: View) -> EncodedFrames:
    """Return a picture of a frame. Raises `NotAnalysable`, and `UnreadableObject` for what is no image."""
    dataset = _single(_with_frame(frame), frame)
    rgb = display_rgb(dataset, _window(dataset, view))
    picture = _fitted(_region(Image.fromarray(rgb), view), view, pixel_aspect(dataset))
    if (rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 1] == rgb[..., 2]).all():
        picture = picture.convert("L")
    into = io.BytesIO()
    if view.media_type == "image/png":
        picture.save(into, "PNG", compress_level=3)
    else:
        picture.save(into, "JPEG", quality=view.quality)
    return EncodedFrames(view.media_type, into.getvalue())


def _window(dataset: Dataset, view: View) -> tuple[float, float] | None:
    """Return the window that is asked for, if it is linear; one of another function is put into the header."""
    if view.window is None:
        return None
    center, width, function = view.window
    if _FUNCTIONS[function] == "LINEAR":
        return center, width
    dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = center, width, _FUNCTIONS[function]
    if "VOILUTSequence" in dataset:
        del dataset.VOILUTSequence
    return None


def explicit(path: Path, out: Path) -> None:
    """Write an object as Explicit VR Little Endian to `out`, its pixels decoded. Raises `NotAnalysable`."""
    dataset = dcmread(path)
    syntax = dataset.file_meta.TransferSyntaxUID
    if "PixelData" in dataset and (syntax.is_encapsulated or not syntax.is_little_endian):
        content = _native_bytes(dataset, stored_values(dataset))
        if int(dataset.SamplesPerPixel) > 1:
            dataset.PlanarConfiguration = 0
            if str(dataset.PhotometricInterpretation).startswith("YBR"):
                dataset.PhotometricInterpretation = "RGB"
        dataset["PixelData"].is_undefined_length = False
        dataset["PixelData"].VR = "OW" if int(dataset.BitsAllocated) > 8 else "OB"
        dataset.PixelData = content + b"\0" * (len(content) % 2)
        for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
            if keyword in dataset:
                del dataset[keyword]
    if not syntax.is_little_endian:
        _turn_round(dataset)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(out, implicit_vr=False, little_endian=True, enforce_file_format=True)


def _turn_round(dataset: Dataset) -> None:
    """Make little endian of what was read as big endian; pydicom does so with everything but words in bytes."""
    for element in dataset.iterall():
        if element.VR == "OW" and element.tag != 0x7FE00010 and isinstance(element.value, bytes):
            element.value = np.frombuffer(element.value, ">u2").astype("<u2").tobytes()
    dataset.set_original_encoding(is_implicit_vr=False, is_little_endian=True)


def value_at(path: Path, place: str) -> EncodedFrames:
    """Return the bytes of a value, or of an enclosed document. Raises `UnreadableObject` where there is none."""
    dataset = dcmread(path)
    *sequences, last = place.split("/")
    try:
        for tag, number in zip(sequences[::2], sequences[1::2], strict=True):
            dataset = dataset[int(tag, 16)].value[int(number)]
        value = dataset[int(last, 16)].value
    except (LookupError, ValueError, TypeError) as error:
        raise UnreadableObject("There is no such value in the object.") from error
    if not isinstance(value, bytes):
        raise UnreadableObject("The value is no bulk data: the metadata hold it.")
    if int(last, 16) != _ENCAPSULATED_DOCUMENT:
        return EncodedFrames(_OCTETS, value)
    length = dataset.get("EncapsulatedDocumentLength")  # without the byte that makes the value even
    said = str(dataset.get("MIMETypeOfEncapsulatedDocument") or "").strip().lower()
    return EncodedFrames(said if said in _PASSIVE else _OCTETS, value[: int(length)] if length else value)


# --- one frame alone -------------------------------------------------------------------------------------------------


def _with_frame(frame: StoredFrame) -> Dataset:
    """Return the object with the pixels of one frame, or with all where nobody knows where that one lies."""
    if not frame.pieces:
        dataset = dcmread(frame.path)
    else:
        with frame.path.open("rb") as file:
            dataset = dcmread(file, stop_before_pixels=True)
            content = b"".join(_read(file, offset, length) for offset, length in frame.pieces)
        if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            content = encapsulate([content])
        bits = int(dataset.BitsAllocated) if "FloatPixelData" not in dataset else 32
        setattr(dataset, _pixel_keyword(dataset, bits), content)
        dataset.NumberOfFrames = 1
    if not any(one in dataset for one in _PIXELS) or "Rows" not in dataset:
        raise UnreadableObject("The object is no image.")
    return dataset


def _pixel_keyword(dataset: Dataset, bits: int) -> str:
    """Floating point has neither Bits Stored nor a sign (PS3.3 C.7.6.24)."""
    if "BitsStored" in dataset:
        return "PixelData"
    return "FloatPixelData" if bits == 32 else "DoubleFloatPixelData"


def _read(file: io.BufferedReader, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)


def _stored(dataset: Dataset, frame: StoredFrame) -> NDArray[Any]:
    number = 1 if frame.pieces else frame.number
    return next(iter(stored_frames(dataset, [number])))


def _single(dataset: Dataset, frame: StoredFrame) -> Dataset:
    """Return the object as one of this frame alone, with what its functional groups say of the frame."""
    if not frame.pieces:
        dataset.PixelData = _native_bytes(dataset, _stored(dataset, frame))
        dataset.NumberOfFrames = 1
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        if str(dataset.get("PhotometricInterpretation")).startswith("YBR"):
            dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
    for groups in _groups(dataset, frame.number):
        for sequence, keywords in _OF_FRAMES.items():
            item = next(iter(groups.get(sequence) or ()), None)
            for keyword in keywords:
                if item is not None and keyword in item and keyword not in dataset:
                    dataset[keyword] = item[keyword]
    return dataset


def _groups(dataset: Dataset, number: int) -> list[Dataset]:
    of_frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
    return [*of_frames[number - 1 : number], *(dataset.get("SharedFunctionalGroupsSequence") or [])[:1]]


def _native_bytes(dataset: Dataset, stored: NDArray[Any]) -> bytes:
    """Return stored values as the words that Bits Allocated asks for, back under their High Bit."""
    if stored.dtype.kind == "f":
        return stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    bits, stored_bits = int(dataset.BitsAllocated), int(dataset.BitsStored)
    if bits == 1:
        return np.packbits(stored.astype(bool).ravel(), bitorder="little").tobytes()
    shift = int(dataset.get("HighBit", stored_bits - 1)) + 1 - stored_bits
    sign = "i" if dataset.PixelRepresentation else "u"
    words = stored.astype(np.dtype(f"<{sign}{max(8, bits) // 8}"))
    return (words << shift if shift else words).tobytes()


# --- pictures --------------------------------------------------------------------------------------------------------


def _region(picture: Image.Image, view: View) -> Image.Image:
    """Cut out what is asked for; beyond the image is black."""
    if view.region is None:
        return picture
    left, top, width, height = view.region
    box = (round(left), round(top), round(left + abs(width)), round(top + abs(height)))
    if box[0] >= picture.width or box[1] >= picture.height or box[2] <= box[0] or box[3] <= box[1]:
        raise UnreadableObject("The region lies outside of the image.")
    picture = picture.crop((box[0], box[1], min(box[2], picture.width), min(box[3], picture.height)))
    if width < 0:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if height < 0 else picture


def _fitted(picture: Image.Image, view: View, aspect: float) -> Image.Image:
    """Return it with square pixels, as large as the viewport allows (PS3.18 8.3.5.1.3)."""
    width, height = picture.width, picture.height * (aspect if 0.05 < aspect < 20 else 1.0)
    most = view.viewport or (width, height)
    scale = min(most[0] / width, most[1] / height, MAX_SIDE_PX / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return picture if size == picture.size else picture.resize(size, Image.Resampling.BILINEAR)
