"""A coherent stack of CT or MR slices, classic or enhanced, as one array with its geometry, seen from any side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import SourceFrame
from dicom_node.core.errors import NotAnalysable
from dicom_node.decoding.stored import stored_frames
from dicom_node.inference.cards.card import Gate
from dicom_node.inference.images.frames import with_pixels
from dicom_node.inference.images.gate import coherent_stack
from dicom_node.inference.images.geometry import affine_lps_mm
from dicom_node.inference.images.pixels import hounsfield_units, rescaled_values
from dicom_node.inference.images.remarks import component_remarks, lossy_remarks, shuttered_remarks, spectral_remarks
from dicom_node.inference.images.stacks import Stack
from dicom_node.inference.model_run import SourceImage

#: Hounsfield units, or a mask of them.
Voxel = TypeVar("Voxel", np.int16, np.bool_)


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """Values in source geometry. Arrays are (slices, rows, columns); slices stand along the slice normal.

    `values_zyx` are Hounsfield units (int16) where `modality` is CT, rescaled values (float32) otherwise.
    `affine_lps_mm` takes (column, row, slice, 1) to patient coordinates (PS3.3 C.7.6.2.1.1), `sources` are the
    datasets in slice order, `SourceFrame`s for frames of an enhanced object.
    """

    modality: str
    values_zyx: NDArray[np.int16] | NDArray[np.float32]
    spacing_zyx_mm: tuple[float, float, float]
    affine_lps_mm: NDArray[np.float64]
    sources: tuple[Dataset, ...]

    @property
    def hu_zyx(self) -> NDArray[np.int16]:
        """The values, where they are Hounsfield units. Raises `NotAnalysable` (NOT_CT_HU) where they are not."""
        if self.modality != "CT":
            raise NotAnalysable("NOT_CT_HU", f"The images are {self.modality}, so their values are not Hounsfield.")
        return self.values_zyx.astype(np.int16, copy=False)

    @property
    def voxel_ml(self) -> float:
        return float(np.prod(self.spacing_zyx_mm)) / 1000.0


def read_volume(images: Sequence[SourceImage], gate: Gate, notes: list[str]) -> Volume:
    """Gate the headers, then read only the chosen slices. Raises `NotAnalysable`; tells its choice in `notes`."""
    stack = coherent_stack([image.header for image in images], gate, notes)
    notes.extend(lossy_remarks([images[index].header for index in sorted({one.index for one in stack.slices})]))
    headers = [one.header for one in stack.slices]
    notes.extend(spectral_remarks(headers) if stack.slices[0].modality == "CT" else component_remarks(headers))
    notes.extend(shuttered_remarks(headers))
    first, last = stack.slices[0], stack.slices[-1]
    sources = _read(images, stack)
    affine = affine_lps_mm(first.plane, last.plane, len(sources))
    return Volume(
        modality=first.modality,
        values_zyx=_values(sources, hounsfield_units if first.modality == "CT" else rescaled_values),
        spacing_zyx_mm=(
            float(np.linalg.norm(affine[:3, 2])),
            first.plane.row_spacing_mm,
            first.plane.column_spacing_mm,
        ),
        affine_lps_mm=affine,
        sources=sources,
    )


def _read(images: Sequence[SourceImage], stack: Stack) -> tuple[Dataset, ...]:
    """Read the chosen slices, each object once, of an enhanced one the chosen frames."""
    places: dict[int, list[int]] = defaultdict(list)
    for place, one in enumerate(stack.slices):
        places[one.index].append(place)
    sources: dict[int, Dataset] = {}
    for index, mine in places.items():
        whole = images[index].read()
        frames = [stack.slices[place].header for place in mine]
        if isinstance(frames[0], SourceFrame):
            chosen = [frame for frame in frames if isinstance(frame, SourceFrame)]
            planes = stored_frames(whole, [frame.frame_number for frame in chosen])
            pairs = zip(mine, chosen, planes, strict=True)
            sources.update({place: with_pixels(frame, plane) for place, frame, plane in pairs})
        else:
            sources[mine[0]] = whole
    return tuple(sources[place] for place in range(len(stack.slices)))


def _values(sources: Sequence[Dataset], convert: Callable[[Dataset], NDArray[Any]]) -> NDArray[Any]:
    lowest = convert(sources[0])
    values: NDArray[Any] = np.empty((len(sources), *lowest.shape), lowest.dtype)
    for index, dataset in enumerate(sources):
        plane = lowest if index == 0 else convert(dataset)
        if plane.shape != lowest.shape:
            raise NotAnalysable("MIXED_SIZES", "The decoded slices have different sizes.")
        values[index] = plane
    return values


# --- the same volume, whatever way it was scanned --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PatientAxes:
    """How array axes map to the patient: `order` are the array axes that run most along z, y, x; `flips` tells which
    of them (in that order) run against +z (head), +y (back), +x (left)."""

    order: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @property
    def _flipped(self) -> tuple[int, ...]:
        return tuple(axis for axis, flip in enumerate(self.flips) if flip)

    def view(self, array: NDArray[Voxel]) -> NDArray[Voxel]:
        """Return (slices, rows, columns) of the source as (feet to head, front to back, right to left); no copy."""
        turned = np.transpose(array, self.order)
        return np.flip(turned, self._flipped)

    def restore(self, array: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Undo `view`."""
        turned = np.flip(array, self._flipped)
        return np.ascontiguousarray(np.transpose(turned, np.argsort(self.order)))

    def spacing_mm(self, spacing_zyx_mm: tuple[float, float, float]) -> tuple[float, float, float]:
        """Return the spacing of the turned array."""
        z, y, x = (spacing_zyx_mm[axis] for axis in self.order)
        return (z, y, x)


def patient_axes(volume: Volume) -> PatientAxes:
    """Find for each patient axis the array axis nearest to it; correct for any scan within 45 degrees of a plane."""
    # Columns of the affine are (column, row, slice); array axes count the other way round.
    directions = volume.affine_lps_mm[:3, 2::-1] / np.linalg.norm(volume.affine_lps_mm[:3, 2::-1], axis=0)
    remaining, order, flips = [0, 1, 2], [], []
    for patient_axis in (2, 1, 0):
        along = np.abs(directions[patient_axis])
        best = max(remaining, key=along.__getitem__)
        remaining.remove(best)
        order.append(best)
        flips.append(bool(directions[patient_axis, best] < 0))
    return PatientAxes((order[0], order[1], order[2]), (flips[0], flips[1], flips[2]))
