"""Runs image classifiers and semantic segmentations of Hugging Face `transformers` (the extra ``huggingface``).

The model folder is one that `save_pretrained` wrote: config.json, model.safetensors, preprocessor_config.json. Nothing
is fetched from anywhere and no code of a model is run; torchvision is not needed.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dicom_node.core.errors import ModelUnavailable
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.cards.tensors import Preprocessing
from dicom_node.inference.prediction import ModelInput
from dicom_node.inference.runtimes.axes import Axis, Floats, centred_axis, place
from dicom_node.inference.runtimes.preprocess import Placement, Prepared, prepare
from dicom_node.inference.runtimes.tensors import TensorModel, check_card
from dicom_node.inference.runtimes.torch_forward import forward_of, tensor_bytes

ROLLOUT = "attention-rollout"
#: Networks whose patches are one row-major grid behind a class token.
_ONE_GRID = frozenset({"vit", "deit", "dinov2"})
_FILES = ("config.json", "preprocessor_config.json")


def load(card: ModelCard, device: str) -> TensorModel:
    """Load the folder of the card's weights file (see `prediction.Load`). Raises `ModelUnavailable`."""
    check_card(card)
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
    from dicom_node.inference.explain.methods import attention_rollout  # noqa: PLC0415 - needed seldom

    with torch.inference_mode():
        given = torch.from_numpy(tensor[None]).to(next(network.parameters()).device)
        found = network(pixel_values=given, output_attentions=True).attentions
    patch = network.config.patch_size
    rows, columns = (int(length) for length in tensor.shape[1:])
    attentions = [np.asarray(one[0].float().cpu().numpy()) for one in found]
    return attention_rollout(
        attentions, grid=(rows // patch, columns // patch), shape=(rows, columns), has_class_token=True
    )


# --- images as the processor wants them ------------------------------------------------------------------------------

_CHANNELS = 3
#: Processors with `crop_pct` stretch to this edge and longer ones, and cut shorter ones out of a larger image.
_NO_CROP_FROM = 384
_PATTERN_SHAPE = (180, 260)
#: Mean difference from the pattern, 0..1: different ways to interpolate stay far below, another place far above.
_TOLERANCE = 0.03


class ImagePreparation:
    """Makes the tensor of an image with the folder's own image processor (`tensors.Prepare`)."""

    def __init__(self, card: ModelCard, processor: Any) -> None:
        self._processor = processor
        self._values = _value_preparation(card)
        if card.task == "segmentation" or card.explain:
            self._check_place(card)

    def __call__(self, one: ModelInput) -> Prepared:
        """Raises `NotAnalysable`, or `ModelUnavailable` for values that are no display values."""
        values = prepare(one, self._values).tensor
        if values.min() < 0.0 or values.max() > 1.0:
            raise ModelUnavailable(
                "The images do not hold display values 0..1. Say with window or percentiles in [preprocessing] of the "
                "model card which values become black and white."
            )
        shown = np.rint(values * 255).astype(np.uint8)
        tensor = self._processed(shown)
        return Prepared(
            tensor, Placement((0, 1), (False, False), _axes(self._processor, shown.shape[1:], tensor.shape[1:]))
        )

    def _processed(self, shown: NDArray[np.uint8]) -> Floats:
        found = self._processor(images=[shown], return_tensors="np", input_data_format="channels_first")
        return np.asarray(found["pixel_values"][0], dtype=np.float32)

    def _check_place(self, card: ModelCard) -> None:
        rows, columns = np.meshgrid(*(np.linspace(0, 1, n) for n in _PATTERN_SHAPE), indexing="ij")
        pattern = (0.5 + 0.5 * np.sin(9 * rows) * np.cos(7 * columns + 1)).astype(np.float32)
        shown = np.rint(np.repeat(pattern[None], _CHANNELS, axis=0) * 255).astype(np.uint8)
        found = self._processed(shown)
        expected = _as_normalised(
            self._processor, place(pattern, _axes(self._processor, _PATTERN_SHAPE, found.shape[1:]))
        )
        if np.abs(found - expected).mean() > _TOLERANCE * np.ptp(expected):
            raise ModelUnavailable(
                f"Model {card.name}: where {type(self._processor).__name__} with these settings puts an image is not "
                "known, so that no map can be laid on it. Leave [explain] out, or use another runtime."
            )


def _value_preparation(card: ModelCard) -> Preprocessing:
    """Return what the card adds to the processor: which values are black and white."""
    said = card.preprocessing or Preprocessing()
    if said != Preprocessing(window=said.window, percentiles=said.percentiles, batch=said.batch):
        raise ModelUnavailable(
            f"Model {card.name}: preprocessor_config.json says how images are prepared; [preprocessing] may only hold "
            "window or percentiles, and batch."
        )
    return Preprocessing(window=said.window, percentiles=said.percentiles, channels=_CHANNELS)


def _axes(processor: Any, shape: tuple[int, ...], shown: tuple[int, ...]) -> tuple[Axis, ...]:
    """Lay both axes of an image of `shape` on a tensor of `shown`: resized, then cut or padded around the middle."""
    return tuple(
        Axis(n, length, length / n, 0.0) if round(n * scale) == length else centred_axis(n, length, scale)
        for n, length, scale in zip(shape, shown, _scales(processor, shape), strict=True)
    )


def _scales(processor: Any, shape: tuple[int, ...]) -> tuple[float, ...]:
    """Return how many pixels one pixel of each axis becomes by the processor's resizing."""
    size = dict(getattr(processor, "size", None) or {}) if getattr(processor, "do_resize", False) else {}
    if "height" in size and "width" in size:
        return size["height"] / shape[0], size["width"] / shape[1]
    if "shortest_edge" not in size:
        return (1.0,) * len(shape)
    edge, percent = float(size["shortest_edge"]), getattr(processor, "crop_pct", None)
    if percent and edge >= _NO_CROP_FROM:
        return tuple(edge / n for n in shape)
    return (edge / (percent or 1.0) / min(shape),) * len(shape)


def _as_normalised(processor: Any, image: Floats) -> Floats:
    """Normalise (rows, columns) 0..1 as the processor's settings say: (channels, rows, columns)."""
    values = np.repeat(image[None], _CHANNELS, axis=0)
    if not getattr(processor, "do_rescale", True):
        values = values * np.float32(255)
    if not getattr(processor, "do_normalize", False):
        return values
    mean, std = (np.asarray(one, np.float32).reshape(-1, 1, 1) for one in (processor.image_mean, processor.image_std))
    return np.asarray((values - mean) / std, dtype=np.float32)
