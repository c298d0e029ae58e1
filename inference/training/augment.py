"""What a radiograph may look like elsewhere: random transforms for training, fixed ones to measure robustness."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch
from monai.transforms.compose import Compose, OneOf
from monai.transforms.intensity.dictionary import (
    RandAdjustContrastd,
    RandCoarseDropoutd,
    RandGaussianNoised,
    RandGaussianSharpend,
    RandGaussianSmoothd,
    RandHistogramShiftd,
)
from monai.transforms.spatial.dictionary import RandAffined, RandFlipd, RandSimulateLowResolutiond
from monai.transforms.transform import MapTransform, RandomizableTransform
from torch import Tensor
from torch.nn.functional import interpolate

#: Widest simulated collimation border, as a share of rows or columns.
WIDEST_BORDER = 0.12


class RandBorderd(RandomizableTransform, MapTransform):
    """Cover a random share of each side with black or white, as collimators and film scanners do.

    Works on tensors (1, rows, columns) with values 0..1.
    """

    def __init__(self, keys: str, prob: float) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return result
        shares = self.R.uniform(0.0, WIDEST_BORDER, size=4) * (self.R.uniform(size=4) < 0.6)
        value = float(self.R.uniform() < 0.15)
        for key in self.key_iterator(result):
            result[key] = with_border(result[key], shares, value)
        return result


class RandNegatived(RandomizableTransform, MapTransform):
    """Exchange bright and dark now and then; the network then rests on shapes and not on polarity alone."""

    def __init__(self, keys: str, prob: float) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        self.randomize(None)
        if self._do_transform:
            for key in self.key_iterator(result):
                result[key] = negative(result[key])
        return result


def with_border(image: Tensor, shares: Any, value: float) -> Tensor:
    """Return the image with `value` written over a share of its top, bottom, left and right, in this order."""
    rows, columns = image.shape[-2:]
    framed = torch.full_like(image, value)
    top, bottom = round(shares[0] * rows), rows - round(shares[1] * rows)
    left, right = round(shares[2] * columns), columns - round(shares[3] * columns)
    framed[..., top:bottom, left:right] = image[..., top:bottom, left:right]
    return framed


def training_augmentation() -> Compose:
    """Return the random transforms for ``{"image": (1, rows, columns) 0..1}``; lengths are meant for 128 pixels.

    Rotation, aspect and crop; tone curves of other vendors, gamma, a rare negative; borders, markers covered;
    noise, blur and lower resolution.
    """
    return Compose(
        [
            RandFlipd("image", prob=0.5, spatial_axis=1),
            RandAffined(
                "image",
                prob=0.9,
                rotate_range=0.17,
                shear_range=0.08,
                translate_range=(8, 8),
                scale_range=(0.15, 0.15),
                padding_mode="zeros",
            ),
            RandAdjustContrastd("image", prob=0.6, gamma=(0.6, 1.7)),
            RandHistogramShiftd("image", prob=0.2, num_control_points=(10, 20)),
            RandSimulateLowResolutiond("image", prob=0.15, upsample_mode="bicubic", zoom_range=(0.6, 1.0)),
            OneOf(
                [
                    RandGaussianNoised("image", prob=0.4, std=0.03),
                    RandGaussianSmoothd("image", prob=0.4, sigma_x=(0.2, 0.7), sigma_y=(0.2, 0.7)),
                    RandGaussianSharpend("image", prob=0.4, alpha=(0.5, 3.0)),
                ]
            ),
            RandCoarseDropoutd("image", prob=0.3, holes=2, spatial_size=9, max_spatial_size=32, fill_value=(0.0, 1.0)),
            RandBorderd("image", prob=0.35),
            RandNegatived("image", prob=0.08),
        ]
    )


def negative(image: Tensor) -> Tensor:
    """Return the image with bright and dark exchanged: what a wrongly declared MONOCHROME1 looks like."""
    return 1.0 - image


def without_centre(image: Tensor) -> Tensor:
    """Return the image with its inner 70 % by 70 %, where the lungs lie, replaced by the mean value.

    What a classifier still tells from the rest are shortcuts: framing, posture, markers.
    """
    covered = image.clone()
    rows, columns = image.shape[-2:]
    covered[..., round(0.15 * rows) : round(0.85 * rows), round(0.15 * columns) : round(0.85 * columns)] = image.mean()
    return covered


def perturbations() -> dict[str, Callable[[Tensor], Tensor]]:
    """Return named fixed changes of an image (1, rows, columns) 0..1 under which the figures are measured again."""
    return {
        "as published (224 x 224)": lambda image: image,
        "enlarged to 1024 x 1344": lambda image: _resized(image, (1024, 1344)),
        "reduced to 112 x 112": lambda image: _resized(image, (112, 112)),
        "gamma 0.7": lambda image: image**0.7,
        "gamma 1.5": lambda image: image**1.5,
        "quantised to 6 bit": lambda image: torch.round(image * 63) / 63,
        "black border of 8 %": lambda image: with_border(image, (0.08,) * 4, 0.0),
        "white border of 8 %": lambda image: with_border(image, (0.08,) * 4, 1.0),
        "contrast exchanged": negative,
        "lungs covered": without_centre,
    }


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    resized = interpolate(image[None], size=size, mode="bicubic", align_corners=False, antialias=True)
    return resized[0].clamp(0.0, 1.0)
