"""A volume as a series of MR images, made in code: for phantoms, and for volumes that come in other files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage

from dicom_node.core.uids import derived_uid
from dicom_node.demo.phantoms import base_image, set_pixels

_WHITE = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class MrScan:
    """What the headers say; `times_ms` are those of repetition, echo and inversion, 0 for none."""

    seed: str = "1"
    age: str = "040Y"
    description: str = "PHANTOM t1_mprage"
    times_ms: tuple[float, float, float] = (2300.0, 2.9, 900.0)


_SCAN = MrScan()


def mr_series(
    values_zyx: NDArray[np.floating[Any]], affine_lps_mm: NDArray[np.float64], scan: MrScan = _SCAN
) -> list[Dataset]:
    """Make one image of each slice of (slices, rows, columns); `affine_lps_mm` takes (column, row, slice, 1) to the
    patient. The highest value becomes 4000."""
    scale = _WHITE / max(float(values_zyx.max()), 1e-6)
    stored = np.clip(np.rint(values_zyx * scale), 0, _WHITE).astype(np.uint16)
    steps_mm = np.linalg.norm(affine_lps_mm[:3, :3], axis=0)
    images = []
    for index, plane in enumerate(stored):
        image = _slice(scan.seed, index)
        image.PatientAge, image.SeriesDescription = scan.age, scan.description
        image.ImagePositionPatient = [round(float(one), 4) for one in affine_lps_mm[:3] @ [0, 0, index, 1]]
        directions = (affine_lps_mm[:3, :2] / steps_mm[:2]).T.ravel()
        image.ImageOrientationPatient = [round(float(one), 6) for one in directions]
        image.PixelSpacing = [float(steps_mm[1]), float(steps_mm[0])]
        image.SliceThickness = float(steps_mm[2])
        image.RepetitionTime, image.EchoTime = scan.times_ms[:2]
        if scan.times_ms[2]:
            image.InversionTime = scan.times_ms[2]
        image.WindowCenter, image.WindowWidth = _WHITE / 4, _WHITE / 2
        set_pixels(image, plane, bits_stored=12)
        images.append(image)
    return images


def _slice(seed: str, index: int) -> Dataset:
    image = base_image(str(MRImageStorage), seed, "MR", index)
    image.PatientName, image.PatientID = "PHANTOM^HEAD MR", f"PHANTOM-MR-{seed}"
    image.StudyDescription, image.BodyPartExamined = "PHANTOM head MR", "HEAD"
    image.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "NORM"]
    image.FrameOfReferenceUID = derived_uid("phantom-frame-of-reference", "MR", seed)
    image.PositionReferenceIndicator, image.PatientPosition = "", "HFS"
    image.ScanningSequence, image.SequenceVariant, image.ScanOptions = ["GR", "IR"], ["SP", "MP"], ""
    image.MRAcquisitionType, image.EchoTrainLength, image.FlipAngle = "3D", 1, 9
    image.MagneticFieldStrength = 3
    image.AcquisitionNumber = 1
    return image
