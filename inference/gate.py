"""The gate before every volume model: which slices make one coherent volume, and why a series is declined.

Readers such as MONAI's average a gap away without a word; they must never see one. Works on headers alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from dicom_node.errors import NotAnalysable
from dicom_node.inference.cards import Gate
from dicom_node.inference.geometry import SlicePlane, slice_plane

#: Headers round positions: to 0.1 mm at worst, so neighbours may differ by this much from the common spacing.
_SPACING_TOLERANCE_MM = 0.11
_SPACING_TOLERANCE = 0.02
_DUPLICATE_MM = 0.01
_GAP = 1.5


@dataclass(frozen=True, slots=True)
class Slice:
    """A slice that may take part in a volume: `index` is its place in the list offered to the gate."""

    index: int
    header: Dataset
    plane: SlicePlane


@dataclass(frozen=True, slots=True)
class Stack:
    """Slices of one series, acquisition and orientation, ordered along the slice normal (then SOP Instance UID)."""

    series_instance_uid: str
    acquisition: str
    slices: tuple[Slice, ...]

    @property
    def positions_mm(self) -> list[float]:
        return [one.plane.along_normal_mm for one in self.slices]

    @property
    def title(self) -> str:
        name = f"acquisition {self.acquisition}" if self.acquisition else "acquisition without number"
        return f"{name} ({len(self.slices)} slices)"


def coherent_stack(headers: Sequence[Dataset], gate: Gate, notes: list[str]) -> Stack:
    """Choose the largest stack that makes a volume; the order of `headers` never matters.

    Appends to `notes` what existed, what was used and why, and what was left out. Raises `NotAnalysable` with the
    reason of the largest stack when none can be used.
    """
    stacks = _stacks(_usable(headers, notes))
    refusals: list[NotAnalysable] = []
    for stack in stacks:
        try:
            check_stack(stack, gate)
        except NotAnalysable as refusal:
            refusals.append(refusal)
            notes.append(f"Not used: {stack.title}. {refusal}")
            continue
        _tell_choice(stack, stacks, notes)
        return stack
    raise refusals[0]


def check_stack(stack: Stack, gate: Gate) -> None:
    """Raise `NotAnalysable` unless the slices form one regular volume that meets the numbers of the card."""
    if len(stack.slices) < max(gate.min_slices, 2):
        raise NotAnalysable(
            "TOO_FEW_SLICES", f"There are {len(stack.slices)} slices; at least {max(gate.min_slices, 2)} are needed."
        )
    _check_equal(stack)
    _check_tilt(stack)
    spacing_mm = _check_spacing(stack)
    if gate.max_slice_spacing_mm is not None and spacing_mm > gate.max_slice_spacing_mm:
        raise NotAnalysable(
            "SLICES_TOO_FAR_APART",
            f"Slices are {spacing_mm:g} mm apart; the model takes at most {gate.max_slice_spacing_mm:g} mm.",
        )


# --- which images can take part ----------------------------------------------------------------------------------


def _usable(headers: Sequence[Dataset], notes: list[str]) -> list[Slice]:
    left_out: dict[str, int] = defaultdict(int)
    usable: list[Slice] = []
    for index, header in enumerate(headers):
        plane = slice_plane(header)
        reason = _left_out_because(header, plane)
        if reason:
            left_out[reason] += 1
        elif plane is not None:
            usable.append(Slice(index, header, plane))
    notes.extend(f"Left out: {count} image(s), {reason}." for reason, count in sorted(left_out.items()))
    if usable:
        return usable
    if not headers:
        raise NotAnalysable("NO_IMAGES", "The series holds no image.")
    if "localizer" in left_out:
        raise NotAnalysable("LOCALIZER_ONLY", "The series holds a localizer and no axial slices.")
    told = "; ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
    raise NotAnalysable("NOT_CT_HU", f"The series holds no original CT slices: {told}.")


def _left_out_because(header: Dataset, plane: SlicePlane | None) -> str:
    image_type = [str(part).upper() for part in header.get("ImageType") or []]
    if "LOCALIZER" in image_type:
        return "localizer"
    if header.get("SOPClassUID") != CTImageStorage:
        return "not a single-frame CT image"
    if image_type[:1] == ["DERIVED"]:
        return "derived from other images"
    if str(header.get("RescaleType") or "HU") not in {"HU", "HU_MOD"}:
        return "not in Hounsfield units"
    return "without a position in the patient" if plane is None else ""


def _stacks(slices: Sequence[Slice]) -> list[Stack]:
    """Group by series, acquisition and orientation; largest first, ties by series and acquisition."""
    groups: dict[tuple[str, str, tuple[float, ...]], list[Slice]] = defaultdict(list)
    for one in slices:
        acquisition = str(one.header.get("AcquisitionNumber") or "")
        groups[str(one.header.get("SeriesInstanceUID")), acquisition, one.plane.orientation_key].append(one)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return [
        Stack(series_uid, acquisition, tuple(sorted(members, key=_place)))
        for (series_uid, acquisition, _), members in ordered
    ]


def _place(one: Slice) -> tuple[float, str]:
    return one.plane.along_normal_mm, str(one.header.get("SOPInstanceUID"))


# --- what makes a volume -----------------------------------------------------------------------------------------


def _check_equal(stack: Stack) -> None:
    first = stack.slices[0]
    for what, keyword in (("sizes", "Rows"), ("sizes", "Columns"), ("frames of reference", "FrameOfReferenceUID")):
        if any(one.header.get(keyword) != first.header.get(keyword) for one in stack.slices):
            raise NotAnalysable("MIXED_GEOMETRY", f"The slices have different {what}.")
    spacings = np.array([(one.plane.row_spacing_mm, one.plane.column_spacing_mm) for one in stack.slices])
    if not np.allclose(spacings, spacings[0], rtol=1e-3):
        raise NotAnalysable("MIXED_GEOMETRY", "The slices have different pixel spacing.")


def _check_tilt(stack: Stack) -> None:
    """Refuse sheared stacks: with a tilted gantry slice origins do not move along the normal."""
    first, last = stack.slices[0].plane, stack.slices[-1].plane
    move_mm = last.origin_mm - first.origin_mm
    length_mm = float(np.linalg.norm(move_mm))
    sideways_mm = float(np.linalg.norm(move_mm - (move_mm @ first.normal) * first.normal))
    if sideways_mm > max(0.5, 0.01 * length_mm):
        degrees = np.degrees(np.arcsin(min(1.0, sideways_mm / length_mm)))
        raise NotAnalysable("GANTRY_TILT", f"The gantry was tilted: slices are sheared by {degrees:.1f} degrees.")


def _check_spacing(stack: Stack) -> float:
    """Return the common spacing in mm; raises `NotAnalysable` for a shared position, a gap, or uneven steps."""
    positions_mm = np.array(stack.positions_mm)
    steps_mm = np.diff(positions_mm)
    spacing_mm = float(np.median(steps_mm))
    if steps_mm.min() < _DUPLICATE_MM:
        at_mm = positions_mm[int(steps_mm.argmin())]
        raise NotAnalysable("DUPLICATE_POSITION", f"Two or more slices share the position {at_mm:.1f} mm.")
    if steps_mm.max() > _GAP * spacing_mm:
        after_mm = positions_mm[int(steps_mm.argmax())]
        raise NotAnalysable(
            "GAP_IN_SERIES",
            f"After position {after_mm:.1f} mm the next slice follows at {steps_mm.max():.1f} mm; "
            f"the others are {spacing_mm:.1f} mm apart. Images are missing.",
        )
    if np.abs(steps_mm - spacing_mm).max() > max(_SPACING_TOLERANCE_MM, _SPACING_TOLERANCE * spacing_mm):
        raise NotAnalysable(
            "UNEVEN_SPACING", f"Slice distances vary from {steps_mm.min():.2f} to {steps_mm.max():.2f} mm."
        )
    return float((positions_mm[-1] - positions_mm[0]) / len(steps_mm))


# --- what is told ------------------------------------------------------------------------------------------------


def _tell_choice(chosen: Stack, stacks: Sequence[Stack], notes: list[str]) -> None:
    if len(stacks) == 1:
        return
    notes.append(f"The images form {len(stacks)} stacks: {', '.join(stack.title for stack in stacks)}.")
    notes.append(f"Used: {chosen.title}, the largest that forms one regular volume.")
    for other in stacks:
        shared_mm = _shared_positions_mm(chosen, other)
        if other is not chosen and shared_mm:
            told = ", ".join(f"{p:.1f} mm" for p in shared_mm[:3])
            notes.append(f"Left out: {other.title}; {len(shared_mm)} slice(s) share a position with it ({told}).")
        elif other is not chosen:
            notes.append(f"Left out: {other.title}.")


def _shared_positions_mm(chosen: Stack, other: Stack) -> list[float]:
    if chosen.slices[0].plane.orientation_key != other.slices[0].plane.orientation_key:
        return []
    taken = np.array(chosen.positions_mm)
    return [position for position in other.positions_mm if np.abs(taken - position).min() < _SPACING_TOLERANCE_MM]
