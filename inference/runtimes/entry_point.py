"""Runs a Python function as a model: whatever a file format cannot hold, for any task of `inference.answers`.

The card's ``entry_point = "package.module:function"`` names it; it must be installed beside the node:

    def function(inputs: Sequence[ModelInput], card: ModelCard, device: str) -> Sequence[Prediction]: ...

It is given at most `batch` inputs (`[preprocessing]`), as they were received, and keeps what it has loaded itself. Its
answer is held to the shapes that `prediction.Prediction` promises, so that no map can lie on other pixels.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn, cast

import numpy as np

from dicom_node.core.errors import ModelUnavailable
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.prediction import Explanation, ModelInput, Prediction
from dicom_node.inference.runtimes.axes import Floats

Function = Callable[[Sequence[ModelInput], ModelCard, str], Sequence[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionModel:
    """A function on one device (see `prediction.LoadedModel`)."""

    card: ModelCard
    device: str
    function: Function
    batch_limit: int
    #: What the function itself holds is not known; the pool sees what the process grows by.
    size_bytes: int = 0

    def predict(self, inputs: Sequence[ModelInput]) -> Sequence[Prediction]:
        """Run the function. Raises what it raises, and `ModelUnavailable` for an answer of a wrong shape."""
        found = self.function(inputs, self.card, self.device)
        if len(found) != len(inputs):
            self._refuse(f"gave {len(found)} predictions for {len(inputs)} inputs")
        return [self._checked(one, prediction) for one, prediction in zip(inputs, found, strict=True)]

    def explain(self, one: ModelInput, output_index: int) -> Explanation | None:
        """Cover parts of the image one after the other and see which lower the score."""
        if not self.card.explain.get("method"):
            return None
        from dicom_node.inference.explain.methods import Cover, occlusion  # noqa: PLC0415 - needs torch

        def score(batch: Floats) -> Floats:
            found = self.predict([replace(one, values=values) for values in batch])
            return np.stack([np.zeros(0) if each.scores is None else each.scores for each in found])

        cover = Cover(batch_size=self.batch_limit)
        return Explanation(map=occlusion(score, one.values, output_index=output_index, cover=cover), method="Occlusion")

    def _checked(self, one: ModelInput, found: object) -> Prediction:
        if not isinstance(found, Prediction):
            self._refuse(f"gave a {type(found).__name__} instead of a Prediction")
        spatial = one.values.shape[1:] if one.values.ndim == 4 else (1, *one.values.shape[1:])
        if found.labels is not None and found.labels.shape != spatial:
            self._refuse(f"gave labels of {found.labels.shape} voxels for an input of {spatial}")
        if any(mask.shape != spatial or mask.dtype != np.bool_ for mask in (found.masks or {}).values()):
            self._refuse(f"gave masks that are not bool of {spatial} voxels, as its input")
        if found.probabilities is not None and found.probabilities.shape[1:] != spatial:
            self._refuse(f"gave probabilities of {found.probabilities.shape[1:]} voxels for an input of {spatial}")
        if found.scores is not None and not (found.scores.ndim == 1 and np.isfinite(found.scores).all()):
            self._refuse("gave scores that are not one list of finite numbers")
        return found

    def _refuse(self, problem: str) -> NoReturn:
        raise ModelUnavailable(f"Model {self.card.name}: {self.card.entry_point} {problem}. Correct the function.")


def load(card: ModelCard, device: str) -> FunctionModel:
    """Import the function the card names (see `prediction.Load`). Raises `ModelUnavailable`."""
    method = card.explain.get("method", "")
    if method and (method != "occlusion" or card.task != "classification" or card.input == "volume"):
        raise ModelUnavailable(
            f"Model {card.name}: a Python entry point cannot explain this task by {method}; it can show what the "
            "class of an image rests on by occlusion. Correct [explain] method."
        )
    module_name, _, name = card.entry_point.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ModelUnavailable(
            f"Model {card.name} needs {card.entry_point}, which cannot be imported ({error}). Install its package "
            "beside the node, or correct entry_point."
        ) from error
    batch_limit = card.preprocessing.batch if card.preprocessing else 1
    return FunctionModel(card=card, device=device, function=cast(Function, function), batch_limit=batch_limit)
