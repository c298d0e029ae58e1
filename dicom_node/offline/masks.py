"""Segments of a finished SEG as NIfTI-1 files on the grid of the images they were drawn on.

DICOM's patient axes point to the left, back and head (LPS, PS3.3 C.7.6.2.1.1), NIfTI's to the right, front and head
(RAS+, nifti1.h): x and y change their sign.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.core.errors import NotAnalysable
from dicom_node.inference.images.frames import ENHANCED, frames_of
from dicom_node.inference.images.geometry import SlicePlane, affine_lps_mm, slice_plane
from dicom_node.inference.model_run import read_dataset
from dicom_node.offline.results import MaskFile

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SCANNER = 1  # NIFTI_XFORM_SCANNER_ANAT
#: So far may a frame lie from the slice that it was drawn on.
_SAME_PLACE_MM = 0.01
#: How far slices may be from where one step between them puts them, in parts of that step.
_UNEVEN = 0.02


class NoGrid(Exception):
    """The images lie on no even grid in the patient, so that no NIfTI file can say where the mask is."""


def write_masks(segmentation: Path, images: Sequence[Path], folder: Path) -> list[MaskFile]:
    """Write one file for each segment; `images` are those the model was given, classic or enhanced.

    Raises `NoGrid`.
    """
    seg = dcmread(segmentation)
    planes = _planes(images, seg)
    affine = _LPS_TO_RAS @ _affine_lps_mm(planes, seg)
    return [
        _write(item, mask_zyx, affine, folder)
        for item, mask_zyx in zip(seg.SegmentSequence, _masks(seg, planes), strict=True)
    ]


def _write(item: Dataset, mask_zyx: NDArray[np.uint8], affine_ras_mm: NDArray[np.float64], folder: Path) -> MaskFile:
    number = int(item.SegmentNumber)
    mask_xyz = np.ascontiguousarray(mask_zyx.transpose(2, 1, 0))
    image = Nifti1Image(mask_xyz, affine_ras_mm)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    image.set_sform(affine_ras_mm, _SCANNER)  # type: ignore[no-untyped-call]
    image.set_qform(affine_ras_mm, _SCANNER)  # type: ignore[no-untyped-call]
    name = f"mask-{number}.nii.gz"
    image.to_filename(folder / name)
    x, y, z = image.shape
    return MaskFile(
        name=name, segment_number=number, label=str(item.SegmentLabel), voxels=int(mask_zyx.sum()), shape_xyz=(x, y, z)
    )


def _affine_lps_mm(planes: Sequence[SlicePlane], seg: Dataset) -> NDArray[np.float64]:
    """Return the matrix that takes (column, row, slice, 1) to LPS mm; a single slice is as thick as the SEG says."""
    affine = affine_lps_mm(planes[0], planes[-1], len(planes))
    if len(planes) == 1:
        measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        affine[:3, 2] = planes[0].normal * float(measures.get("SliceThickness") or 1.0)
    return affine


def _planes(images: Sequence[Path], seg: Dataset) -> list[SlicePlane]:
    """Return the planes of the grid, along their normal: those of the images that lie as the mask does."""
    headers = [frame for path in images for frame in _frames(path)]
    try:
        found = [plane for header in headers if (plane := slice_plane(header)) is not None]
    except NotAnalysable as error:
        raise NoGrid(str(error)) from error
    if not found or "FrameOfReferenceUID" not in seg:
        raise NoGrid("The images have no place in the patient.")
    alike = [one for one in found if abs(float(one.normal @ found[0].normal)) > 1 - 1e-4]
    places = {round(one.along_normal_mm, 3): one for one in alike}
    planes = [places[key] for key in sorted(places)]
    if len(alike) != len(found) or len(planes) != len(found):
        raise NoGrid("The images are more than one stack of slices.")
    _require_even(planes)
    return planes


def _frames(path: Path) -> Iterator[Dataset]:
    header = read_dataset(path, pixels=False)
    if header.SOPClassUID in ENHANCED:
        yield from frames_of(header)
    else:
        yield header


def _require_even(planes: Sequence[SlicePlane]) -> None:
    """Raise `NoGrid` where one step does not lead from each slice to the next."""
    at_mm = np.array([one.origin_mm for one in planes])
    expected = np.linspace(at_mm[0], at_mm[-1], len(planes))
    step_mm = float(np.linalg.norm(at_mm[-1] - at_mm[0])) / max(len(planes) - 1, 1)
    if len(planes) > 1 and float(np.abs(at_mm - expected).max()) > max(_UNEVEN * step_mm, _SAME_PLACE_MM):
        raise NoGrid("The slices are not evenly spaced.")


def _masks(seg: Dataset, planes: Sequence[SlicePlane]) -> list[NDArray[np.uint8]]:
    """Return (slices, rows, columns) of each segment, in their order; frames that a SEG leaves out are empty."""
    pixels = seg.pixel_array.reshape(-1, int(seg.Rows), int(seg.Columns))
    numbers = [int(item.SegmentNumber) for item in seg.SegmentSequence]
    masks = np.zeros((len(numbers), len(planes), int(seg.Rows), int(seg.Columns)), np.uint8)
    for frame, groups in zip(pixels, seg.PerFrameFunctionalGroupsSequence, strict=True):
        place = _slice_at(groups.PlanePositionSequence[0].ImagePositionPatient, planes)
        if seg.SegmentationType == "LABELMAP":
            for row, number in enumerate(numbers):
                masks[row, place] |= frame == number
        else:
            number = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
            half = int(seg.get("MaximumFractionalValue", 1)) / 2
            masks[numbers.index(number), place] = frame >= half
    return list(masks)


def _slice_at(position_mm: Sequence[float], planes: Sequence[SlicePlane]) -> int:
    distances = [float(np.linalg.norm(one.origin_mm - np.array(position_mm, float))) for one in planes]
    nearest = int(np.argmin(distances))
    if distances[nearest] > _SAME_PLACE_MM:
        raise NoGrid("The mask lies on other slices than the images.")
    return nearest
