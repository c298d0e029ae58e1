"""In which precision a model computes: float32, or by autocast what its card allows and the processor is made for.

Weights stay in float32, and so do explanations, which need gradients, and everything that is given back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dicom_node.inference.prediction import Explanation, LoadedModel, ModelInput, Prediction


def in_precision(model: LoadedModel, precision: str, device: str) -> LoadedModel:
    """Return the model as it is, or run by autocast: as the card's `precision` says, where this device gains by it.

    Elsewhere it computes in float32: there it would cost time or accuracy and save nothing.
    """
    kind = device.partition(":")[0]
    if precision == "mixed" and kind == "cuda":
        return MixedPrecision(model, model.size_bytes, model.batch_limit)
    if precision == "bfloat16" and (kind == "cuda" or (kind == "cpu" and multiplies_in_bfloat16())):
        return MixedPrecision(model, model.size_bytes, model.batch_limit, kind, precision)
    return model


def move_weights(model: LoadedModel, device: str) -> bool:
    """Move what a model holds, where it can (a method `move`); tell whether it could. It runs where it was loaded."""
    inner = model.model if isinstance(model, MixedPrecision) else model
    move = getattr(inner, "move", None)
    if move is None:
        return False
    move(device)
    return True


def multiplies_in_bfloat16() -> bool:
    """Whether this processor does so itself (AVX-512 BF16 or AMX); others would do it in many steps."""
    import torch  # noqa: PLC0415 - models that need no torch get here too

    known = torch.cpu.get_capabilities()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


@dataclass(slots=True)
class MixedPrecision:
    """A model whose predictions run under autocast: on which kind of device, and in which type where torch finds it
    safe."""

    model: LoadedModel
    size_bytes: int
    batch_limit: int
    device_kind: str = "cuda"
    dtype: str = "float16"

    @property
    def understood(self) -> tuple[str, ...]:
        """What the model tells of itself, and how it computes."""
        told = getattr(self.model, "understood", ())
        return (*told, f"it computes in {self.dtype} where torch finds that safe, on {self.device_kind}")

    @property
    def told(self) -> tuple[str, ...]:
        """The same for readers of a report."""
        return (*getattr(self.model, "told", ()), f"Computed in {self.dtype} where that is safe.")

    def predict(self, inputs: Sequence[ModelInput]) -> Sequence[Prediction]:
        """Run the inputs; scores and probabilities come back as float32."""
        import torch  # noqa: PLC0415 - as above

        with torch.autocast(self.device_kind, dtype=getattr(torch, self.dtype)):
            found = self.model.predict(inputs)
        return [replace(one, scores=_single(one.scores), probabilities=_single(one.probabilities)) for one in found]

    def explain(self, one: ModelInput, output_index: int) -> Explanation | None:
        """Explain in float32."""
        return self.model.explain(one, output_index)


def _single(values: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    return None if values is None else values.astype(np.float32, copy=False)
