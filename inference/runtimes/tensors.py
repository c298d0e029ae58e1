"""What all adapters share: a network is a function of arrays, the card says what goes in and what comes out.

An adapter brings the function (`Forward`); this module prepares inputs, makes probabilities, and brings maps back to
source geometry. No torch here: ONNX Runtime and remote servers do without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from dicom_node.core.errors import ModelUnavailable
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.cards.tensors import Preprocessing
from dicom_node.inference.prediction import Explanation, ModelInput, Prediction
from dicom_node.inference.runtimes.axes import Floats
from dicom_node.inference.runtimes.channels import check_rivals, evidence_of_card, outlined, whole_labels
from dicom_node.inference.runtimes.preprocess import Placement, Prepared, bring_back, prepare
from dicom_node.inference.runtimes.table import RUNTIMES

#: One input to the tensor that goes in.
Prepare = Callable[[ModelInput], Prepared]
#: (inputs, channels, *size) float32 to (inputs, outputs) or, for a segmentation, (inputs, classes, *any size).
Forward = Callable[[Floats], Floats]
#: The tensor that went in (channels, *size) and an output's number, to how much each place speaks for it (*size), 0..1.
Heat = Callable[[Floats, int], Floats]

#: The card's words for ways to explain, and what reports call them.
METHODS = {
    "occlusion": "Occlusion",
    "grad-cam": "Grad-CAM",
    "grad-cam++": "Grad-CAM++",
    "attention-rollout": "Attention rollout",
}

#: The card's word for showing how sure a segmentation is.
PROBABILITY = "probability"


@dataclass(slots=True, kw_only=True)
class TensorModel:
    """A loaded model whose network is `forward` (see `prediction.LoadedModel`).

    `heats` are the ways of explaining that the network's kind adds to occlusion, by the card's word for them.
    """

    card: ModelCard
    prepare: Prepare
    forward: Forward
    size_bytes: int
    batch_limit: int
    heats: Mapping[str, Heat] = field(default_factory=dict)
    _given: str = field(default="", init=False)
    _outputs: int = field(default=0, init=False)

    def predict(self, inputs: Sequence[ModelInput]) -> Sequence[Prediction]:
        """Run the inputs in one call where their tensors have one shape. Raises `NotAnalysable`, `ModelUnavailable`."""
        prepared = [self.prepare(one) for one in inputs]
        if len({one.tensor.shape for one in prepared}) > 1:
            return [self._predicted([one])[0] for one in prepared]
        return self._predicted(prepared)

    def explain(self, one: ModelInput, output_index: int) -> Explanation | None:
        """Show what the class of an image rests on, by the card's method."""
        method = self.card.explain.get("method", "")
        if not method:
            return None
        prepared = self.prepare(one)
        heat = self.heats.get(method, self._occlude)(prepared.tensor, output_index)
        layer = f", layer {self.card.explain['layer']}" if self.card.explain.get("layer") else ""
        return Explanation(map=bring_back(heat[None], prepared.placement)[0], method=METHODS[method] + layer)

    @property
    def understood(self) -> tuple[str, ...]:
        """What it takes its input and its output for, and from what it knows that: for people who try it."""
        channels = evidence_of_card(self.card).told(self._outputs) if self.card.task == "segmentation" else ""
        return tuple(filter(None, (channels, self._given)))

    def _predicted(self, prepared: Sequence[Prepared]) -> list[Prediction]:
        given = np.stack([one.tensor for one in prepared])
        sizes = "x".join(map(str, given.shape[1:]))
        self._given = f"its network was given {sizes} values of {given.min():.4g} to {given.max():.4g}"
        raw = self.forward(given)
        self._outputs = raw.shape[1] if raw.ndim > 1 else 0
        self._check(raw, len(prepared))
        return [self._prediction(values, one.placement) for values, one in zip(raw, prepared, strict=True)]

    def _occlude(self, tensor: Floats, output_index: int) -> Floats:
        from dicom_node.inference.explain.methods import occlusion  # noqa: PLC0415 - needs torch

        return occlusion(self._scores_of, tensor, output_index=output_index)

    def _scores_of(self, batch: Floats) -> Floats:
        parts = [batch[first : first + self.batch_limit] for first in range(0, len(batch), self.batch_limit)]
        found = np.concatenate([self.forward(part) for part in parts])
        return self._activated(found.reshape(len(batch), -1), axis=1)

    def _prediction(self, values: Floats, placement: Placement) -> Prediction:
        if self.card.task != "segmentation":
            check_rivals(self.card.output.activation == "softmax", values.size)
            return Prediction(scores=self._activated(values.ravel(), axis=0))
        known = evidence_of_card(self.card)
        if values.shape[0] == 1 and known.exclusive is None:
            return self._labels(values, placement)
        meaning = known.meaning(values.shape[0])
        chances = self._activated(values, axis=0)
        if not meaning.exclusive:
            self._check_chances(chances)
        back = (_as_volume(bring_back(channel[None], placement)[0]) for channel in chances)
        return outlined(back, meaning, keeps_chances=self.card.explain.get("method") == PROBABILITY)

    def _labels(self, values: Floats, placement: Placement) -> Prediction:
        """Take one channel for the numbers of classes. Raises `ModelUnavailable` for anything else: rounded, logits
        would be classes that nobody meant."""
        labels = whole_labels(values)
        if labels is None:
            raise ModelUnavailable(
                f"Model {self.card.name} gives one channel that holds no numbers of classes, {values.min():g} to "
                f'{values.max():g}. Say in the card what it is: [output] activation = "sigmoid" for logits, or '
                'channels = "overlapping" for probabilities.'
            )
        if evidence_of_card(self.card).has_threshold:
            raise ModelUnavailable(
                f"Model {self.card.name} gives numbers of classes, on which [parameters] threshold has no effect. "
                "Remove it from the card."
            )
        back = bring_back(labels.astype(np.float32)[:1], placement, nearest=True)[0]
        return Prediction(labels=_as_volume(back).astype(np.uint8))

    def _check_chances(self, chances: Floats) -> None:
        low, high = float(chances.min()), float(chances.max())
        if low < 0.0 or high > 1.0:
            raise ModelUnavailable(
                f"Model {self.card.name} gives channels of {low:g} to {high:g}, which are no probabilities to hold "
                'against a threshold. Say in the card: [output] activation = "sigmoid".'
            )

    def _activated(self, values: Floats, *, axis: int) -> Floats:
        """Apply the card's activation, for a classification at the card's temperature."""
        temperature = self.card.parameters.get("temperature", 1.0) if self.card.task == "classification" else 1.0
        return activate(values / np.float32(temperature), self.card.output.activation, axis=axis)

    def _check(self, raw: Floats, count: int) -> None:
        spatial = 3 if self.card.input == "volume" else 2
        dimensions = 2 + (spatial if self.card.task == "segmentation" else 0)
        if raw.ndim < 2 or raw.shape[0] != count or (raw.ndim != dimensions and self.card.task == "segmentation"):
            raise ModelUnavailable(
                f"Model {self.card.name} gave an output of shape {raw.shape} for {count} input(s); a {self.card.task} "
                f"needs {dimensions} dimensions, the first {count}. Name the right output in [output] of the card."
            )
        if not np.isfinite(raw).all():
            raise ModelUnavailable(f"Model {self.card.name} gave not-a-number or infinity; its answer cannot be used.")


def activate(values: Floats, activation: str, *, axis: int) -> Floats:
    """Make probabilities of logits: ``softmax`` along `axis`, ``sigmoid`` one by one, ``none`` leaves them."""
    if activation == "softmax":
        powers = np.exp(values - values.max(axis=axis, keepdims=True))
        return np.asarray(powers / powers.sum(axis=axis, keepdims=True), dtype=np.float32)
    if activation == "sigmoid":
        # By tanh, which never overflows.
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * values)), dtype=np.float32)
    return np.asarray(values, dtype=np.float32)


def tensor_model(card: ModelCard, preprocessing: Preprocessing, forward: Forward, *, size_bytes: int) -> TensorModel:
    """Return a model that prepares its input as the card says."""
    return TensorModel(
        card=card,
        prepare=partial(prepare, spec=preprocessing),
        forward=forward,
        size_bytes=size_bytes,
        batch_limit=preprocessing.batch,
    )


def needed_preprocessing(card: ModelCard) -> Preprocessing:
    """Return the card's `[preprocessing]`. Raises `ModelUnavailable` where this kind of file cannot do without."""
    if card.preprocessing is None:
        raise ModelUnavailable(
            f"Model {card.name} has no [preprocessing], and {card.runtime} files do not say what goes into the "
            "network. Add the table to the card."
        )
    return card.preprocessing


def check_card(card: ModelCard) -> None:
    """Refuse a task, or a way to explain, that the card's runtime cannot do. Raises `ModelUnavailable`."""
    runtime = RUNTIMES[card.runtime]
    if card.task not in runtime.tasks:
        raise ModelUnavailable(
            f"Model {card.name}: runtime {card.runtime} answers {', '.join(runtime.tasks)}, not {card.task}. Use a "
            "MONAI bundle or a Python entry point."
        )
    method = card.explain.get("method", "")
    able = (PROBABILITY,) if card.task == "segmentation" else () if card.input == "volume" else runtime.explains
    if method and method not in able:
        raise ModelUnavailable(
            f"Model {card.name}: runtime {card.runtime} cannot explain this task by {method}; it can by "
            f"{', '.join(able) or 'no method'}. Correct [explain] method."
        )


def weights_bytes(card: ModelCard) -> bytes:
    """Return the weights file after its sha256 was checked. Raises `ModelUnavailable`."""
    if card.weights_file is None:
        raise ModelUnavailable(f"Model {card.name} has no [weights]. Name its file and sha256 in the card.")
    card.verify_weights()
    return card.weights_file.read_bytes()


def _as_volume(values: Floats) -> Floats:
    """Give an image's map (rows, columns) its one slice."""
    return values[None] if values.ndim == 2 else values
