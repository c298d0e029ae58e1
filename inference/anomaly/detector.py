"""The anomaly detector as one module: three terms, each measured in deviations of normal images, and their mean.

Its networks are an encoder, a variational autoencoder on its maps, and a transformer scorer. That follows published
one-class detectors (encoder, then VAE, then ViT) with one change: the encoder is trained here, on normal images, where
they take VGG16 trained on ImageNet.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from monai.networks.blocks.transformerblock import TransformerBlock
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

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


# --- the networks ----------------------------------------------------------------------------------------------------

#: Rows and columns of the image that goes in, and of the feature map that the encoders give.
INPUT_PX, GRID = 64, 8
#: Convolutions of VGG16 up to its third pooling (Simonyan and Zisserman 2015); 0 stands for a pooling.
_VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0)


def encoder_of(kind: str) -> nn.Sequential:
    """Return an untrained encoder (images, 1, 64, 64) -> (images, channels, 8, 8); `kind` is ``small`` or ``vgg16``.

    Keys of ``vgg16`` are those of torchvision's ``features``, so that its published weights fit.
    """
    if kind == "vgg16":
        return _vgg16()
    if kind != "small":
        raise ValueError(f"There is no encoder {kind!r}; known are small and vgg16.")
    return nn.Sequential(
        _block(1, 24, stride=2),
        _block(24, 48, stride=2),
        _block(48, 48, stride=1),
        _block(48, 64, stride=2),
        nn.Conv2d(64, 64, 1),
    )


def channels_of(kind: str) -> int:
    """How many channels the maps of an encoder have."""
    return 256 if kind == "vgg16" else 64


class Reconstruction(NamedTuple):
    """What a VAE gives for feature maps: the maps again, and the posterior of each latent number."""

    maps: Tensor
    mean: Tensor
    log_variance: Tensor

    def divergence(self) -> Tensor:
        """Kullback-Leibler divergence from the standard normal distribution, one number per image; for training."""
        return 0.5 * (self.mean**2 + self.log_variance.exp() - 1.0 - self.log_variance).sum(dim=1)


class FeatureVae(nn.Module):
    """A variational autoencoder on standardised feature maps (images, channels, 8, 8)."""

    def __init__(self, channels: int, latent: int) -> None:
        super().__init__()
        inner = 16 * 64
        self.encode = nn.Sequential(
            nn.Conv2d(channels, 64, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(64, 64, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(inner, 2 * latent),
        )
        self.decode = nn.Sequential(
            nn.Linear(latent, inner),
            nn.GELU(),
            nn.Unflatten(1, (64, 4, 4)),
            nn.ConvTranspose2d(64, 64, 4, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(64, channels, 3, padding=1),
        )

    def forward(self, maps: Tensor) -> Reconstruction:
        """Reconstruct from a draw of the posterior while training, from its mean afterwards."""
        mean, log_variance = self.encode(maps).chunk(2, dim=1)
        log_variance = log_variance.clamp(-8.0, 4.0)
        drawn = mean + torch.randn_like(mean) * (log_variance / 2).exp() if self.training else mean
        return Reconstruction(self.decode(drawn), mean, log_variance)


class PatchScorer(nn.Module):
    """A vision transformer over the 8 by 8 places of a map: how altered the image is, and each of its places."""

    def __init__(self, channels: int, *, width: int = 64, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.embed = nn.Linear(channels, width)
        self.position = nn.Parameter(0.02 * torch.randn(1, 1 + GRID * GRID, width))
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        blocks = [TransformerBlock(width, 2 * width, heads, dropout_rate=0.1, save_attn=True) for _ in range(depth)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)
        self.image_head = nn.Linear(width, 1)
        self.place_head = nn.Linear(width, 1)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (images,) and (images, 64), row-major, for maps (images, channels, 8, 8)."""
        tokens = self.embed(maps.flatten(2).transpose(1, 2))
        tokens = torch.cat([self.class_token.expand(len(maps), -1, -1), tokens], dim=1) + self.position
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        return self.image_head(tokens[:, 0])[:, 0], self.place_head(tokens[:, 1:])[:, :, 0]

    def attentions(self) -> list[Tensor]:
        """Return the attention of the latest run, layer by layer: (images, heads, 65, 65)."""
        found = [block.get_submodule("attn").att_mat for block in self.blocks]
        return [one for one in found if isinstance(one, Tensor)]


def _block(channels_in: int, channels_out: int, *, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), nn.ReLU())


def _vgg16() -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for width in _VGG16:
        if width:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        else:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)
