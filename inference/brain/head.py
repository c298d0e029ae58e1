"""A head as MeshNet was trained on it: where it is in the volume, and how bright it is."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms.croppad.dictionary import CropForegroundd
from monai.transforms.transform import MapTransform
from numpy.typing import NDArray
from scipy import ndimage

_BINS = 256
#: Brighter than this share are spikes; they must not stretch the histogram.
_SPIKES_PERCENT = 99.9
_BRIGHT_PERCENT = 90
_BRIGHT_VALUE = 0.5
#: A piece of the head is looked for on every second voxel: neck coils and noise are smaller.
_STEP = 2


def otsu_threshold(values: NDArray[np.float32]) -> float:
    """Return the value that best parts dark from bright (Otsu 1979); the lowest where all are equal.

    >>> otsu_threshold(np.array([0, 0, 0, 1, 9, 10, 10], np.float32)) > 1
    True
    """
    low, high = float(values.min()), float(np.percentile(values, _SPIKES_PERCENT))
    if high <= low:
        return low
    counts, edges = np.histogram(np.clip(values, low, high), bins=_BINS, range=(low, high))
    middles = (edges[:-1] + edges[1:]) / 2
    dark = np.cumsum(counts)
    bright = dark[-1] - dark
    sums = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = dark * bright * (sums / dark - (sums[-1] - sums) / bright) ** 2
    return float(edges[1 + int(np.nanargmax(apart[:-1]))])


def head_mask(image: torch.Tensor) -> torch.Tensor:
    """Return where the head is in (1, x, y, z): the largest piece that is bright; all of an image without contrast."""
    values = np.asarray(image, np.float32)[0]
    coarse = values[::_STEP, ::_STEP, ::_STEP]
    pieces, count = ndimage.label(coarse > otsu_threshold(values))
    if not count:
        return torch.ones_like(torch.as_tensor(image), dtype=torch.bool)
    largest = pieces == 1 + int(np.bincount(pieces.ravel())[1:].argmax())
    fine = largest.repeat(_STEP, 0).repeat(_STEP, 1).repeat(_STEP, 2)
    x, y, z = values.shape
    return torch.from_numpy(np.ascontiguousarray(fine[None, :x, :y, :z]))


class HeadBrightnessd(MapTransform):
    """Scale an image so that the head has the brightness the network knows: the 90th percentile of what is above Otsu's
    threshold becomes 0.5. Spikes and an empty background do not count."""

    def __init__(self, keys: str) -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the images scaled."""
        done = dict(data)
        for key in self.key_iterator(done):
            image = done[key]
            values = np.asarray(image, np.float32)
            above = values[values > otsu_threshold(values)]
            bright = float(np.percentile(above, _BRIGHT_PERCENT)) if above.size else 0.0
            done[key] = image * (_BRIGHT_VALUE / bright) if bright > 0 else image
        return done


class CropToHeadd(CropForegroundd):
    """Crop to the head: what is around it holds nothing and takes most of the time."""

    def __init__(self, keys: str, margin: int) -> None:
        super().__init__(keys, source_key=keys, select_fn=head_mask, margin=margin, allow_smaller=True)
