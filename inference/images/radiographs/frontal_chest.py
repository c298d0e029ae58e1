"""Whether a picture shows a chest from the front, upright and dark where there is air: a small network's opinion.

It was trained on radiographs of children against the same turned and negated, parts of them, CT from the side, and
drawn limbs and noise (`inference/training/frontal_chest.py`); what it takes and refuses was measured on images of which
it has seen none (docs/explanation/shipped-models.md).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate

WEIGHTS = Path(__file__).with_suffix(".safetensors")
#: Rows and columns of what the network sees.
SIDE_PX = 64
#: A picture that is less like a frontal chest than this is not taken for one.
LEAST_LIKENESS = 0.5


def likeness(values: NDArray[np.float32]) -> float:
    """Return how much a picture (rows, columns), 0..1, bright = dense, looks like a frontal chest, from 0 to 1."""
    with torch.inference_mode():
        image = prepared(torch.from_numpy(np.ascontiguousarray(values))[None, None])
        return float(torch.sigmoid(_loaded()(image))[0])


def prepared(images: Tensor) -> Tensor:
    """Bring images (images, 1, rows, columns) to (images, 1, 64, 64) of mean 0 and deviation 1."""
    small = interpolate(images, size=(SIDE_PX, SIDE_PX), mode="area")
    mean = small.mean(dim=(1, 2, 3), keepdim=True)
    return (small - mean) / small.std(dim=(1, 2, 3), keepdim=True, correction=0).clamp(min=1e-6)


class FrontalChest(nn.Module):
    """Four convolutions and a weighing of the 4 by 4 places that remain; one logit for each image."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_block(1, 16), *_block(16, 24), *_block(24, 32), *_block(32, 32), nn.Flatten(), nn.Dropout(0.2),
            nn.Linear(32 * 16, 1),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (images,) of prepared images."""
        logits: Tensor = self.layers(images)[:, 0]
        return logits


def _block(channels_in: int, channels_out: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(channels_out), nn.ReLU()


@lru_cache(maxsize=1)
def _loaded() -> FrontalChest:
    network = FrontalChest()
    network.load_state_dict(load_file(WEIGHTS))
    return network.eval()
