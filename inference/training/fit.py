"""Train one network on labelled radiographs, and score radiographs with it. Equal seeds give equal weights."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data.dataloader import DataLoader
from monai.data.dataset import Dataset
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dicom_node.inference.training.data import Radiograph
from dicom_node.inference.training.metrics import Scored

log = logging.getLogger(__name__)

Item = dict[str, Any]
Transform = Callable[[Item], Item]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides how a network is trained; written into the metrics file."""

    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 2e-3
    #: Steps over which the rate rises to its value; from then on it stays.
    warm_up_steps: int = 150
    weight_decay: float = 0.05
    label_smoothing: float = 0.02
    #: Share of the old average kept at each step; the averaged weights are the ones that ship.
    average_decay: float = 0.995
    seed: int = 20240611


def train(
    network: nn.Module,
    items: Sequence[Item],
    transform: Transform,
    recipe: Recipe,
    after_epoch: Callable[[nn.Module], float],
) -> nn.Module:
    """Fit the network and return its running average in evaluation mode.

    `items` hold an ``image`` (1, rows, columns) 0..1 and a ``label``; `transform` takes them to the network's input.
    `after_epoch` sees the average and returns a figure for the log; it decides nothing. The rate does not depend on
    the number of epochs: the average after epoch n is what a run of n epochs gives.
    """
    loader = DataLoader(
        Dataset(items, transform),
        batch_size=recipe.batch_size,
        shuffle=True,
        drop_last=len(items) > recipe.batch_size,
        num_workers=1,
        persistent_workers=True,
        generator=torch.Generator().manual_seed(recipe.seed),
    )
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    multi_average = get_ema_multi_avg_fn(recipe.average_decay)  # type: ignore[no-untyped-call]
    average = AveragedModel(network, multi_avg_fn=multi_average, use_buffers=True)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=recipe.weight_decay)
    loss_of = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)

    for epoch in range(recipe.epochs):
        began, losses = time.monotonic(), 0.0
        network.train()
        for step, batch in enumerate(loader, start=epoch * len(loader)):
            _set_rate(optimizer, recipe.learning_rate * min((step + 1) / recipe.warm_up_steps, 1.0))
            loss = loss_of(network(batch["image"].to(memory_format=torch.channels_last)), batch["label"])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            average.update_parameters(network)
            losses += float(loss.detach())
        figure = after_epoch(average.module)
        log.info(
            "epoch %d of %d: loss %.4f, validation AUROC %.4f, %.0f s",
            *(epoch + 1, recipe.epochs, losses / len(loader), figure, time.monotonic() - began),
        )
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
    return torch.stack([transform({"image": as_tensor(radiograph)})["image"] for radiograph in radiographs])


def as_tensor(radiograph: Radiograph) -> Tensor:
    """Return the pixels as the bundle expects them: float32, (1, rows, columns), 0..1."""
    return torch.from_numpy(radiograph.pixels.astype(np.float32) / 255.0)[None]


def items_of(radiographs: Sequence[Radiograph], shrink: Transform) -> list[Item]:
    """Return training items, each image brought to the network's size once and not in every epoch."""
    return [
        shrink({"image": as_tensor(radiograph), "label": int(radiograph.has_pneumonia)}) for radiograph in radiographs
    ]


def _set_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
