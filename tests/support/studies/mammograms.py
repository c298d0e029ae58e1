"""Mammograms of a phantom, as digital units write them: a breast at one edge of the detector, denser inside."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, generate_uid

from dicom_node.demo.phantoms import chest_radiograph_phantom

CC, MLO = codes.cid4014.CranioCaudal, codes.cid4014.MedioLateralObliqueProjection
_ROWS, _COLUMNS = 256, 192


def coded(code: Any) -> Dataset:
    """Return a code item."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def mammogram(side: str = "L", view: Any = CC, *, number: int = 1, **changes: Any) -> Dataset:
    """Return a mammogram FOR PRESENTATION (PS3.3 A.26) of 256 x 192 pixels; `changes` are set on it last.

    Images of equal `side` and `view` differ in nothing but their SOP instance UID.
    """
    image = chest_radiograph_phantom("mammogram", rows=32, age="054Y")
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    image.Modality, image.PresentationIntentType, image.PresentationLUTShape = "MG", "FOR PRESENTATION", "IDENTITY"
    image.StudyDescription, image.SeriesDescription = "Mammography", "Screening"
    image.BodyPartExamined, image.ImageLaterality, image.OrganExposed = "BREAST", side, "BREAST"
    image.ViewPosition = "CC" if view == CC else "MLO" if view == MLO else ""
    item = coded(view)
    item.ViewModifierCodeSequence = []
    image.ViewCodeSequence = [item]
    image.PartialView, image.BreastImplantPresent, image.InstanceNumber = "NO", "NO", number
    image.PatientOrientation = ["A", "R"] if side == "L" else ["P", "L"]
    del image.PlateType, image.PlateID
    _draw(image, is_left=side == "L")
    for keyword, value in changes.items():
        setattr(image, keyword, value)
    return image


def _draw(image: Dataset, *, is_left: bool) -> None:
    down, across = np.mgrid[:_ROWS, :_COLUMNS].astype(np.float64)
    height, depth = (down - _ROWS / 2) / (0.45 * _ROWS), across / (0.8 * _COLUMNS)
    distance = np.hypot(height, depth)
    dense = np.exp(-(((height / 0.5) ** 2) + ((depth - 0.45) / 0.3) ** 2))
    noise = np.random.default_rng(7).normal(0, 20, distance.shape)
    values = np.where(distance < 1, 1400 + 1600 * dense, 40) + noise
    pixels = np.clip(values if is_left else values[:, ::-1], 0, 4095).astype(np.uint16)
    image.Rows, image.Columns = pixels.shape
    image.ImagerPixelSpacing = [0.7, 0.7]
    image.PixelData = pixels.tobytes()
