"""From a received image or volume to the tensor a network takes, by the card's `[preprocessing]`, and back again.

NumPy, SciPy and Pillow only, so that adapters which need no torch need none here. Every step is separable along the
axes: turn, flip, scale and place; so the way back is exact but for interpolation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_node.core.errors import NotAnalysable
from dicom_node.inference.cards.tensors import Preprocessing
from dicom_node.inference.prediction import ModelInput
from dicom_node.inference.runtimes.axes import Axis, Floats, centred_axis, place, take_back

#: Patient direction each letter grows to, in LPS.
_DIRECTIONS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}


@dataclass(frozen=True, slots=True)
class Placement:
    """How a tensor came from its source: source axis of every tensor axis, which were flipped, and the axes."""

    order: tuple[int, ...]
    flipped: tuple[bool, ...]
    axes: tuple[Axis, ...]


@dataclass(frozen=True, slots=True)
class Prepared:
    """`tensor` is float32 (channels, *size)."""

    tensor: Floats
    placement: Placement


def prepare(one: ModelInput, spec: Preprocessing) -> Prepared:
    """Make the tensor of one input. Raises `NotAnalysable` when the input is not of the kind the card says."""
    if one.values.ndim != spec.dimensions + 1:
        raise NotAnalysable(
            "WRONG_DIMENSIONS", f"The model takes {spec.dimensions}-D input; the images are {one.values.ndim - 1}-D."
        )
    placement = _placement(one, spec)
    scaled, lowest = _to_unit_range(one.values, spec)
    placed = np.stack([place(channel, placement.axes, lowest) for channel in _turn(scaled, placement)])
    return Prepared(_normalise(_to_channels(placed, spec.channels), spec), placement)


def bring_back(values: Floats, placement: Placement, *, nearest: bool = False) -> Floats:
    """Bring (classes, *any size) of the tensor's field of view to the source: (classes, *source size).

    Linear interpolation, or the nearest value for class numbers; source pixels the network never saw become 0.
    """
    axes = tuple(
        Axis(
            axis.source_length,
            length,
            axis.scale * length / axis.tensor_length,
            axis.offset * length / axis.tensor_length,
        )
        for axis, length in zip(placement.axes, values.shape[1:], strict=True)
    )
    back = np.stack([take_back(channel, axes, nearest=nearest) for channel in values])
    unturned = _flip(back, placement).transpose(0, *(1 + np.argsort(placement.order)))
    return np.ascontiguousarray(unturned, dtype=np.float32)


# --- values ------------------------------------------------------------------------------------------------------


def _to_unit_range(values: Floats, spec: Preprocessing) -> tuple[Floats, float]:
    """Bring values to 0..1 by window or percentiles where the card names one; also return what padding holds."""
    limits = spec.window
    if spec.percentiles is not None:
        low, high = np.percentile(values, spec.percentiles)
        if not high > low:
            raise NotAnalysable("NO_CONTRAST", "Nearly all pixels have one value; nothing can be told from them.")
        limits = (float(low), float(high))
    if limits is None:
        return values, float(values.min())
    scaled = (values - np.float32(limits[0])) / np.float32(limits[1] - limits[0])
    return np.clip(scaled, 0.0, 1.0, out=scaled), 0.0


def _to_channels(values: Floats, channels: int) -> Floats:
    if values.shape[0] == channels:
        return values
    if values.shape[0] != 1:
        raise NotAnalysable(
            "WRONG_CHANNELS", f"The model takes {channels} channel(s); the images have {values.shape[0]}."
        )
    return np.repeat(values, channels, axis=0)


def _normalise(tensor: Floats, spec: Preprocessing) -> Floats:
    if spec.range is not None:
        tensor = tensor * np.float32(spec.range[1] - spec.range[0]) + np.float32(spec.range[0])
    if spec.mean or spec.std:
        shape = (-1, *(1 for _ in range(tensor.ndim - 1)))
        mean = np.asarray(spec.mean or (0.0,), np.float32).reshape(shape)
        std = np.asarray(spec.std or (1.0,), np.float32).reshape(shape)
        tensor = (tensor - mean) / std
    return np.ascontiguousarray(tensor, dtype=np.float32)


# --- where things come to lie ------------------------------------------------------------------------------------


def _placement(one: ModelInput, spec: Preprocessing) -> Placement:
    shape = one.values.shape[1:]
    order, flipped = tuple(range(len(shape))), (False,) * len(shape)
    spacing_mm: tuple[float, ...] | None = None
    if spec.orientation or spec.spacing_mm:
        affine = _affine(one)
        if spec.orientation:
            order, flipped = _turns(affine, spec.orientation)
        # Columns of the affine are (column, row, slice); axes of the array are the other way round.
        lengths_mm = np.linalg.norm(affine[:3, :3], axis=0)[::-1][-len(shape) :]
        spacing_mm = tuple(float(lengths_mm[axis]) for axis in order)
    turned = tuple(shape[axis] for axis in order)
    return Placement(order, flipped, _axes(turned, spacing_mm, spec))


def _affine(one: ModelInput) -> NDArray[np.float64]:
    if one.affine_lps_mm is None:
        raise NotAnalysable(
            "NO_POSITION", "The model needs spacing and orientation, and the images state no position in the patient."
        )
    return one.affine_lps_mm


def _turns(affine: NDArray[np.float64], orientation: str) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Say which source axis serves each letter, and whether it must be flipped; oblique axes go to the nearest."""
    # Rows of `cosines`: patient x, y, z; columns: array axes slice, row, column.
    cosines = (affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))[:, ::-1]
    free, served = np.abs(cosines), dict[int, int]()
    for _ in range(3):
        patient, axis = (int(x) for x in np.unravel_index(int(free.argmax()), free.shape))
        served[patient] = axis
        free[patient, :], free[:, axis] = -1.0, -1.0
    wanted = [_DIRECTIONS[letter] for letter in orientation]
    order = tuple(served[patient] for patient, _ in wanted)
    return order, tuple(bool(cosines[patient, served[patient]] * sign < 0) for patient, sign in wanted)


def _axes(shape: tuple[int, ...], spacing_mm: tuple[float, ...] | None, spec: Preprocessing) -> tuple[Axis, ...]:
    """Lay every axis: respaced first, then stretched to the size, or centred in it."""
    scales = [1.0] * len(shape)
    if spacing_mm is not None and spec.spacing_mm:
        scales = [have / want for have, want in zip(spacing_mm, spec.spacing_mm, strict=True)]
    if not spec.size:
        lengths = [max(1, round(length * scale)) for length, scale in zip(shape, scales, strict=True)]
        return tuple(Axis(n, length, length / n, 0.0) for n, length in zip(shape, lengths, strict=True))
    size = tuple(int(length) for length in spec.size)
    if spec.fit == "stretch":
        return tuple(Axis(n, length, length / n, 0.0) for n, length in zip(shape, size, strict=True))
    if not spec.spacing_mm:
        ratios = [length / n for length, n in zip(size, shape, strict=True)]
        scales = [min(ratios) if spec.fit == "pad" else max(ratios)] * len(shape)
    elif spec.fit == "pad":
        _check_fits(shape, scales, size)
    return tuple(centred_axis(n, length, scale) for n, length, scale in zip(shape, size, scales, strict=True))


def _check_fits(shape: tuple[int, ...], scales: list[float], size: tuple[int, ...]) -> None:
    needed = tuple(round(n * scale) for n, scale in zip(shape, scales, strict=True))
    if any(need > length for need, length in zip(needed, size, strict=True)):
        raise NotAnalysable(
            "VOLUME_TOO_LARGE",
            f"At the model's spacing the volume is {' x '.join(map(str, needed))}; it takes at most "
            f"{' x '.join(map(str, size))}.",
        )


def _turn(values: Floats, placement: Placement) -> Floats:
    return _flip(values.transpose(0, *(axis + 1 for axis in placement.order)), placement)


def _flip(values: Floats, placement: Placement) -> Floats:
    return values[(slice(None), *(slice(None, None, -1 if flipped else 1) for flipped in placement.flipped))]
