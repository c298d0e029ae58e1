"""A PNG or JPEG becomes a Secondary Capture (PS3.3 A.8.1) that says where it comes from.

Runs in a process with limits, for decoders of pictures have memory faults. Equal pictures with equal words give equal
bytes and therefore the same UIDs, so no clock is asked: there is no Date of Secondary Capture.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_node import MANUFACTURER
from dicom_node.core.errors import RefusedObject, StoreStatus
from dicom_node.core.uids import derived_uid
from dicom_node.ingest.wrapping import PictureRequest
from dicom_node.sr_writer.writing import to_part10

_MEGAPIXEL = 1_000_000
#: Attributes that must be there, if only empty (PS3.3 C.7.1.1, C.7.2.1, C.7.3.1, C.7.6.1).
_EMPTY = (
    "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "PatientName", "PatientID",
    "PatientBirthDate", "PatientSex", "StudyID", "PatientOrientation",
)  # fmt: skip
_NO_UID_YET = "2.25.0"
_Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


def wrap(request: PictureRequest) -> None:
    """Write a picture as a DICOM file. Raises `RefusedObject`."""
    with _opened(request.picture) as image:
        if image.width * image.height > request.max_megapixels * _MEGAPIXEL:
            raise _refused(f"it has more than {request.max_megapixels} megapixels")
        if getattr(image, "is_animated", False):
            raise _refused("it is animated")
        is_jpeg = image.format != "PNG"
        pixels = _pixels(image)
    dataset = _described(request)
    _set_pixels(dataset, pixels)
    if is_jpeg:
        dataset.LossyImageCompression = "01"
        dataset.LossyImageCompressionMethod = "ISO_10918_1"
        dataset.LossyImageCompressionRatio = f"{pixels.nbytes / request.picture.stat().st_size:.4g}"
    dataset.SOPInstanceUID = _NO_UID_YET
    content = hashlib.sha256(to_part10(dataset)).hexdigest()
    dataset.SOPInstanceUID = derived_uid("uploaded-picture", content)
    request.target.write_bytes(to_part10(dataset))


def _opened(path: Path) -> Image.Image:
    Image.MAX_IMAGE_PIXELS = None  # the limit is the request's, and checked before a pixel is decoded
    try:
        return Image.open(path, formats=["PNG", "JPEG"])
    except (OSError, SyntaxError, ValueError) as error:
        raise _refused("it cannot be read as PNG or JPEG") from error


def _pixels(image: Image.Image) -> _Pixels:
    """Return rows x columns, or rows x columns x 3 where it has colours; upright, whatever way the camera was held.

    What is transparent shows black, as around a radiograph.
    """
    try:
        upright = ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise _refused("it is damaged or cut off") from error
    if upright.mode in {"I;16", "I;16B", "I"}:
        return np.asarray(upright).astype(np.uint16)
    if upright.mode in {"1", "L"}:
        return np.asarray(upright.convert("L"))
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layer.size, "black"), layer)
    colours = np.asarray(upright.convert("RGB"))
    is_grey = np.array_equal(colours[..., 0], colours[..., 1]) and np.array_equal(colours[..., 0], colours[..., 2])
    return np.ascontiguousarray(colours[..., 0]) if is_grey else colours


def _described(request: PictureRequest) -> Dataset:
    dataset = Dataset()
    for keyword in _EMPTY:
        setattr(dataset, keyword, "")
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    # Of no other image that anybody knows of; made after the examination.
    dataset.ImageType = ["ORIGINAL", "SECONDARY"]
    dataset.Modality = "OT"
    dataset.ConversionType = "WSD"
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = request.instance_number
    dataset.SecondaryCaptureDeviceManufacturer = MANUFACTURER
    dataset.SecondaryCaptureDeviceManufacturerModelName = "Upload of pictures"
    for keyword, value in request.attributes.items():
        setattr(dataset, keyword, value)
    dataset.StudyInstanceUID = request.study_instance_uid
    series = (request.study_instance_uid, str(dataset.Modality), str(dataset.get("SeriesDescription", "")))
    dataset.SeriesInstanceUID = derived_uid("uploaded-series", *series)
    return dataset


def _set_pixels(dataset: Dataset, pixels: _Pixels) -> None:
    bits = pixels.dtype.itemsize * 8
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = 0
    if pixels.ndim == 3:
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    else:
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    content = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"


def _refused(what: str) -> RefusedObject:
    return RefusedObject(StoreStatus.CANNOT_UNDERSTAND, f"The picture was refused: {what}.")
