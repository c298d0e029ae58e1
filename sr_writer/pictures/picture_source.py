"""What every picture drawn from a source image needs to know about it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.sr_writer.pictures.pen import RgbUint8, resized_rgb


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSource:
    """One source image ready to draw on.

    `pixels` are uint8 as a viewer would show them, (rows, columns) or (rows, columns, 3) of the source; `place` says
    where among the images it lies (``slice 24 of 47, position -97.3 mm``), `shown_with` its window.
    """

    dataset: Dataset
    pixels: NDArray[np.uint8]
    model_text: str
    marking: str
    place: str = ""
    shown_with: str = ""
    _scaled: dict[tuple[int, int], RgbUint8] = field(default_factory=dict, repr=False)

    def scaled(self, width_px: int, height_px: int) -> RgbUint8:
        """Return the image as RGB of this size; many pictures of one image need it in the same size."""
        size = (width_px, height_px)
        if size not in self._scaled:
            self._scaled[size] = resized_rgb(self.pixels, width_px, height_px)
        return self._scaled[size]
