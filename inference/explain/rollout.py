"""Which patches of an image reach the answer of a vision transformer: attention rollout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dicom_node.inference.explain.maps import FloatMap, on_source, unit_range


def attention_rollout(
    attentions: Sequence[NDArray[np.floating]], *, grid: tuple[int, ...], shape: tuple[int, ...], has_class_token: bool
) -> FloatMap:
    """Return attention rollout (Abnar and Zuidema, ACL 2020) as 0..1, of the source's `shape`.

    `attentions` are the layers' weights after softmax, first layer first, each (heads, tokens, tokens) or (tokens,
    tokens), a row per asking token. The last tokens are the patches, row-major on `grid`; what stands before them
    are class and register tokens. With `has_class_token` the first token's row counts, else the mean over patches.
    Raises `ValueError` when there are fewer tokens than patches, or no layer.
    """
    if not attentions:
        raise ValueError("No attention weights were given; the network must be run so that it keeps them.")
    patches = int(np.prod(grid))
    joint = np.eye(np.asarray(attentions[0]).shape[-1], dtype=np.float64)
    for attention in attentions:
        joint = _with_residual(np.asarray(attention, dtype=np.float64)) @ joint
    if joint.shape[-1] < patches + int(has_class_token):
        raise ValueError(f"The attention has {joint.shape[-1]} tokens; {patches} patches do not fit.")
    reached = joint[0, -patches:] if has_class_token else joint[-patches:, -patches:].mean(axis=0)
    # Every patch reaches the answer a little; only what lies above the least counts.
    heat = (reached - reached.min()).astype(np.float32).reshape(grid)
    return unit_range(on_source(heat, shape))


def _with_residual(attention: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over heads, half identity for the path around the layer, rows that add up to 1."""
    mean = attention.mean(axis=0) if attention.ndim == 3 else attention
    mixed: NDArray[np.float64] = 0.5 * mean + 0.5 * np.eye(mean.shape[-1])
    normalised: NDArray[np.float64] = mixed / mixed.sum(axis=-1, keepdims=True)
    return normalised
