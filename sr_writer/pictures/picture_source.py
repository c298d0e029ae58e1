"""What every picture drawn from a source image needs to know about it."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_node.sr_writer.pictures.pen import RgbUint8


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSource:
    """One source image ready to draw on: `rgb` (rows, columns, 3) is windowed and has the source's rows and columns."""

    dataset: Dataset
    rgb: RgbUint8
    model_text: str
    marking: str
