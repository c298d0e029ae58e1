"""The border between a network and the rest of the node: what every runtime is given and what it gives back.

A runtime (`inference/runtimes/`) knows how to load and run one kind of file; an answer (`inference/answers/`) knows
what a task's predictions mean to a reader. Neither knows the other, so every runtime serves every task. Arrays are in
*source* geometry on both sides: whatever a runtime resamples, it brings back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dicom_node.inference.cards.card import ModelCard


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInput:
    """One image or volume as it was received.

    `values` is float32, (channels, rows, columns) for an image and (channels, slices, rows, columns) for a volume:
    display values 0..1 (bright = dense) of a radiograph, Hounsfield units of CT, rescaled values otherwise.
    `affine_lps_mm` takes (column, row, slice, 1) to patient coordinates (PS3.3 C.7.6.2.1.1); `None` without a position.
    `attributes` are those of the header that the card's `[server]` lets leave the machine, by keyword; nothing else.
    """

    values: NDArray[np.float32]
    affine_lps_mm: NDArray[np.float64] | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Box:
    """A detected box: its class, its score 0..1, and its two opposite corners (column, row, slice) in source pixels,
    outer edges, 0,0,0 at the outer corner of the first voxel; slice 0..1 for an image."""

    output_index: int
    score: float
    low_xyz_px: tuple[float, float, float]
    high_xyz_px: tuple[float, float, float]


#: The figure of an averaged answer: the standard deviation of the probabilities, of the output that varies most; of
#: outlines its mean over what was outlined.
DISAGREEMENT = "ensemble-disagreement"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What came out for one input; a task reads the part it needs.

    `scores` (outputs,): probabilities of a classifier after the card's calibration, or the values of a regression.
    `labels` (slices, rows, columns): the class of every voxel, 0 background; or `masks`, by the value that the card
    gives a structure, each (slices, rows, columns), where structures may lie in each other. `probabilities`
    (values, slices, rows, columns), 0..1, background first, where the network has them. `figures`: numbers that a model
    leaves about its own answer, by name, for the card's `[[check]]`.
    """

    scores: NDArray[np.float32] | None = None
    labels: NDArray[np.uint8] | None = None
    masks: Mapping[int, NDArray[np.bool_]] | None = None
    probabilities: NDArray[np.float32] | None = None
    boxes: tuple[Box, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why one output is what it is: `map` (rows, columns), 0..1, on the input's own pixels, and how it was made."""

    map: NDArray[np.float32]
    method: str


class LoadedModel(Protocol):
    """A model in memory, ready to run. Each runtime's module has ``load(card, device) -> LoadedModel``.

    The least of them, whose only score is how dark an image is:

    >>> class Darkness:
    ...     size_bytes, batch_limit = 0, 8
    ...     def predict(self, inputs):
    ...         return [Prediction(scores=np.array([1 - one.values.mean()], np.float32)) for one in inputs]
    ...     def explain(self, one, output_index):
    ...         return None
    >>> model: LoadedModel = Darkness()
    >>> (prediction,) = model.predict([ModelInput(values=np.full((1, 64, 64), 0.25, np.float32))])
    >>> prediction.scores.tolist()
    [0.75]
    """

    #: Device memory and RAM it holds, bytes; the pool's budget counts it.
    size_bytes: int
    #: How many inputs of one shape one call may take; 1 for a model that takes volumes.
    batch_limit: int

    def predict(self, inputs: Sequence[ModelInput]) -> Sequence[Prediction]:
        """Run the inputs, at most `batch_limit` at once. Raises `NotAnalysable` or `ModelUnavailable`."""
        ...

    def explain(self, one: ModelInput, output_index: int) -> Explanation | None:
        """Show what speaks for one output by the card's `[explain]` method; `None` where it names none."""
        ...


class Load(Protocol):
    """How a runtime module makes a model; `device` is ``cpu``, ``cuda:0`` or ``mps``. Raises `ModelUnavailable`."""

    def __call__(self, card: ModelCard, device: str) -> LoadedModel: ...
