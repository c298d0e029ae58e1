"""The three networks of the anomaly detector: an encoder, a variational autoencoder on its maps, a transformer scorer.

The shape follows published one-class detectors (encoder, then VAE, then ViT) with one change: the encoder is trained
here, on normal images, where they take VGG16 trained on ImageNet.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from monai.networks.blocks.transformerblock import TransformerBlock
from torch import Tensor, nn

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
