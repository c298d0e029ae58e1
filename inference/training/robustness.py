"""Radiographs changed in fixed ways: to measure a classifier again, and to show a detector what is not normal."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from dicom_node.inference.training.augment import Motion, moved


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


# --- normal radiographs made to look ill -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Corrupted:
    """Changed images 0..1 and how strongly each pixel was changed, 0..1."""

    images: Tensor
    amount: Tensor


def lung_prior(normals: Tensor) -> Tensor:
    """Return where lungs usually lie, 0..1, (1, 1, rows, columns): darker than its surroundings in the mean image."""
    mean = normals.mean(dim=0, keepdim=True)
    mean = (mean + mean.flip(-1)) / 2
    darker = _blurred(mean, 2) - mean
    rows, columns = mean.shape[-2:]
    darker[..., : rows // 8, :] = darker[..., -rows // 8 :, :] = 0.0
    darker[..., : columns // 7] = darker[..., -columns // 7 :] = 0.0
    return (darker / darker.max()).clamp(0.0, 1.0)


def corrupted(images: Tensor, prior: Tensor) -> Corrupted:
    """Change every image in one of five ways, shared out over the batch at random."""
    changed, amount = images.clone(), torch.zeros_like(images)
    order = torch.randperm(len(images))
    for way, picked in zip(_WAYS, order.tensor_split(len(_WAYS)), strict=True):
        if len(picked):
            changed[picked], amount[picked] = way(images[picked], _lungs(images[picked], prior))
    return Corrupted(changed.clamp(0.0, 1.0), amount.clamp(0.0, 1.0))


def _haze(images: Tensor, lungs: Tensor) -> tuple[Tensor, Tensor]:
    """Whole lungs less dark, a little unevenly."""
    amount = lungs * (_each(images, 0.5, 1.0) + 0.3 * _clouds(images, 3)).clamp(0.0, 1.0)
    return _filled(images, amount * _each(images, 0.25, 0.8), _each(images, 0.0, 0.15)), amount


def _opacities(images: Tensor, lungs: Tensor) -> tuple[Tensor, Tensor]:
    """Soft dense clouds of any size."""
    clouds = _clouds(images, 5) + 0.5 * _clouds(images, 11) + 0.25 * _clouds(images, 23)
    amount = lungs * torch.sigmoid((clouds - _each(images, 0.0, 1.2)) * _each(images, 2.0, 6.0))
    return _filled(images, amount * _each(images, 0.35, 0.95), _each(images, 0.05, 0.25)), amount


def _effusion(images: Tensor, lungs: Tensor) -> tuple[Tensor, Tensor]:
    """The lower part of one lung dense up to an uneven line."""
    rows, columns = images.shape[-2:]
    down = torch.linspace(-1.0, 1.0, rows).view(1, 1, -1, 1)
    across = torch.linspace(-1.0, 1.0, columns).view(1, 1, 1, -1) * torch.sign(_each(images, -1.0, 1.0))
    below = torch.sigmoid((down - _each(images, 0.0, 0.5) - 0.15 * _clouds(images, 3)) * 12)
    amount = lungs * below * torch.sigmoid(across * 12 + _each(images, -2.0, 2.0))
    return _filled(images, amount * _each(images, 0.4, 0.95), _each(images, 0.05, 0.25)), amount


def _lines(images: Tensor, lungs: Tensor) -> tuple[Tensor, Tensor]:
    """Coarse markings over a part of the lungs."""
    amount = lungs * torch.sigmoid((_clouds(images, 4) + _each(images, -0.5, 1.0)) * 3)
    texture = (_clouds(images, 24) + _clouds(images, 40)).clamp(min=0.0)
    return images + amount * texture * _each(images, 0.04, 0.14), amount


def _pieces(images: Tensor, lungs: Tensor) -> tuple[Tensor, Tensor]:
    """Soft-edged pieces of another image, turned and shifted."""
    other = moved(images[torch.randperm(len(images))], Motion(rotation_degrees=20.0, shift=0.15, zoom=0.25))
    amount = lungs * torch.sigmoid((_clouds(images, 6) - _each(images, 0.4, 1.0)) * 6) * _each(images, 0.4, 1.0)
    return torch.lerp(images, other, amount), amount


_Way = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
#: Haze and opacities twice, because they are what most diseases of the lung look like.
_WAYS: tuple[_Way, ...] = (_haze, _haze, _opacities, _opacities, _effusion, _lines, _pieces)


def _filled(images: Tensor, share: Tensor, brighter: Tensor) -> Tensor:
    """Move pixels towards the grey of their wide surroundings and a little `brighter`, and never darker."""
    return images + share * (_blurred(images, 2) + brighter - images).clamp(min=0.0)


def _lungs(images: Tensor, prior: Tensor) -> Tensor:
    """Return where each image shows lung, 0..1 with soft edges: in the usual place and darker than around it."""
    fine = avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    dark = torch.sigmoid((_blurred(images, 3) - fine + 0.03) * 25.0)
    return avg_pool2d(dark * (prior > 0.05), 3, stride=1, padding=1, count_include_pad=False)


def _clouds(images: Tensor, cells: int) -> Tensor:
    """Return smooth noise with that many cells along each side, one picture per image."""
    noise = torch.randn(len(images), 1, cells, cells)
    return interpolate(noise, size=images.shape[-2:], mode="bicubic", align_corners=False)


def _blurred(images: Tensor, cells: int) -> Tensor:
    coarse = interpolate(images, size=(2 * cells, 2 * cells), mode="area")
    smooth = avg_pool2d(coarse, 3, stride=1, padding=1, count_include_pad=False)
    return interpolate(smooth, size=images.shape[-2:], mode="bilinear", align_corners=False)


def _each(images: Tensor, low: float, high: float) -> Tensor:
    return torch.empty(len(images), 1, 1, 1).uniform_(low, high)
