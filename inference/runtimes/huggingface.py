"""Runs image classifiers and semantic segmentations of Hugging Face `transformers` (the extra ``huggingface``).

The model folder is one that `save_pretrained` wrote: config.json, model.safetensors, preprocessor_config.json. Nothing
is fetched from anywhere and no code of a model is run; torchvision is not needed.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from dicom_node.errors import ModelUnavailable
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.runtimes.axes import Floats
from dicom_node.inference.runtimes.huggingface_images import ImagePreparation
from dicom_node.inference.runtimes.tensors import TensorModel, check_card
from dicom_node.inference.runtimes.torch_forward import forward_of, tensor_bytes

ROLLOUT = "attention-rollout"
#: Networks whose patches are one row-major grid behind a class token.
_ONE_GRID = frozenset({"vit", "deit", "dinov2"})
_FILES = ("config.json", "preprocessor_config.json")


def load(card: ModelCard, device: str) -> TensorModel:
    """Load the folder of the card's weights file (see `prediction.Load`). Raises `ModelUnavailable`."""
    check_card(card, ("occlusion", ROLLOUT))
    _check_files(card)
    network, processor = _read(card)
    if card.explain.get("method") == ROLLOUT and network.config.model_type not in _ONE_GRID:
        raise ModelUnavailable(
            f"Model {card.name}: attention rollout is for {', '.join(sorted(_ONE_GRID))}, not for "
            f"{network.config.model_type}. Use occlusion in [explain] method."
        )
    network.to(device).eval()
    return TensorModel(
        card=card,
        prepare=ImagePreparation(card, processor),
        forward=forward_of(lambda batch: network(pixel_values=batch).logits, card, device),
        size_bytes=tensor_bytes([*network.parameters(), *network.buffers()]),
        batch_limit=card.preprocessing.batch if card.preprocessing else 1,
        heats={ROLLOUT: lambda tensor, _: _rollout(network, tensor)},
    )


def _check_files(card: ModelCard) -> None:
    if card.weights_file is None or card.weights_file.name != "model.safetensors":
        raise ModelUnavailable(
            f"Model {card.name}: [weights] file must be model.safetensors, in the folder that save_pretrained wrote. "
            "Save pickled or divided weights again with save_pretrained(folder, max_shard_size='50GB')."
        )
    card.verify_weights()
    missing = [name for name in _FILES if not (card.weights_file.parent / name).is_file()]
    if missing:
        raise ModelUnavailable(
            f"Model {card.name}: {' and '.join(missing)} are not beside {card.weights_file}. Copy the whole folder "
            "that save_pretrained of the network and of its image processor wrote."
        )
    if card.input == "volume":
        raise ModelUnavailable(f'Model {card.name}: {card.runtime} takes images. Set input = "image" in the card.')


def _read(card: ModelCard) -> tuple[Any, Any]:
    """Return network and image processor."""
    # Read when the library is imported; with a local folder it has nothing to ask, and must not try.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import transformers  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise ModelUnavailable(
            f"Model {card.name} needs transformers. Install it: pip install dicom-node[huggingface]."
        ) from error
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    segments = card.task == "segmentation"
    kind = transformers.AutoModelForSemanticSegmentation if segments else transformers.AutoModelForImageClassification
    folder = str(card.weights_file.parent) if card.weights_file else ""
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            folder, local_files_only=True, trust_remote_code=False, backend="pil"
        )
        network, info = kind.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            attn_implementation="eager" if card.explain.get("method") == ROLLOUT else None,
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, AttributeError) as error:
        raise ModelUnavailable(
            f"Model {card.name}: {folder} cannot be loaded by transformers {transformers.__version__} as "
            f"{kind.__name__} ({' '.join(str(error).split())[:200]})."
        ) from error
    _check_loaded(card, info)
    return network, processor


def _check_loaded(card: ModelCard, info: Any) -> None:
    """Refuse weights that leave a part of the network as it was made at random: transformers would only warn."""
    missing = sorted([*map(str, info["missing_keys"]), *map(str, info["mismatched_keys"])])
    if missing:
        raise ModelUnavailable(
            f"Model {card.name}: the weights lack {len(missing)} tensors of the network, first {missing[0]}; these "
            "would be random. Was it saved with a head for another task?"
        )


def _rollout(network: Any, tensor: Floats) -> Floats:
    from dicom_node.inference.explain.rollout import attention_rollout  # noqa: PLC0415 - needed seldom

    with torch.inference_mode():
        given = torch.from_numpy(tensor[None]).to(next(network.parameters()).device)
        found = network(pixel_values=given, output_attentions=True).attentions
    patch = network.config.patch_size
    rows, columns = (int(length) for length in tensor.shape[1:])
    attentions = [np.asarray(one[0].float().cpu().numpy()) for one in found]
    return attention_rollout(
        attentions, grid=(rows // patch, columns // patch), shape=(rows, columns), has_class_token=True
    )
