"""Mixed precision where the card allows it: half precision for the layers that bear it, on CUDA only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dicom_node.inference.prediction import Explanation, LoadedModel, ModelInput, Prediction


def in_precision(model: LoadedModel, precision: str, device: str) -> LoadedModel:
    """Return the model as it is, or run by autocast: float32 weights, float16 where torch finds it safe.

    The CPU and MPS always compute in float32: there it would cost time or accuracy and save nothing.
    """
    if precision == "mixed" and device.startswith("cuda"):
        return MixedPrecision(model, model.size_bytes, model.batch_limit)
    return model


@dataclass(slots=True)
class MixedPrecision:
    """A model whose predictions run under CUDA autocast. Explanations need gradients and stay in float32."""

    model: LoadedModel
    size_bytes: int
    batch_limit: int

    def predict(self, inputs: Sequence[ModelInput]) -> Sequence[Prediction]:
        """Run the inputs; scores and probabilities come back as float32."""
        import torch  # noqa: PLC0415 - models that need no torch get here too

        with torch.autocast("cuda", dtype=torch.float16):
            found = self.model.predict(inputs)
        return [replace(one, scores=_single(one.scores), probabilities=_single(one.probabilities)) for one in found]

    def explain(self, one: ModelInput, output_index: int) -> Explanation | None:
        """Explain in float32."""
        return self.model.explain(one, output_index)


def _single(values: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    return None if values is None else values.astype(np.float32, copy=False)
