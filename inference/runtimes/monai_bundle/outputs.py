"""What a bundle's network gave, after its own postprocessing, on the pixels of the source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data.box_utils import convert_box_to_standard_mode
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import to_affine_nd
from monai.transforms.post.dictionary import AsDiscreted, Invertd
from numpy.typing import NDArray

from dicom_node.core.errors import ModelUnavailable
from dicom_node.inference.prediction import Box, Prediction
from dicom_node.inference.runtimes.channels import ChannelEvidence, chances_by_value, outlined, whole_labels
from dicom_node.inference.runtimes.monai_bundle.config import Loading
from dicom_node.inference.runtimes.monai_bundle.inputs import source_order

#: Boxes are mapped to source pixels by the node; after this they would be in another space.
_TO_WORLD = "AffineBoxToWorld"
#: Changes how a box is written. The node holds boxes as low and high corners from the first of these on.
_REWRITES_BOXES = "ConvertBox"
_LEFT_OUT = (_TO_WORLD, "DeleteItems")
_AFFINE_MM = 1e-2
#: The entry in which a postprocessing may leave numbers about its answer, for `[[check]]` of the card.
FIGURES = "figures"

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SourceAxes:
    """The input in the order of MONAI's axes: its sizes and affine, and whether it is a volume."""

    sizes: tuple[int, ...]
    affine_ras: NDArray[np.float64]
    volume: bool


@dataclass(frozen=True, slots=True)
class Finished:
    """The data after postprocessing. `soft` is what was there before it was made discrete: activated values.

    `boxes_at_centres`: whether a whole number in a box is the centre of a voxel, and not its outer edge.
    """

    data: dict[str, Any]
    inverted: bool
    soft: Any = None
    soft_inverted: bool = False
    boxes_at_centres: bool = False


def finish(steps: Sequence[Any], data: dict[str, Any], *, keep_soft: bool = True) -> Finished:
    """Run the postprocessing step by step, keeping the values from which a decision was made.

    Without `keep_soft` many classes are brought back one by one: the same result, without holding a hundred volumes.
    """
    soft, bounded, activated, inverted, soft_inverted, decided = None, False, False, False, False, False
    data, steps = _with_corners(steps, data)
    for place, step in enumerate(steps):
        name = type(step).__name__
        if name.startswith(_LEFT_OUT) or decided:
            decided = False
            continue
        if name.startswith("AsDiscrete") and activated and soft is None and keep_soft:
            soft, soft_inverted = _chances(data["pred"], bounded), inverted
        decided = not keep_soft and isinstance(step, Invertd) and _is_argmax(steps[place + 1 : place + 2])
        data = {**data, "pred": _strongest_inverted(step, data)} if decided else step(data)
        if name.startswith("Activations"):
            activated, bounded = True, _are_chances(data["pred"])
        inverted = inverted or isinstance(step, Invertd)
    if soft is None and bounded and inverted and keep_soft:
        soft, soft_inverted = _chances(data["pred"], bounded), True
    return Finished(data, inverted, soft, soft_inverted, _in_world(steps))


def _chances(values: Any, bounded: bool) -> Any:
    """Return values that were between 0 and 1 as such: a spline that brings them back bends them beyond."""
    return values.clamp(0, 1) if bounded else values


def _are_chances(values: Any) -> bool:
    return isinstance(values, torch.Tensor) and bool(((values >= 0) & (values <= 1)).all())


def _in_world(steps: Sequence[Any]) -> bool:
    """A bundle that takes its boxes to the patient by the affine of the image means by a whole number what the affine
    does: the centre of a voxel. Others mean what MONAI's masks, zooms and anchors do: its outer edge."""
    return any(type(step).__name__.startswith(_TO_WORLD) for step in steps)


def _with_corners(steps: Sequence[Any], data: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """Return the boxes as corners, whatever the network writes them in, and the steps without those that rewrite them.

    How the network writes them, the first step that rewrites them says.
    """
    rewriting = [step for step in steps if type(step).__name__.startswith(_REWRITES_BOXES)]
    if not rewriting:
        return data, list(steps)
    first = rewriting[0]
    written = getattr(first.converter, "src_mode", None) or getattr(first.converter, "mode", None)
    corners = {key: convert_box_to_standard_mode(data[key], written) for key in first.keys if key in data}
    return {**data, **corners}, [step for step in steps if step not in rewriting]


def _is_argmax(following: Sequence[Any]) -> bool:
    """Tell whether the next step takes the strongest class and does nothing else."""
    if not following or not isinstance(following[0], AsDiscreted):
        return False
    step = following[0]
    further = [*step.to_onehot, *step.threshold, *step.rounding]
    return tuple(step.keys) == ("pred",) and tuple(step.argmax) == (True,) and further == [None] * 3


def _strongest_inverted(inverse: Any, data: dict[str, Any]) -> Any:
    """Bring each channel back by itself; return the number of the strongest per voxel, the first where equal."""
    pred = data["pred"]
    best = inverse({**data, "pred": pred[:1]})["pred"]
    classes = torch.zeros_like(best)
    for channel in range(1, pred.shape[0]):
        values = inverse({**data, "pred": pred[channel : channel + 1]})["pred"]
        classes[values > best] = channel
        best = torch.maximum(best, values)
    return classes


def label_inversions_nearest(steps: Sequence[Any]) -> None:
    """Have classes brought back by nearest neighbour, also where a bundle asks to interpolate between them."""
    discrete = False
    for step in steps:
        discrete = discrete or type(step).__name__.startswith("AsDiscrete")
        if discrete and isinstance(step, Invertd):
            step.nearest_interp = tuple(True for _ in step.nearest_interp)


def check_numbers(values: torch.Tensor) -> torch.Tensor:
    """Return the values as they are. Raises `ModelUnavailable` for not-a-number and infinity, of which a later step
    would make a class."""
    if not bool(torch.isfinite(values).all()):
        raise ModelUnavailable("The bundle's network gave not-a-number or infinity. Its weights may be damaged.")
    return values


def scores_of(finished: Finished, output: str) -> Floats:
    """Return the outputs of a classifier or a regression: before a decision was made of them, if one was."""
    values = finished.data[output] if finished.soft is None else finished.soft
    return check_numbers(_plain(values)).cpu().numpy().astype(np.float32).ravel()


# --- masks -------------------------------------------------------------------------------------------------------


def structures_of(values: Any, source: SourceAxes, loading: Loading, known: ChannelEvidence) -> Prediction:
    """Return what every voxel belongs to. Raises `ModelUnavailable` where it is not known what the channels mean, and
    unless `values` lies on the source: an inverse that went wrong must never be shown on an image."""
    _check_place(values, source)
    ordered = source_order(check_numbers(_plain(values).float()).cpu().numpy(), loading, source.volume)
    if ordered.shape[0] > 1:
        return outlined(ordered, known.meaning(ordered.shape[0]))
    labels = whole_labels(ordered[0])
    if labels is not None:
        return Prediction(labels=labels)
    if known.exclusive is not False or ordered.min() < 0.0 or ordered.max() > 1.0:
        raise ModelUnavailable(
            "The bundle's result is one channel that holds neither classes 0 to 255 nor, as far as is known, "
            "probabilities. Its postprocessing must end in AsDiscrete; or say in the card: [output] channels = "
            '"overlapping".'
        )
    return outlined(ordered, known.meaning(1))


def probabilities_of(values: Any, source: SourceAxes, loading: Loading, known: ChannelEvidence) -> Floats | None:
    """Return (values, slices, rows, columns), background first, `None` unless `values` are probabilities there."""
    plain = _plain(values).float().cpu().numpy()
    if tuple(plain.shape[1:]) != source.sizes or plain.min() < -1e-3 or plain.max() > 1 + 1e-3:
        return None
    ordered = np.clip(source_order(plain, loading, source.volume), 0.0, 1.0).astype(np.float32)
    return chances_by_value(ordered, known.meaning(len(ordered)))


def figures_of(data: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers that the postprocessing left about the answer, in the entry `figures`; empty without."""
    left = data.get(FIGURES)
    return {str(name): float(value) for name, value in left.items()} if isinstance(left, Mapping) else {}


def _check_place(values: Any, source: SourceAxes) -> None:
    if tuple(values.shape[1:]) != source.sizes:
        raise ModelUnavailable(
            f"The bundle's result has {tuple(values.shape[1:])} voxels where the images have {source.sizes}. Its "
            "postprocessing must undo its preprocessing (Invertd), or its preprocessing be invertible."
        )
    affine = getattr(values, "affine", None)
    if source.volume and affine is not None and not np.allclose(_array(affine), source.affine_ras, atol=_AFFINE_MM):
        raise ModelUnavailable("The bundle's result lies elsewhere in the patient than the images. Check its Invertd.")


# --- boxes -------------------------------------------------------------------------------------------------------


def boxes_of(finished: Finished, image: MetaTensor, source: SourceAxes, upright: bool) -> tuple[Box, ...]:
    """Return the boxes on source pixels, best first. Raises `ModelUnavailable` for a result without boxes."""
    found = {part: _entry(finished.data, part) for part in ("box", "label", "score")}
    corners = _plain(found["box"]).double().cpu().numpy().reshape(-1, 2 * len(source.sizes))
    low, high = _on_source(corners + (0.5 if finished.boxes_at_centres else 0.0), image, source)
    labels, scores = (_plain(found[part]).cpu().numpy().ravel() for part in ("label", "score"))
    boxes = [
        Box(int(label), float(score), _corner(one_low, upright, 0.0), _corner(one_high, upright, 1.0))
        for label, score, one_low, one_high in zip(labels, scores, low, high, strict=True)
        if (one_high - one_low).min() > 0
    ]
    return tuple(sorted(boxes, key=lambda box: (-box.score, box.output_index, box.low_xyz_px)))


def _entry(data: dict[str, Any], part: str) -> Any:
    names = [name for name in data if part in name and (part == "score") == ("score" in name)]
    if not names:
        raise ModelUnavailable(
            f"The bundle's detector gave no {part}. Its result must name box, label and label_scores."
        )
    return data[names[0]]


def _on_source(corners: NDArray[np.float64], image: MetaTensor, source: SourceAxes) -> tuple[Any, Any]:
    """Take boxes (n, low and high corner) of the network's image to the source; edges are outer voxel edges."""
    rank = len(source.sizes)
    to_source = np.linalg.inv(to_affine_nd(rank, source.affine_ras)) @ to_affine_nd(rank, _array(image.affine))
    choices = np.array(np.meshgrid(*[[0, 1]] * rank, indexing="ij")).reshape(rank, -1).T
    low_high = corners.reshape(-1, 2, rank)
    all_corners = low_high[:, choices, np.arange(rank)] - 0.5
    moved = all_corners @ to_source[:rank, :rank].T + to_source[:rank, rank] + 0.5
    return np.clip(moved.min(axis=1), 0, source.sizes), np.clip(moved.max(axis=1), 0, source.sizes)


def _corner(values: NDArray[np.float64], upright: bool, missing: float) -> tuple[float, float, float]:
    x, y, *rest = (float(value) for value in values)
    return (y, x, missing) if upright and not rest else (x, y, rest[0] if rest else missing)


def _plain(values: Any) -> torch.Tensor:
    return torch.as_tensor(values).as_subclass(torch.Tensor).detach()


def _array(values: Any) -> NDArray[np.float64]:
    found: NDArray[np.float64] = _plain(values).cpu().numpy().astype(np.float64)
    return found
