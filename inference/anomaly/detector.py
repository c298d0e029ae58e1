"""The anomaly detector as one module: three terms, each measured in deviations of normal images, and their mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from dicom_node.inference.anomaly.networks import GRID, INPUT_PX, FeatureVae, PatchScorer, channels_of, encoder_of

#: The terms of the score, in the order of every array of terms.
TERMS = ("reconstruction", "divergence", "transformer")
_LEAST = 1e-6


class Detector(nn.Module):
    """Encoder, VAE and scorer with the statistics of normal images; everything is in its state dict.

    All statistics come from the normal training images but `normal_scores` (images,): sorted, the scores of normal
    images that no network was trained on. `residual_*` are per channel and place, `latent_*` of the VAE's means.
    """

    feature_mean: Tensor
    feature_deviation: Tensor
    residual_mean: Tensor
    residual_deviation: Tensor
    latent_mean: Tensor
    latent_precision: Tensor
    term_mean: Tensor
    term_deviation: Tensor
    normal_scores: Tensor

    def __init__(self, *, encoder: str = "small", latent: int = 32, normals: int = 0) -> None:
        super().__init__()
        channels = channels_of(encoder)
        self.colours = 3 if encoder == "vgg16" else 1
        self.encoder = encoder_of(encoder)
        self.vae = FeatureVae(channels, latent)
        self.scorer = PatchScorer(2 * channels)
        for name, shape in (
            ("feature_mean", (1, channels, 1, 1)),
            ("feature_deviation", (1, channels, 1, 1)),
            ("residual_mean", (1, channels, GRID, GRID)),
            ("residual_deviation", (1, channels, GRID, GRID)),
            ("latent_mean", (latent,)),
            ("latent_precision", (latent, latent)),
            ("term_mean", (len(TERMS),)),
            ("term_deviation", (len(TERMS),)),
            ("normal_scores", (normals,)),
        ):
            self.register_buffer(name, torch.ones(shape) if "deviation" in name else torch.zeros(shape))

    def maps(self, images: Tensor) -> Tensor:
        """Return standardised feature maps (images, channels, 8, 8) of prepared images (images, 1, 64, 64)."""
        found = self.encoder(images.expand(-1, self.colours, -1, -1))
        standard: Tensor = (found - self.feature_mean) / self.feature_deviation
        return standard

    def scorer_input(self, maps: Tensor) -> Tensor:
        """Return the maps beside what the VAE cannot explain of them: what the transformer sees."""
        return torch.cat([maps, maps - self.vae(maps).maps], dim=1)

    def terms(self, images: Tensor) -> Tensor:
        """Return the raw terms (images, 3): logarithms of residual and divergence, and the transformer's logit.

        The residual is the mean square of what the VAE cannot explain, each value in deviations of normal images.
        The divergence is that of two normal distributions (Kullback-Leibler): the latent one of normal images, and
        the same moved to where the image lies. The spread that the VAE gives to a single image is left out of it:
        a hazy image has a small one, so that it would count as more normal than the normal ones.
        """
        maps = self.maps(images)
        again = self.vae(maps)
        residual = maps - again.maps
        logit, _ = self.scorer(torch.cat([maps, residual], dim=1))
        unexplained = ((residual - self.residual_mean) / self.residual_deviation).square().mean(dim=(1, 2, 3))
        off = again.mean - self.latent_mean
        divergence = 0.5 * torch.einsum("ni,ij,nj->n", off, self.latent_precision, off)
        return torch.stack([unexplained.clamp(min=_LEAST).log(), divergence.clamp(min=_LEAST).log(), logit], dim=1)

    def standard_terms(self, terms: Tensor) -> Tensor:
        """Return the terms in deviations of normal training images: 0 is usual, 3 is rare."""
        return (terms - self.term_mean) / self.term_deviation

    def forward(self, images: Tensor) -> Tensor:
        """Return the fused score (images,): the mean of the three standardised terms, with equal weights because
        weights could only be chosen by looking at abnormal images."""
        return self.standard_terms(self.terms(images)).mean(dim=1)

    def share_of_normals_below(self, scores: Tensor) -> Tensor:
        """Return the share of held-out normal images with a lower score, 0..1."""
        return torch.searchsorted(self.normal_scores, scores).double() / max(1, len(self.normal_scores))

    def attentions(self, image: Tensor) -> list[NDArray[np.floating[Any]]]:
        """Return the transformer's attention for one prepared image (1, 1, 64, 64), first layer first."""
        self(image)
        return [one[0].cpu().numpy() for one in self.scorer.attentions()]


def prepared(values: Tensor) -> Tensor:
    """Bring images (images, 1, rows, columns), 0..1 bright = dense, to (images, 1, 64, 64), mean 0, deviation 1."""
    small = interpolate(values, size=(INPUT_PX, INPUT_PX), mode="area")
    mean = small.mean(dim=(1, 2, 3), keepdim=True)
    return (small - mean) / small.std(dim=(1, 2, 3), keepdim=True, correction=0).clamp(min=1e-6)
