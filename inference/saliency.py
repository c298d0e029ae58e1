"""Where a network looked: Grad-CAM on the pixels of the source image, and the hottest region as a polygon."""

from __future__ import annotations

import copy

import numpy as np
import torch
from monai.visualize.class_activation_maps import GradCAM
from numpy.typing import NDArray
from scipy import ndimage

from dicom_node.analysis import Saliency
from dicom_node.errors import ModelUnavailable
from dicom_node.model import Region

_HOT = 0.5


def grad_cam(
    network: torch.nn.Module, tensor: torch.Tensor, *, layer: str, output_index: int, shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Return Grad-CAM (Selvaraju et al., ICCV 2017) for one output as 0..1, (rows, columns) of `shape`.

    `tensor` is the network's input (1, channels, height, width), which shows the whole source image. The map is
    scaled by its maximum and all 0 when nothing speaks for the output. Raises `ModelUnavailable` for a wrong layer.
    """
    if layer not in dict(network.named_modules()):
        raise ModelUnavailable(f"The network has no layer {layer!r}. Correct [explain] layer in the model card.")
    with torch.enable_grad():
        # A copy, because the hooks of GradCAM never leave a network. Its own normaliser would turn hot into 0.
        cam = GradCAM(nn_module=copy.deepcopy(network), target_layers=layer, postprocessing=_as_is)
        heat = cam(x=tensor.clone().requires_grad_(), class_idx=output_index)
    heat = torch.nn.functional.interpolate(heat.detach().float(), size=shape, mode="bilinear", align_corners=False)
    values: NDArray[np.float32] = np.clip(heat[0, 0].cpu().numpy(), 0.0, None).astype(np.float32)
    top = float(values.max())
    return values / np.float32(top) if top > 0 else np.zeros_like(values)


def hottest_box(saliency: Saliency) -> Region | None:
    """Return the box around the connected area of at least half the maximum that holds the maximum.

    `None` when the map is all 0. Corners are outer pixel corners (PS3.3 C.18.6.1.2).
    """
    if not saliency.map.any():
        return None
    labels, _ = ndimage.label(saliency.map >= _HOT)
    peak = np.unravel_index(int(saliency.map.argmax()), saliency.map.shape)
    rows, columns = ndimage.find_objects((labels == labels[peak]).astype(np.uint8))[0]
    top, bottom, left, right = (float(x) for x in (rows.start, rows.stop, columns.start, columns.stop))
    corners = ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))
    return Region(sop_instance_uid=saliency.sop_instance_uid, points_xy_px=corners)


def _as_is(heat: torch.Tensor) -> torch.Tensor:
    return heat
