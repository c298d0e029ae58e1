"""The three stages of training the anomaly detector, one after the other, each on normal images alone."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate, mse_loss
from torch.optim.lr_scheduler import OneCycleLR

from dicom_node.inference.anomaly.detector import GRID, INPUT_PX, Detector
from dicom_node.inference.training.augment import Motion, moved, standardised, toned
from dicom_node.inference.training.robustness import corrupted, lung_prior

log = logging.getLogger(__name__)

_MOTION = Motion(rotation_degrees=8.0, shear=0.05, shift=0.05, zoom=0.12)
_HIDDEN_SHARE = 0.35


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalyRecipe:
    """Everything that decides how the detector is trained; written into the metrics file."""

    encoder: str = "small"
    latent: int = 32
    encoder_epochs: int = 20
    vae_epochs: int = 30
    scorer_epochs: int = 25
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    #: Weight of the divergence beside the summed squared residual of a 64th of the maps.
    divergence_weight: float = 0.3
    #: Weight of invariance between two views beside the reconstruction of hidden squares.
    invariance_weight: float = 0.3
    seed: int = 20240611


def train_encoder(detector: Detector, normals: Tensor, recipe: AnomalyRecipe) -> None:
    """Teach the encoder what normal images look like, without labels, then standardise its maps.

    Hidden squares are to be filled in from the rest (He et al., CVPR 2022, in small), and two views of an image are
    to agree without collapse (VICReg: Bardes et al., ICLR 2022). `normals` is (images, 1, 64, 64), 0..1.
    """
    channels = detector.feature_mean.shape[1]
    fill_in = _decoder(channels)
    project = nn.Sequential(nn.Linear(channels, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 256))

    def loss(batch: Tensor) -> Tensor:
        placed = moved(batch, _MOTION)
        whole, other = standardised(toned(placed)), standardised(toned(moved(batch, _MOTION)))
        maps, other_maps = (detector.encoder(x.expand(-1, detector.colours, -1, -1)) for x in (hidden(whole), other))
        views = [project(one.mean(dim=(2, 3))) for one in (maps, other_maps)]
        return mse_loss(fill_in(maps), whole) + recipe.invariance_weight * disagreement(views[0], views[1])

    parameters = [*detector.encoder.parameters(), *fill_in.parameters(), *project.parameters()]
    _fit(normals, loss, parameters, recipe, recipe.encoder_epochs)


def standardise_maps(detector: Detector, normals: Tensor) -> None:
    """Store mean and deviation of each channel of the encoder's maps over normal images; freezes the encoder."""
    detector.encoder.eval().requires_grad_(False)
    with torch.no_grad():
        maps = detector.maps(standardised(normals))
        detector.feature_mean.copy_(maps.mean(dim=(0, 2, 3), keepdim=True))
        detector.feature_deviation.copy_(maps.std(dim=(0, 2, 3), keepdim=True).clamp(min=1e-6))


def train_vae(detector: Detector, normals: Tensor, recipe: AnomalyRecipe) -> None:
    """Teach the VAE to say feature maps again from few numbers; freezes it."""

    def loss(batch: Tensor) -> Tensor:
        maps = detector.maps(standardised(toned(moved(batch, _MOTION))))
        again = detector.vae(maps)
        squares = GRID * GRID * ((maps - again.maps) ** 2).mean()
        total: Tensor = squares + recipe.divergence_weight * again.divergence().mean()
        return total

    detector.vae.train()
    _fit(normals, loss, detector.vae.parameters(), recipe, recipe.vae_epochs)
    detector.vae.eval().requires_grad_(False)


def train_scorer(detector: Detector, normals: Tensor, recipe: AnomalyRecipe) -> None:
    """Teach the transformer to tell normal images from the same ones with drawn-in shadows, and to say where."""
    prior = lung_prior(normals)

    def loss(batch: Tensor) -> Tensor:
        placed = moved(batch, _MOTION)
        changed = corrupted(placed, prior)
        with torch.no_grad():
            images = standardised(toned(torch.cat([placed, changed.images])))
            seen = detector.scorer_input(detector.maps(images))
        of_image, of_place = detector.scorer(seen)
        where = interpolate(changed.amount, size=(GRID, GRID), mode="area").flatten(1)
        is_changed = torch.cat([torch.zeros(len(batch)), torch.ones(len(batch))])
        by_image = binary_cross_entropy_with_logits(of_image, is_changed)
        return by_image + binary_cross_entropy_with_logits(of_place, torch.cat([torch.zeros_like(where), where]))

    detector.scorer.train()
    _fit(normals, loss, detector.scorer.parameters(), recipe, recipe.scorer_epochs)
    detector.scorer.eval().requires_grad_(False)


@torch.no_grad()
def fit_scale(detector: Detector, normals: Tensor, held_out: Tensor) -> None:
    """Store how residuals, latent means and terms vary over the normal training images, then the scores of normal
    images held out. Both are prepared images (images, 1, 64, 64)."""
    detector.eval()
    maps = torch.cat([detector.maps(batch) for batch in torch.split(normals, 256)])
    again = detector.vae(maps)
    _store_spread(maps - again.maps, detector.residual_mean, detector.residual_deviation)
    detector.latent_mean.copy_(again.mean.mean(dim=0))
    detector.latent_precision.copy_(torch.linalg.pinv(torch.cov(again.mean.T).double(), hermitian=True))
    _store_spread(detector.terms(normals), detector.term_mean, detector.term_deviation)
    detector.normal_scores.copy_(torch.sort(detector(held_out)).values)


def _store_spread(values: Tensor, mean: Tensor, deviation: Tensor) -> None:
    mean.copy_(values.mean(dim=0, keepdim=mean.ndim == values.ndim))
    deviation.copy_(values.std(dim=0, keepdim=mean.ndim == values.ndim).clamp(min=1e-6))


def hidden(images: Tensor) -> Tensor:
    """Return the images with about a third of their 8 by 8 squares painted over in one grey per image."""
    cells = (torch.rand(len(images), 1, GRID, GRID) < _HIDDEN_SHARE).float()
    cover = interpolate(cells, size=images.shape[-2:], mode="nearest")
    return torch.lerp(images, 0.5 * torch.randn(len(images), 1, 1, 1).expand_as(images), cover)


def disagreement(first: Tensor, second: Tensor) -> Tensor:
    """VICReg's loss: two views differ, a number hardly varies over the batch, or two numbers say the same."""
    spread = [torch.relu(1.0 - (one.var(dim=0) + 1e-4).sqrt()).mean() for one in (first, second)]
    return mse_loss(first, second) + sum(spread, first.new_zeros(())) / 2 + (_redundancy(first) + _redundancy(second))


def _redundancy(views: Tensor) -> Tensor:
    centred = views - views.mean(dim=0)
    covariance = centred.T @ centred / (len(views) - 1)
    return 0.02 * (covariance.square().sum() - covariance.diagonal().square().sum()) / views.shape[1]


def _decoder(channels: int) -> nn.Sequential:
    """Return maps to images, without skips: what the maps do not hold cannot be filled in."""
    pixels = (INPUT_PX // GRID) ** 2
    return nn.Sequential(
        nn.Conv2d(channels, 128, 3, padding=1), nn.GELU(), nn.Conv2d(128, pixels, 1), nn.PixelShuffle(INPUT_PX // GRID)
    )


def _fit(
    normals: Tensor,
    loss_of: Callable[[Tensor], Tensor],
    parameters: Iterable[nn.Parameter],
    recipe: AnomalyRecipe,
    epochs: int,
) -> None:
    kept = list(parameters)
    batches = max(1, len(normals) // recipe.batch_size)
    optimizer = torch.optim.AdamW(kept, weight_decay=recipe.weight_decay)
    schedule = OneCycleLR(optimizer, recipe.learning_rate, total_steps=batches * epochs, pct_start=0.1)
    for epoch in range(epochs):
        losses = 0.0
        for picked in torch.randperm(len(normals))[: batches * recipe.batch_size].chunk(batches):
            loss = loss_of(normals[picked])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses += float(loss.detach())
        if not math.isfinite(losses):
            raise ValueError(f"Training went astray in epoch {epoch + 1}: the loss is {losses}. Lower the rate.")
        if (epoch + 1) % 5 == 0:
            log.info("epoch %d of %d: loss %.4f", epoch + 1, epochs, losses / batches)
