"""The gate before every volume model: which slices make one coherent volume, and why a series is declined.

Readers such as MONAI's average a gap away without a word; they must never see one. Works on headers alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from pydicom.dataset import Dataset

from dicom_node.core.errors import NotAnalysable
from dicom_node.headers.sound import first_unreadable
from dicom_node.inference.cards.card import Gate
from dicom_node.inference.images.exclusions import (
    NO_POSITION,
    PLACE,
    TOO_LOSSY,
    VALUES,
    Exclusion,
    check_readable,
    is_too_lossy,
    refused,
    volume_exclusion,
)
from dicom_node.inference.images.frames import ENHANCED, frames_of, other_dimensions
from dicom_node.inference.images.geometry import slice_plane
from dicom_node.inference.images.stacks import DUPLICATE_MM, PARTING, Slice, Stack, joined, stacks_of

#: Headers round positions: to 0.1 mm at worst, so neighbours may differ by this much from the common spacing.
_SPACING_TOLERANCE_MM = 0.11
_SPACING_TOLERANCE = 0.02
_GAP = 1.5
#: Slices may lie this far off the line through the first and the last.
_SIDEWAYS_MM = 0.5
_SIDEWAYS = 0.01
#: 4 GiB as float32: more than any model takes and any machine should be asked for.
_MOST_VOXELS = 1 << 30
_TOLD = 6
#: A remnant of the series must not be read in place of the whole.
_STANDS_IN = 0.5


def coherent_stack(headers: Sequence[Dataset], gate: Gate, notes: list[str]) -> Stack:
    """Choose the largest stack that makes a volume; the order of `headers` never matters.

    Where the largest makes none, another one of at least half its slices may stand in. Appends to `notes` what existed,
    what was used and why, and what was left out. Raises `NotAnalysable` with the reason of the largest stack when none
    can be used.
    """
    stacks = stacks_of(_usable(headers, gate, notes))
    whole = joined(stacks)
    if whole is not None and _is_coherent(whole, gate):
        parts = "stacks" if whole.stack_id else "acquisitions"
        notes.append(f"Used: {whole.title}, {len(stacks)} {parts} that together form one regular volume.")
        return whole
    refusals: list[NotAnalysable] = []
    for stack in stacks:
        if len(stack.slices) < _STANDS_IN * len(stacks[0].slices):
            break
        try:
            check_stack(stack, gate)
        except NotAnalysable as refusal:
            refusals.append(refusal)
            if len(refusals) <= _TOLD:
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
    spacing_mm = _check_spacing(stack)
    _check_line(stack)
    if gate.max_slice_spacing_mm is not None and spacing_mm > gate.max_slice_spacing_mm:
        raise NotAnalysable(
            "SLICES_TOO_FAR_APART",
            f"Slices are {spacing_mm:g} mm apart; the model takes at most {gate.max_slice_spacing_mm:g} mm.",
        )
    plane = stack.slices[0].plane
    pixel_mm = max(plane.row_spacing_mm, plane.column_spacing_mm)
    if gate.max_pixel_spacing_mm is not None and pixel_mm > gate.max_pixel_spacing_mm:
        raise NotAnalysable(
            "PIXELS_TOO_LARGE",
            f"Pixels are {pixel_mm:g} mm apart; the model takes at most {gate.max_pixel_spacing_mm:g} mm.",
        )


def _is_coherent(stack: Stack, gate: Gate) -> bool:
    try:
        check_stack(stack, gate)
    except NotAnalysable:
        return False
    return True


# --- which images can take part ----------------------------------------------------------------------------------


def _usable(headers: Sequence[Dataset], gate: Gate, notes: list[str]) -> list[Slice]:
    left_out: list[Exclusion] = []
    usable: list[Slice] = []
    for one in _offered(headers):
        exclusion = volume_exclusion(one[1], gate)
        if exclusion is None:
            check_readable(one[1], (*PLACE, *VALUES))
        plane = slice_plane(one[1]) if exclusion is None else None
        if plane is None:
            left_out.append(exclusion or NO_POSITION)
        else:
            usable.append(Slice(one[0], one[1], plane, one[2]))
    counted = sorted(Counter(left_out).items(), key=lambda item: item[0].words)
    notes.extend(f"Left out: {count} image(s), {one.words}." for one, count in counted)
    if usable:
        _check_parting(usable)
        _check_loss([headers[one.index] for one in usable], gate)
        return usable
    if not headers:
        raise NotAnalysable("NO_IMAGES", "The series holds no image.")
    raise refused(left_out)


def _check_loss(headers: Sequence[Dataset], gate: Gate) -> None:
    """Refuse the series when one image lost more than the card allows: without it there would be a gap."""
    lost = sum(is_too_lossy(header, gate) for header in headers)
    if lost:
        raise NotAnalysable(
            TOO_LOSSY.reason,
            f"{lost} of {len(headers)} images were {TOO_LOSSY.words} ({_lossy_limits(gate)}).",
        )


def _lossy_limits(gate: Gate) -> str:
    limits = [] if gate.max_lossy_ratio is None else [f"{gate.max_lossy_ratio:g}:1 at most"]
    return ", ".join([*limits, *([f"by {' or '.join(gate.lossy_methods)}"] if gate.lossy_methods else [])])


def _check_parting(slices: Sequence[Slice]) -> None:
    """Refuse what parts some images and cannot be read in others, which would be parted from them without a reason."""
    for keyword in PARTING:
        unreadable = [one.header for one in slices if first_unreadable(one.header, (keyword,))]
        if 0 < len(unreadable) < len(slices):
            check_readable(unreadable[0], (keyword,))


def _offered(headers: Sequence[Dataset]) -> Iterator[tuple[int, Dataset, tuple[int, ...]]]:
    """Yield every image and every frame: the place of its object, its header, its dimensions beside place."""
    for index, header in enumerate(headers):
        if header.get("SOPClassUID") in ENHANCED:
            for frame in frames_of(header):
                yield index, frame, other_dimensions(header, frame)
        else:
            yield index, header, ()


# --- what makes a volume -----------------------------------------------------------------------------------------

_ALIKE = (
    ("Rows", "MIXED_SIZES", "sizes"),
    ("Columns", "MIXED_SIZES", "sizes"),
    ("FrameOfReferenceUID", "MIXED_FRAMES_OF_REFERENCE", "frames of reference"),
    ("PhotometricInterpretation", "MIXED_PHOTOMETRIC", "photometric interpretations"),
)
#: What gives CT values another meaning; a slice that does not tell it contradicts nobody.
_ALIKE_IN_CT = (
    ("KVP", "MIXED_KVP", "tube voltages"),
    ("ConvolutionKernel", "MIXED_KERNELS", "convolution kernels"),
)


def _check_equal(stack: Stack) -> None:
    first = stack.slices[0]
    for keyword, reason, what in _ALIKE:
        if any(one.header.get(keyword) != first.header.get(keyword) for one in stack.slices):
            raise NotAnalysable(reason, f"The slices have different {what} ({keyword}).")
    for keyword, reason, what in _ALIKE_IN_CT if first.modality == "CT" else ():
        told = {str(value) for one in stack.slices if (value := one.header.get(keyword)) not in (None, "")}
        if len(told) > 1:
            raise NotAnalysable(reason, f"The slices have different {what} ({keyword} {', '.join(sorted(told)[:4])}).")
    spacings = np.array([(one.plane.row_spacing_mm, one.plane.column_spacing_mm) for one in stack.slices])
    if not np.allclose(spacings, spacings[0], rtol=1e-3):
        raise NotAnalysable("MIXED_PIXEL_SPACING", "The slices have different PixelSpacing.")
    voxels = len(stack.slices) * int(first.header.get("Rows") or 0) * int(first.header.get("Columns") or 0)
    if not 0 < voxels <= _MOST_VOXELS:
        raise NotAnalysable("IMPLAUSIBLE_SIZE", f"The slices hold {voxels} voxels; 1 to {_MOST_VOXELS} can be read.")


def _check_line(stack: Stack) -> None:
    """Refuse stacks whose slices do not lie above each other: sheared by a tilted gantry, or shifted one by one."""
    first = stack.slices[0].plane
    moves_mm = np.array([one.plane.origin_mm - first.origin_mm for one in stack.slices])
    sideways_mm = moves_mm - np.outer(moves_mm @ first.normal, first.normal)
    length_mm = float(np.linalg.norm(moves_mm[-1]))
    tolerated_mm = max(_SIDEWAYS_MM, _SIDEWAYS * length_mm)
    steps = np.linspace(0.0, 1.0, len(moves_mm))[:, None]
    if np.linalg.norm(sideways_mm - steps * sideways_mm[-1], axis=1).max() > tolerated_mm:
        raise NotAnalysable("SHIFTED_SLICES", "Slices are shifted against each other within their plane.")
    shear_mm = float(np.linalg.norm(sideways_mm[-1]))
    if shear_mm > tolerated_mm:
        degrees = np.degrees(np.arcsin(min(1.0, shear_mm / length_mm)))
        raise NotAnalysable("GANTRY_TILT", f"The gantry was tilted: slices are sheared by {degrees:.1f} degrees.")


def _check_spacing(stack: Stack) -> float:
    """Return the common spacing in mm; raises `NotAnalysable` for a shared position, a gap, or uneven steps."""
    positions_mm = np.array(stack.positions_mm)
    steps_mm = np.diff(positions_mm)
    spacing_mm = float(np.median(steps_mm))
    if steps_mm.min() < DUPLICATE_MM:
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
    others = [stack for stack in stacks if stack is not chosen]
    notes.append(f"The images form {len(stacks)} stacks: {_listed([stack.title for stack in stacks])}.")
    notes.append(f"Used: {chosen.title}, the largest that forms one regular volume.")
    for other in others[:_TOLD]:
        shared_mm = _shared_positions_mm(chosen, other)
        if shared_mm:
            told = ", ".join(f"{p:.1f} mm" for p in shared_mm[:3])
            notes.append(f"Left out: {other.title}; {len(shared_mm)} slice(s) share a position with it ({told}).")
        else:
            notes.append(f"Left out: {other.title}.")
    if len(others) > _TOLD:
        notes.append(f"Left out: {len(others) - _TOLD} further stacks.")


def _listed(titles: Sequence[str]) -> str:
    more = f" and {len(titles) - _TOLD} more" if len(titles) > _TOLD else ""
    return ", ".join(titles[:_TOLD]) + more


def _shared_positions_mm(chosen: Stack, other: Stack) -> list[float]:
    if not np.allclose(chosen.slices[0].plane.directions, other.slices[0].plane.directions, atol=1e-3):
        return []
    taken = np.array(chosen.positions_mm)
    return [position for position in other.positions_mm if np.abs(taken - position).min() < _SPACING_TOLERANCE_MM]
