"""What a radiograph may look like elsewhere: random changes of whole batches, quick enough for one CPU core.

Every function takes and gives float32 tensors (images, 1, rows, columns) with values 0..1, and draws from torch's
random numbers: seed those to get the same images again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, interpolate

Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """How far a patient and a cassette may be out of place; shares are of the image's width and height."""

    rotation_degrees: float = 12.0
    shear: float = 0.1
    shift: float = 0.08
    zoom: float = 0.2
    flip: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Framing:
    """How much closer or wider each side may be collimated by itself, in shares of the image's width or height."""

    closer: float = 0.16
    wider: float = 0.10


@dataclass(frozen=True, slots=True, kw_only=True)
class Strength:
    """How often each kind of change happens to an image, 0..1; `motion` happens to all."""

    motion: Motion = Motion()
    framing: Framing = Framing()
    framed: float = 0.0
    tone: float = 0.8
    quality: float = 0.5
    cover: float = 0.3
    border: float = 0.6
    negative: float = 0.08


def varied(images: Tensor, strength: Strength) -> Tensor:
    """Return the batch as other machines, operators and children might have made it."""
    images = sometimes(images, strength.framed, partial(framed, framing=strength.framing))
    images = moved(images, strength.motion)
    images = sometimes(images, strength.tone, toned)
    images = sometimes(images, strength.quality, degraded)
    images = sometimes(images, strength.cover, covered)
    images = sometimes(images, strength.border, bordered)
    return sometimes(images, strength.negative, negative).clamp(0.0, 1.0)


def sometimes(images: Tensor, chance: float, change: Change) -> Tensor:
    """Change the images that a throw of dice picks, and leave the others alone."""
    picked = torch.rand(len(images)) < chance
    if not picked.any():
        return images
    result = images.clone()
    result[picked] = change(images[picked])
    return result


def framed(images: Tensor, framing: Framing) -> Tensor:
    """Collimate each side anew; what comes from outside is black, or half of the time what lies at the side."""
    count = len(images)
    left, right, top, bottom = (torch.empty(count).uniform_(-framing.wider, framing.closer) for _ in range(4))
    nothing = torch.zeros(count)
    across, down = [1 - left - right, nothing, left - right], [nothing, 1 - top - bottom, top - bottom]
    rows = [torch.stack(part, dim=1) for part in (across, down)]
    grid = affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    outside = "border" if float(torch.rand(())) < 0.5 else "zeros"
    return grid_sample(images, grid, mode="bilinear", padding_mode=outside, align_corners=False)


def moved(images: Tensor, motion: Motion) -> Tensor:
    """Turn, shear, shift, zoom (each axis by itself) and mirror; what comes from outside is black."""
    count = len(images)
    angle = _spread(count, math.radians(motion.rotation_degrees))
    zoom_x, zoom_y = torch.exp(_spread(count, motion.zoom)), torch.exp(_spread(count, motion.zoom))
    mirror = torch.where(torch.rand(count) < 0.5 * motion.flip, -1.0, 1.0)
    across = [mirror * zoom_x * angle.cos(), -zoom_x * (angle.sin() + _spread(count, motion.shear))]
    down = [zoom_y * angle.sin(), zoom_y * angle.cos()]
    rows = [torch.stack([*part, 2 * _spread(count, motion.shift)], dim=1) for part in (across, down)]
    grid = affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def toned(images: Tensor) -> Tensor:
    """Lay another vendor's tone curve on each image: a random rising curve, gamma, then contrast and brightness."""
    count = len(images)
    knots = 6
    steps = torch.exp(0.5 * torch.randn(count, knots))
    curve = torch.cat([torch.zeros(count, 1), steps.cumsum(dim=1) / steps.sum(dim=1, keepdim=True)], dim=1)
    place = images.clamp(0.0, 1.0).flatten(1) * knots
    low = place.floor().clamp(max=knots - 1).long()
    bent = torch.lerp(curve.gather(1, low), curve.gather(1, low + 1), place - low).view_as(images)
    gamma = torch.exp(_each(count, -0.5, 0.5))
    return (bent**gamma * _each(count, 0.75, 1.2) + _each(count, -0.12, 0.12)).clamp(0.0, 1.0)


def degraded(images: Tensor) -> Tensor:
    """Take quality away in one of five ways, drawn for the batch: noise, blur, sharpening, low resolution, JPEG."""
    way = int(torch.randint(5, ()))
    count = len(images)
    if way == 0:
        return images + torch.randn_like(images) * _each(count, 0.0, 0.05)
    smooth = avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    if way == 1:
        return torch.lerp(images, smooth, _each(count, 0.3, 1.0))
    if way == 2:
        return images + (images - smooth) * _each(count, 0.5, 3.0)
    if way == 3:
        size = int(images.shape[-1] * float(torch.empty(()).uniform_(0.4, 0.9)))
        small = interpolate(images, size=(size, size), mode="area")
        return interpolate(small, size=images.shape[-2:], mode="bilinear", align_corners=False)
    return jpeg_like(images, float(torch.empty(()).uniform_(0.01, 0.08)))


def jpeg_like(images: Tensor, step: float) -> Tensor:
    """Round the cosine transform of each 8 by 8 block to multiples that grow with frequency, as JPEG does.

    Rows and columns must be multiples of 8; `step` is the rounding of the lowest frequency, in grey values 0..1.
    """
    wave = torch.arange(8.0)
    basis = torch.cos(math.pi / 8 * (wave[None] + 0.5) * wave[:, None]) * 0.5
    basis[0] *= math.sqrt(0.5)
    steps = step * (1.0 + wave[None] + wave[:, None])
    rows, columns = images.shape[-2] // 8, images.shape[-1] // 8
    blocks = images.reshape(-1, rows, 8, columns, 8).transpose(2, 3)
    rounded = (torch.round(basis @ blocks @ basis.T / steps) * steps).to(images.dtype)
    return (basis.T @ rounded @ basis).transpose(2, 3).reshape(images.shape)


def covered(images: Tensor) -> Tensor:
    """Cover up to three rectangles per image with any grey: markers, leads, a hand, a patch without exposure."""
    for _ in range(3):
        height, width = _each(len(images), 0.02, 0.22), _each(len(images), 0.02, 0.22)
        top, left = _each(len(images), -0.1, 1.0), _each(len(images), -0.1, 1.0)
        down, across = _positions(images)
        inside = (down >= top) & (down < top + height) & (across >= left) & (across < left + width)
        images = torch.where(inside, _each(len(images), 0.0, 1.0), images)
    return images


def bordered(images: Tensor) -> Tensor:
    """Cover the sides as collimators and scanners do, half of the time evenly; sometimes the corners too.

    Half of the borders are black, a quarter white, a quarter grey.
    """
    count = len(images)
    even, even_width = _each(count, 0.0, 1.0) < 0.5, _each(count, 0.02, 0.16)
    uneven = [_each(count, 0.0, 0.16) * (_each(count, 0.0, 1.0) < 0.7) for _ in range(4)]
    widths = [torch.where(even, even_width, width) for width in uneven]
    down, across = _positions(images)
    outside = (down < widths[0]) | (down > 1 - widths[1]) | (across < widths[2]) | (across > 1 - widths[3])
    round_cut = _each(count, 0.55, 2.0)
    outside |= ((down - 0.5) ** 2 + (across - 0.5) ** 2).sqrt() > round_cut
    dice = _each(count, 0.0, 1.0)
    grey = torch.where(dice < 0.5, 0.0, torch.where(dice < 0.75, 1.0, _each(count, 0.0, 1.0)))
    return torch.where(outside, grey, images)


def negative(images: Tensor) -> Tensor:
    """Return the images with bright and dark exchanged: what a wrongly declared MONOCHROME1 looks like."""
    return 1.0 - images


def standardised(images: Tensor) -> Tensor:
    """Return each image with mean 0 and deviation 1, as the bundle's preprocessing ends."""
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) / images.std(dim=(1, 2, 3), keepdim=True, correction=0).clamp(min=1e-6)


def _positions(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the places of rows and columns as 0..1, ready to be compared with one number per image."""
    rows, columns = images.shape[-2:]
    down = (torch.arange(rows) + 0.5) / rows
    across = (torch.arange(columns) + 0.5) / columns
    return down.view(1, 1, -1, 1), across.view(1, 1, 1, -1)


def _each(count: int, low: float, high: float) -> Tensor:
    return torch.empty(count, 1, 1, 1).uniform_(low, high)


def _spread(count: int, most: float) -> Tensor:
    return torch.empty(count).uniform_(-most, most)
