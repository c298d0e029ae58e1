"""Train one network on labelled radiographs, and score radiographs with it. Equal seeds give equal weights."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dicom_node.inference.training.data import Radiograph
from dicom_node.inference.training.figures.metrics import Scored

log = logging.getLogger(__name__)

Item = dict[str, Any]
Transform = Callable[[Item], Item]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides how a network is trained; written into the metrics file."""

    epochs: int = 30
    batch_size: int = 32
    #: Highest rate; it rises over the first `warm_up_share` of the steps and then falls to almost nothing.
    learning_rate: float = 3e-3
    warm_up_share: float = 0.15
    weight_decay: float = 0.05
    label_smoothing: float = 0.02
    #: Share of the old average kept at each step; the averaged weights are the ones that ship.
    average_decay: float = 0.995
    seed: int = 20240611
    #: sha256 of the weights that training started from; empty for a start from random ones.
    continued_from: str = ""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Images (images, 1, rows, columns) 0..1 of the network's size, and the class of each."""

    images: Tensor
    labels: Tensor


def train(
    network: nn.Module,
    data: Labelled,
    vary: Callable[[Tensor], Tensor],
    recipe: Recipe,
    after_epoch: Callable[[nn.Module], float],
) -> nn.Module:
    """Fit the network and return its running average in evaluation mode.

    `vary` takes a batch of images to the network's input. `after_epoch` sees the average and returns a figure for
    the log; it decides nothing.
    """
    batches = max(1, len(data.labels) // recipe.batch_size)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = AveragedModel(network, multi_avg_fn=_averaging(recipe), use_buffers=True)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=recipe.weight_decay)
    schedule = OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=batches * recipe.epochs, pct_start=recipe.warm_up_share
    )
    loss_of = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)

    for epoch in range(recipe.epochs):
        began, losses = time.monotonic(), 0.0
        network.train()
        for picked in torch.randperm(len(data.labels))[: batches * recipe.batch_size].chunk(batches):
            logits = network(vary(data.images[picked]).to(memory_format=torch.channels_last))
            losses += _step(loss_of(logits, data.labels[picked]), optimizer)
            schedule.step()
            average.update_parameters(network)
        told = (epoch + 1, recipe.epochs, losses / batches, after_epoch(average.module), time.monotonic() - began)
        log.info("epoch %d of %d: loss %.4f, validation AUROC %.4f, %.0f s", *told)
    return average.module.eval()


@torch.no_grad()
def score(network: nn.Module, radiographs: Sequence[Radiograph], inputs: Tensor) -> Scored:
    """Return the log odds of illness (ill logit minus healthy logit) of radiographs prepared as `inputs`."""
    network.eval()
    batches = torch.split(inputs.to(memory_format=torch.channels_last), 64)
    logits = torch.cat([network(batch) for batch in batches])
    return Scored(
        labels=np.array([radiograph.has_pneumonia for radiograph in radiographs], dtype=np.bool_),
        scores=(logits[:, 1] - logits[:, 0]).double().numpy(),
        patients=np.array([radiograph.patient for radiograph in radiographs]),
    )


def inputs_of(radiographs: Sequence[Radiograph], transform: Transform) -> Tensor:
    """Return the network's input for these radiographs: (images, 1, rows, columns)."""
    prepared = [transform({"image": as_tensor(radiograph)})["image"] for radiograph in radiographs]
    return torch.stack([torch.as_tensor(image) for image in prepared])


def labelled(radiographs: Sequence[Radiograph], shrink: Transform) -> Labelled:
    """Return training data, each image brought to the network's size once and not in every epoch."""
    labels = torch.tensor([int(radiograph.has_pneumonia) for radiograph in radiographs])
    return Labelled(images=inputs_of(radiographs, shrink), labels=labels)


def as_tensor(radiograph: Radiograph) -> Tensor:
    """Return the pixels as the bundle expects them: float32, (1, rows, columns), 0..1."""
    return torch.from_numpy(radiograph.pixels.astype(np.float32) / 255.0)[None]


def _averaging(recipe: Recipe) -> Any:
    return get_ema_multi_avg_fn(recipe.average_decay)  # type: ignore[no-untyped-call]


def _step(loss: Tensor, optimizer: torch.optim.Optimizer) -> float:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return float(loss.detach())
