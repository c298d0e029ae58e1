"""Runs the DenseNet-121 of TorchXRayVision: 18 findings of a frontal chest radiograph, without that library.

Its network is MONAI's DenseNet121 under other names. `inference.ready.torchxrayvision` makes the weights file from the
published checkpoint.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from monai.networks.nets.densenet import DenseNet121

from dicom_node.core.errors import ModelUnavailable
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.cards.tensors import Preprocessing
from dicom_node.inference.explain.methods import grad_cam, grad_cam_plus_plus
from dicom_node.inference.runtimes.axes import Floats
from dicom_node.inference.runtimes.preprocess import prepare
from dicom_node.inference.runtimes.tensors import Heat, TensorModel, activate, check_card
from dicom_node.inference.runtimes.torch_forward import forward_of, tensor_bytes
from dicom_node.inference.runtimes.weights import read_state

#: Name of the tensor (18,) that the converter puts beside the network's own.
OPERATING_POINTS = "operating_points"
OUTPUTS = 18
#: The middle square, 0..1 of display spread over ±1024.
_INPUT = Preprocessing(size=(224, 224), fit="crop", range=(-1024.0, 1024.0))
_CAMS = {"grad-cam": grad_cam, "grad-cam++": grad_cam_plus_plus}


def load(card: ModelCard, device: str) -> TensorModel:
    """Load the converted weights (see `prediction.Load`). Raises `ModelUnavailable`."""
    check_card(card)
    if card.preprocessing or "temperature" in card.parameters:
        raise ModelUnavailable(
            f"Model {card.name}: runtime {card.runtime} prepares images as its networks were trained, and has "
            "operating points instead of a temperature. Leave [preprocessing] and temperature out."
        )
    network, points = _read(card)
    _check_findings(card, points)
    network.to(device).eval()
    logits = forward_of(network, card, device)
    return TensorModel(
        card=card,
        prepare=partial(prepare, spec=_INPUT),
        forward=lambda batch: at_operating_points(activate(logits(batch), "sigmoid", axis=1), points),
        size_bytes=tensor_bytes(network.state_dict().values()),
        batch_limit=8,
        heats={method: _heat(network, card, method) for method in _CAMS},
    )


def at_operating_points(probabilities: Floats, points: Floats) -> Floats:
    """Stretch probabilities (inputs, findings) so that each finding's operating point becomes ½.

    Linear below and above it, as TorchXRayVision does; 0 for a finding without a point.
    """
    known = np.nan_to_num(points, nan=1.0)
    below = probabilities / (2 * known)
    above = 1.0 - (1.0 - probabilities) / (2 * np.maximum(1.0 - known, np.finfo(np.float32).tiny))
    stretched = np.where(probabilities < known, below, above)
    return np.asarray(np.where(np.isnan(points), 0.0, stretched), dtype=np.float32)


def _read(card: ModelCard) -> tuple[DenseNet121, Floats]:
    if card.weights_file is None:
        raise ModelUnavailable(f"Model {card.name} has no [weights]. Make the folder with the converter.")
    card.verify_weights()
    state = dict(read_state(card.weights_file))
    points = state.pop(OPERATING_POINTS, torch.empty(0))
    network = DenseNet121(spatial_dims=2, in_channels=1, out_channels=OUTPUTS)
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ModelUnavailable(
            f"Model {card.name}: {card.weights_file} are not the weights of a DenseNet-121 with {OUTPUTS} findings. "
            "Make them with dicom-node models add CHECKPOINT --card torchxrayvision-all."
        ) from error
    if points.shape != (OUTPUTS,):
        raise ModelUnavailable(f"Model {card.name}: {card.weights_file} holds no {OUTPUTS} operating points.")
    return network, points.numpy().astype(np.float32)


def _check_findings(card: ModelCard, points: Floats) -> None:
    for finding in card.findings:
        if not finding.output_index < OUTPUTS or np.isnan(points[finding.output_index]):
            raise ModelUnavailable(
                f"Model {card.name}: these weights were not trained for finding {finding.key} (output "
                f"{finding.output_index}). Take it out of the card."
            )


def _heat(network: DenseNet121, card: ModelCard, method: str) -> Heat:
    def heat(tensor: Floats, output_index: int) -> Floats:
        given = torch.from_numpy(tensor[None]).to(next(network.parameters()).device)
        layer = card.explain.get("layer", "")
        return _CAMS[method](network, given, layer=layer, output_index=output_index, shape=tensor.shape[1:])

    return heat
