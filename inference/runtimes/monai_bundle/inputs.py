"""Arrays of a study in the form in which MONAI's file readers would have given them to a bundle."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.utils.enums import MetaKeys, SpaceKeys
from numpy.typing import NDArray

from dicom_node.core.errors import NotAnalysable
from dicom_node.inference.prediction import ModelInput
from dicom_node.inference.runtimes.monai_bundle.config import Loading

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_NO_CHANNEL = float("nan")


def reader_order(values: NDArray[np.float32], loading: Loading) -> NDArray[np.float32]:
    """Turn (channels, [slices,] rows, columns) into the reader's (channels, columns, rows[, slices]).

    A bundle that reads no files has no reader to agree with: its images stay (channels, rows, columns); volumes are
    column first in all of MONAI.
    """
    if values.ndim == 3 and (loading.keys is None or not loading.column_first):
        return values
    return np.ascontiguousarray(values.transpose(0, *range(values.ndim - 1, 0, -1)))


def source_order(values: NDArray[Any], loading: Loading, volume: bool) -> NDArray[Any]:
    """Turn (channels, columns, rows[, slices]) back into (channels, slices, rows, columns); an image has one slice."""
    if volume:
        return np.ascontiguousarray(values.transpose(0, 3, 2, 1))
    upright = loading.keys is None or not loading.column_first
    return np.ascontiguousarray((values if upright else values.transpose(0, 2, 1))[:, None])


def affine_ras(one: ModelInput) -> NDArray[np.float64]:
    """Return the affine of MONAI's world, which points right, anterior, superior; unit where there is no position."""
    return np.eye(4) if one.affine_lps_mm is None else _LPS_TO_RAS @ one.affine_lps_mm


def as_loaded(one: ModelInput, loading: Loading, channels_wanted: int | None) -> dict[str, Any]:
    """Return the entries the bundle's reader would have made, by key.

    Several keys share the channels, one each. A grey image is repeated where the network wants three channels.
    Raises `NotAnalysable` (CHANNELS_MISSING) when the study has fewer channels than the bundle reads.
    """
    values = _with_channels(one.values, channels_wanted if one.values.ndim == 3 else None)
    ordered, affine = reader_order(values, loading), affine_ras(one)
    keys = loading.keys or ("image",)
    if len(keys) == 1 or ordered.shape[0] == 1:
        return _with_meta({keys[0]: _tensor(ordered, affine, loading)}, loading)
    if ordered.shape[0] < len(keys):
        raise NotAnalysable(
            "CHANNELS_MISSING", f"The model reads {', '.join(keys)}; the study gives {ordered.shape[0]} of them."
        )
    single = {key: _tensor(ordered[place : place + 1], affine, loading) for place, key in enumerate(keys)}
    return _with_meta(single, loading)


def _with_meta(tensors: dict[str, MetaTensor], loading: Loading) -> dict[str, Any]:
    metas = {f"{key}_meta_dict": dict(one.meta) for key, one in tensors.items()} if loading.meta_dicts else {}
    return {**tensors, **metas}


def _with_channels(values: NDArray[np.float32], wanted: int | None) -> NDArray[np.float32]:
    return np.repeat(values, 3, axis=0) if values.shape[0] == 1 and wanted == 3 else values


def _tensor(ordered: NDArray[np.float32], affine: NDArray[np.float64], loading: Loading) -> MetaTensor:
    array, channel_dim = _channel_placed(ordered, loading)
    meta = {
        MetaKeys.ORIGINAL_CHANNEL_DIM: channel_dim,
        MetaKeys.ORIGINAL_AFFINE: affine.copy(),
        MetaKeys.SPATIAL_SHAPE: np.array(ordered.shape[1:]),
        MetaKeys.SPACE: SpaceKeys.RAS,
        "filename_or_obj": "study",
    }
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return MetaTensor(tensor, affine=torch.from_numpy(affine.copy()), meta=meta)


def _channel_placed(ordered: NDArray[np.float32], loading: Loading) -> tuple[NDArray[np.float32], float]:
    """Put the channel where the next transform looks for it."""
    if loading.keys is None or loading.channel_first or not loading.expects_channel:
        return ordered, 0.0
    if loading.channel_dim == "no_channel" or (loading.channel_dim is None and ordered.shape[0] == 1):
        return ordered[0], _NO_CHANNEL
    place = loading.channel_dim if isinstance(loading.channel_dim, int) else 0
    return np.moveaxis(ordered, 0, place), float(place)
