"""Fixed changes of a radiograph under which the figures of a classifier are measured again."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate


def perturbations() -> dict[str, Callable[[Tensor], Tensor]]:
    """Return named changes of an image (1, rows, columns) 0..1; the first is none at all."""
    return {
        "as published (224 x 224)": lambda image: image,
        "enlarged to 1024 x 1344": lambda image: _resized(image, (1024, 1344)),
        "reduced to 112 x 112": lambda image: _resized(image, (112, 112)),
        "gamma 0.7": lambda image: image**0.7,
        "gamma 1.5": lambda image: image**1.5,
        "quantised to 6 bit": lambda image: torch.round(image * 63) / 63,
        "JPEG of quality 30": lambda image: _jpeg(image, 30),
        "black border of 8 %": lambda image: with_border(image, (0.08,) * 4, 0.0),
        "white border of 8 %": lambda image: with_border(image, (0.08,) * 4, 1.0),
        "outer 6 % cut off": without_rim,
        "contrast exchanged": lambda image: 1.0 - image,
        "lungs covered": without_centre,
    }


def with_border(image: Tensor, shares: Any, value: float) -> Tensor:
    """Return the image with `value` written over a share of its top, bottom, left and right, in this order."""
    rows, columns = image.shape[-2:]
    framed = torch.full_like(image, value)
    top, bottom = round(shares[0] * rows), rows - round(shares[1] * rows)
    left, right = round(shares[2] * columns), columns - round(shares[3] * columns)
    framed[..., top:bottom, left:right] = image[..., top:bottom, left:right]
    return framed


def without_rim(image: Tensor) -> Tensor:
    """Return the inner 88 % by 88 % of the image: closer collimation."""
    rows, columns = (round(0.06 * length) for length in image.shape[-2:])
    return image[..., rows:-rows, columns:-columns]


def without_centre(image: Tensor) -> Tensor:
    """Return the image with its inner 70 % by 70 %, where the lungs lie, replaced by the mean value.

    What a classifier still tells from the rest are shortcuts: framing, posture, markers.
    """
    covered = image.clone()
    rows, columns = image.shape[-2:]
    covered[..., round(0.15 * rows) : round(0.85 * rows), round(0.15 * columns) : round(0.85 * columns)] = image.mean()
    return covered


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    resized = interpolate(image[None], size=size, mode="bicubic", align_corners=False, antialias=True)
    return resized[0].clamp(0.0, 1.0)


def _jpeg(image: Tensor, quality: int) -> Tensor:
    stored = io.BytesIO()
    Image.fromarray((image[0] * 255).round().byte().numpy()).save(stored, "JPEG", quality=quality)
    return torch.from_numpy(np.asarray(Image.open(stored), dtype=np.float32) / 255.0)[None]
