"""How the axes of a tensor lie on those of its source, and resampling from one to the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Floats = NDArray[np.float32]

#: Edges this close, in pixels, are the same edge.
_EDGE = 1e-6


@dataclass(frozen=True, slots=True)
class Axis:
    """How one axis of the tensor shows one axis of the turned source.

    Tensor edge coordinate = source edge coordinate · `scale` + `offset`; edges run from 0 to the number of pixels.
    """

    source_length: int
    tensor_length: int
    scale: float
    offset: float


def centred_axis(source_length: int, tensor_length: int, scale: float) -> Axis:
    """Lay the middle of the source on the middle of the tensor; what is cut off is whole pixels."""
    shown = tensor_length / scale
    if shown < source_length:
        return Axis(source_length, tensor_length, scale, -scale * (source_length // 2 - round(shown) // 2))
    return Axis(source_length, tensor_length, scale, (tensor_length - source_length * scale) / 2)


def place(channel: Floats, axes: tuple[Axis, ...], border: float = 0.0) -> Floats:
    """Lay one turned channel on the tensor; what it does not cover becomes `border`."""
    if all(axis.source_length == axis.tensor_length and axis.scale == 1.0 for axis in axes):
        return np.ascontiguousarray(channel, dtype=np.float32)
    placed = _resize_image(channel, axes) if channel.ndim == 2 else _resample(channel, axes)
    return _blank(placed, [(axis.offset, axis.offset + axis.source_length * axis.scale) for axis in axes], border)


def _resize_image(channel: Floats, axes: tuple[Axis, ...]) -> Floats:
    """Resize with a triangle as wide as the step, so that shrinking averages instead of skipping pixels."""
    spans = [_source_span(axis) for axis in axes]
    shown, corner = _cut_or_grown(channel, spans)
    (top, bottom), (left, right) = (
        (max(low - start, 0.0), min(high - start, length))
        for (low, high), start, length in zip(spans, corner, shown.shape, strict=True)
    )
    rows, columns = (axis.tensor_length for axis in axes)
    image = Image.fromarray(np.ascontiguousarray(shown, dtype=np.float32))
    resized = image.resize((columns, rows), Image.Resampling.BILINEAR, box=(left, top, right, bottom))
    return np.asarray(resized, dtype=np.float32)


def _source_span(axis: Axis) -> tuple[float, float]:
    """Return the source edges that come to lie on the tensor's edges."""
    return -axis.offset / axis.scale, (axis.tensor_length - axis.offset) / axis.scale


def _cut_or_grown(channel: Floats, spans: list[tuple[float, float]]) -> tuple[Floats, list[int]]:
    """Keep the whole pixels of every span, repeating those at the border; also return where it now begins."""
    lows = [int(np.floor(low + _EDGE)) for low, _ in spans]
    highs = [int(np.ceil(high - _EDGE)) for _, high in spans]
    margins = [
        (max(0, -low), max(0, high - length)) for low, high, length in zip(lows, highs, channel.shape, strict=True)
    ]
    kept = channel[tuple(slice(max(0, low), high) for low, high in zip(lows, highs, strict=True))]
    return np.pad(kept, margins, mode="edge"), lows


def _resample(channel: Floats, axes: tuple[Axis, ...]) -> Floats:
    """Tensor centre i + ½ shows source edge coordinate (i + ½ - offset) / scale."""
    along = [_Samples((0.5 - axis.offset) / axis.scale - 0.5, 1.0 / axis.scale, axis.tensor_length) for axis in axes]
    return _sample(channel, along, nearest=False)


def take_back(channel: Floats, axes: tuple[Axis, ...], *, nearest: bool) -> Floats:
    """Bring one channel of the tensor back on the turned source; what the tensor does not show becomes 0."""
    if all(axis.source_length == axis.tensor_length and axis.scale == 1.0 for axis in axes):
        return channel
    along = [_Samples(0.5 * axis.scale + axis.offset - 0.5, axis.scale, axis.source_length) for axis in axes]
    return _blank(_sample(channel, along, nearest=nearest), [_source_span(axis) for axis in axes], 0.0)


@dataclass(frozen=True, slots=True)
class _Samples:
    """Where along one axis: ``start + step · index`` for `count` indices."""

    start: float
    step: float
    count: int


def _sample(values: Floats, along: list[_Samples], *, nearest: bool) -> Floats:
    """Interpolate linearly, or take the nearest value; beyond the border its value goes on."""
    order: Literal[0, 1] = 0 if nearest else 1
    found = ndimage.affine_transform(
        values,
        np.array([one.step for one in along]),
        np.array([one.start for one in along]),
        output_shape=tuple(one.count for one in along),
        order=order,
        mode="nearest",
    )
    return np.asarray(found, dtype=np.float32)


def _blank(values: Floats, spans: list[tuple[float, float]], fill: float) -> Floats:
    """Fill what lies outside the spans (edge coordinates); a pixel counts as inside when its centre is."""
    for axis, (low, high) in enumerate(spans):
        centres = np.arange(values.shape[axis]) + 0.5
        outside = (centres < low - _EDGE) | (centres > high + _EDGE)
        if outside.any():
            values = values.copy() if not values.flags.writeable else values
            values[(slice(None),) * axis + (outside,)] = fill
    return values
