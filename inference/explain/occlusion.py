"""Which parts an answer rests on, found by covering them. It needs no gradients: also for scripts, ONNX and remotes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from dicom_node.inference.explain.maps import FloatMap, on_source, unit_range

#: Scores of a batch: (images, channels, …) float32 in, (images, outputs) out.
Score = Callable[[NDArray[np.float32]], NDArray[np.floating]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover:
    """How an image is covered: `cells` places along each axis, each `overlap` times as wide as the distance to the
    next, filled with the image's own mean per channel; `batch_size` images are scored in one call."""

    cells: int = 12
    overlap: float = 2.0
    batch_size: int = 16


def occlusion(
    score: Score, image: NDArray[np.float32], *, output_index: int = 0, cover: Cover | None = None
) -> FloatMap:
    """Return how much one output falls when a place is covered (Zeiler and Fergus, ECCV 2014), 0..1.

    `image` is (channels, rows, columns) or (channels, slices, rows, columns) as `score` takes it; the map has its
    spatial shape and is scaled by its maximum. All 0 when covering nothing lowers the output.
    """
    cover = cover or Cover()
    shape = image.shape[1:]
    windows = list(_windows(shape, cover))
    plain = float(np.asarray(score(image[None]))[0, output_index])
    drops = [plain - value for value in _covered_scores(score, image, windows, cover, output_index)]
    cells = tuple(min(cover.cells, length) for length in shape)
    return unit_range(on_source(np.array(drops, dtype=np.float32).reshape(cells), shape))


def _covered_scores(
    score: Score, image: NDArray[np.float32], windows: list[tuple[slice, ...]], cover: Cover, output_index: int
) -> Iterator[float]:
    means = image.mean(axis=tuple(range(1, image.ndim)), keepdims=True)
    for first in range(0, len(windows), cover.batch_size):
        part = windows[first : first + cover.batch_size]
        batch = np.repeat(image[None], len(part), axis=0)
        for covered, window in zip(batch, part, strict=True):
            covered[(slice(None), *window)] = means
        yield from (float(value) for value in np.asarray(score(batch))[:, output_index])


def _windows(shape: tuple[int, ...], cover: Cover) -> Iterator[tuple[slice, ...]]:
    """Yield the covered windows in row-major order of the cells of the map."""
    yield from product(*(list(_spans(length, cover)) for length in shape))


def _spans(length: int, cover: Cover) -> Iterator[slice]:
    cells = min(cover.cells, length)
    half = max(length / cells * cover.overlap / 2, 0.5)
    for cell in range(cells):
        centre = (cell + 0.5) * length / cells
        yield slice(max(0, round(centre - half)), min(length, max(round(centre + half), round(centre - half) + 1)))
