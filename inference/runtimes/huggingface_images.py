"""Images as a Hugging Face image processor wants them, and where on the source its tensor lies.

The processor itself makes the tensor, so that the network sees what it was trained on. Where the tensor lies is worked
out from the processor's settings and compared with what it does to a test pattern; a processor that does something else
is refused where the place matters.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import ModelUnavailable
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.cards.tensors import Preprocessing
from dicom_node.inference.prediction import ModelInput
from dicom_node.inference.runtimes.axes import Axis, Floats, centred_axis, place
from dicom_node.inference.runtimes.preprocess import Placement, Prepared, prepare

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
