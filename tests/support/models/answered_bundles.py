"""Bundles with exactly known answers, and what MONAI's own pipeline says of the same images, without the node.

Each answers for `studies.shapes`. `structures` says which of the channels, or which numbers of classes, of MONAI's
answer a structure of the card is: written out for each bundle by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tests.support.models import known_answers as known
from tests.support.models.zoo_bundles import A_VALUE, SEGMENTS, TWO_CLASSES, JsonObject, compose, write_bundle
from tests.support.studies.shapes import Placed

Masks = NDArray[np.bool_]
Answer = NDArray[np.float32]
Choose = Callable[[Answer], Masks]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One bundle: how it is written, what its structures are in MONAI's answer, and what is measured of them."""

    write: Callable[[Path], Path]
    structures: Mapping[str, Choose] = field(default_factory=dict)
    measures: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


# --- parts of bundles ------------------------------------------------------------------------------------------------

_LPI: JsonObject = {"_target_": "Orientationd", "keys": "image", "axcodes": "PLI"}
_FLIPPED: JsonObject = {"_target_": "Flipd", "keys": "image", "spatial_axis": [0, 2]}
_TURNED: JsonObject = {"_target_": "Rotate90d", "keys": "image", "k": 3, "spatial_axes": [0, 1]}
_PADDED: JsonObject = {"_target_": "SpatialPadd", "keys": "image", "spatial_size": [29, 31, 33]}
_RESIZED: JsonObject = {"_target_": "Resized", "keys": "image", "spatial_size": [31, 29, 27], "mode": "trilinear"}
_MIDDLE: JsonObject = {"_target_": "CenterSpatialCropd", "keys": "image", "roi_size": [19, 17, 15]}
_SOFT_LABELS: JsonObject = {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.9}
_MEASURED = 'measure = ["volume", "diameter", "mean"]\n'
_BOTH = """
[[segment]]
values = [1, 2]
key = "both"
label = "Both"
type = { value = "10200004", scheme = "SCT", meaning = "Liver" }
measure = ["volume", "diameter", "mean"]
"""
_OVERLAP = '[output]\nchannels = "overlapping"\n'
_ONE = SEGMENTS.partition("[[segment]]\nvalue = 2")[0]
_WITH_BACKGROUND = {"0": "background", "1": "whole", "2": "core"}


def _label(number: int) -> Choose:
    return lambda answer: np.rint(answer[0]) == number


def _strongest(number: int) -> Choose:
    return lambda answer: (answer.argmax(axis=0) == number) & (answer != 0).any(axis=0)


def _channel(number: int, threshold: float = 0.5) -> Choose:
    return lambda answer: answer[number] >= threshold


def _either(*choices: Choose) -> Choose:
    return lambda answer: np.logical_or.reduce([choose(answer) for choose in choices])


_LABELS = {"block": _label(1), "ball": _label(2)}
_STRONGEST = {"block": _strongest(1), "ball": _strongest(2)}
_NESTED = {"whole": _channel(0), "core": _channel(1)}


def _exclusive(after: list[JsonObject], *before: JsonObject, card: str = SEGMENTS) -> Callable[[Path], Path]:
    return lambda folder: known.known_segmenter(folder, before=before, after=after, card=card)


def _overlapping(
    after: list[JsonObject], *before: JsonObject, card: str = known.NESTED, levels: tuple[float, ...] = (0.4, 0.8),
    slope: float = 400.0, names: Mapping[str, str] | None = None,
) -> Callable[[Path], Path]:  # fmt: skip
    return lambda folder: known.known_segmenter(
        folder, before=before, after=after, card=card, state=known.levels_state(*levels, slope=slope), names=names
    )


def _numbers(folder: Path, card: str, state: Mapping[str, torch.Tensor], after: list[JsonObject]) -> Path:
    """Write a bundle that gives numbers for a whole volume: the mean of parts of it, turned to one orientation."""
    config = {
        "network_def": "$torch.nn.Sequential(torch.nn.AdaptiveAvgPool3d((2, 1, 1)), torch.nn.Flatten(), "
        f"torch.nn.Linear(2, {len(state['2.bias'])}))",
        "preprocessing": compose(*known.LOAD, known.SCALE, known.RAS),
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": compose(*after),
    }
    task = card.replace('task = "', 'input = "volume"\ntask = "')
    return write_bundle(folder, config, state, task + "[gate]\ntest_subjects_allowed = true\n")


def _halves(folder: Path) -> Path:
    """Which half of the body, right or left, holds more."""
    state = {"2.weight": torch.tensor([[9.0, -9.0], [-9.0, 9.0]]), "2.bias": torch.zeros(2)}
    card = TWO_CLASSES.replace("threshold = 0.5\n", "threshold = 0.5\nthreshold-right-half = 0.6\n")
    return _numbers(folder, card, state, [known.SOFTMAX])


def _filled(folder: Path) -> Path:
    """How much of the volume is body, in percent of the densest."""
    state = {"2.weight": torch.full((1, 2), 50.0), "2.bias": torch.zeros(1)}
    return _numbers(folder, A_VALUE, state, [{"_target_": "EnsureTyped", "keys": "pred"}])


def _boxes(after: list[JsonObject], *, at_centres: bool, as_centre: bool) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        made = known.known_detector(folder, after=after, at_centres=at_centres, as_centre=as_centre)
        card = made / "model_card.toml"
        card.write_text(card.read_text().replace('modality = "CT"', 'modality = ["CT", "MR"]'))
        return made

    return write


# --- the bundles -----------------------------------------------------------------------------------------------------

_RESAMPLE = (known.RAS, known.RESAMPLED, known.CROPPED)
_BOTH_LABELS = {**_LABELS, "both": _either(_label(1), _label(2))}
_ALL = ("volume", "diameter", "mean")
_OWN = "[parameters]\nthreshold = 0.5\nthreshold-core = 0.54\n"

SEGMENTERS: Mapping[str, Answered] = {
    "argmax": Answered(write=_exclusive([known.INVERT, known.ARGMAX], known.RAS), structures=_LABELS),
    "argmax, never moved": Answered(write=_exclusive([known.SOFTMAX, known.ARGMAX]), structures=_LABELS),
    "argmax, undone by the node": Answered(
        write=_exclusive([known.SOFTMAX, known.ARGMAX], _LPI, known.CROPPED), structures=_LABELS
    ),
    "softmax alone": Answered(write=_exclusive([known.SOFTMAX, known.INVERT], known.RAS), structures=_STRONGEST),
    "one-hot": Answered(write=_exclusive([known.SOFTMAX, known.INVERT, known.ONE_HOT], _LPI), structures=_STRONGEST),
    "one-hot in a crop": Answered(
        write=_exclusive([known.SOFTMAX, known.ONE_HOT, known.INVERT], known.RAS, known.CROPPED), structures=_STRONGEST
    ),
    "resampled and cropped": Answered(
        write=_exclusive([known.SOFTMAX, known.INVERT, known.ARGMAX], *_RESAMPLE), structures=_LABELS
    ),
    "flipped and turned": Answered(
        write=_exclusive([known.INVERT, known.ARGMAX], known.RAS, _FLIPPED, _TURNED), structures=_LABELS
    ),
    "padded": Answered(write=_exclusive([known.INVERT, known.ARGMAX], _LPI, _PADDED), structures=_LABELS),
    "resized": Answered(
        write=_exclusive([known.SOFTMAX, known.INVERT, known.ARGMAX], known.RAS, _RESIZED), structures=_LABELS
    ),
    "cut to the middle": Answered(
        write=_exclusive([known.SOFTMAX, known.INVERT], known.RAS, _MIDDLE), structures=_STRONGEST
    ),
    "derived sum": Answered(
        write=_exclusive([known.INVERT, known.ARGMAX], known.RAS, card=SEGMENTS + _BOTH),
        structures=_BOTH_LABELS,
        measures={"both": _ALL},
    ),
    "nested, decided": Answered(
        write=_overlapping([known.SIGMOID, known.INVERT, known.THRESHOLD], known.RAS), structures=_NESTED
    ),
    "nested, held against a half": Answered(
        write=_overlapping([known.SIGMOID, known.INVERT], _LPI, known.CROPPED), structures=_NESTED
    ),
    "nested, each against its own": Answered(
        # The sigmoid of the core is 0.5 in no tissue, 0.5498 in the ball and 0.450 in the block.
        write=_overlapping([known.SIGMOID, known.INVERT], known.RAS, card=known.NESTED + _OWN, slope=1.0),
        structures={"whole": _channel(0), "core": _channel(1, 0.54)},
    ),
    "nested, the card's threshold for the bundle's": Answered(
        write=_overlapping(
            [known.SIGMOID, _SOFT_LABELS, known.INVERT], known.RAS, slope=1.0,
            card=known.NESTED + "[parameters]\nthreshold = 0.54\n",
        ),
        structures={},
    ),
    "nested beside a background": Answered(
        write=_overlapping(
            [known.SIGMOID, known.INVERT, known.THRESHOLD], known.RAS, levels=(-0.1, 0.4, 0.8), names=_WITH_BACKGROUND
        ),
        structures={"whole": _channel(1), "core": _channel(2)},
    ),
    "nested, and their sum": Answered(
        write=_overlapping([known.SIGMOID, known.INVERT], known.RAS, card=known.NESTED + _BOTH + _OVERLAP),
        structures={**_NESTED, "both": _either(_channel(0), _channel(1))},
        measures={"both": _ALL},
    ),
    "one structure, measured": Answered(
        write=_overlapping(
            [known.SIGMOID, known.INVERT, known.THRESHOLD], known.RAS, levels=(0.4,),
            card=_ONE.replace("plausible_ml", _MEASURED + "plausible_ml"),
        ),
        structures={"block": _channel(0)},
        measures={"block": _ALL},
    ),
}  # fmt: skip
#: Of the bundle whose threshold the card replaces, MONAI itself answers with another one: what is true is known.
TRUE_TISSUE: Mapping[str, Mapping[str, Callable[[NDArray[np.uint8]], Masks]]] = {
    "nested, the card's threshold for the bundle's": {"whole": lambda tissue: tissue >= 1, "core": lambda t: t == 2}
}
DETECTORS: Mapping[str, Callable[[Path], Path]] = {
    "boxes at edges": _boxes([known.CLIPPED], at_centres=False, as_centre=False),
    "boxes at centres": _boxes([known.TO_WORLD], at_centres=True, as_centre=False),
    "boxes as centre and size": _boxes([known.TO_CORNERS, known.CLIPPED], at_centres=False, as_centre=True),
}
NUMBERS: Mapping[str, Callable[[Path], Path]] = {"classes of a volume": _halves, "a value of a volume": _filled}


# --- what MONAI itself says ------------------------------------------------------------------------------------------


def monai_answer(bundle: Path, place: Placed, folder: Path) -> Answer:
    """Return what MONAI's own pipeline leaves in ``pred`` for the study as a NIfTI file: a segmentation as (channels,
    slices, rows, columns), brought back by MONAI's own `Invertd` where the bundle has none; numbers as they are."""
    from monai.transforms.post.dictionary import Invertd  # noqa: PLC0415 - comes with the inference extra

    parts, data = known.monai_prediction(bundle, place, folder)
    data = parts["postprocessing"](data)
    if data["pred"].ndim == 4 and not any(isinstance(step, Invertd) for step in parts["postprocessing"].transforms):
        data = Invertd(keys="pred", transform=parts["preprocessing"], orig_keys="image", nearest_interp=True)(data)
    found = np.asarray(data["pred"])
    return found.transpose(0, 3, 2, 1) if found.ndim == 4 else found
