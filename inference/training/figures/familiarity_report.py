"""How far radiographs lie from the looks a network has seen, and what its scores are worth there.

For each fold the looks are learned from what its member was trained on, and the images of whole other looks are held
against them: so each distance is that of an image whose look and patient were unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from dicom_node.inference.familiarity import BANDS, KnownLooks, rim_of
from dicom_node.inference.training.data import Radiograph
from dicom_node.inference.training.figures import metrics
from dicom_node.inference.training.figures.metrics import Scored
from dicom_node.inference.training.fit import as_tensor
from dicom_node.inference.training.looks import LOOKS, Floats, Fold, known_looks

_Change = Callable[[Tensor], Tensor]

FILE = Path("models") / "looks.safetensors"
_NAMES = ("within the known looks", f"beyond them, up to {BANDS[1]:g} times", f"more than {BANDS[1]:g} times beyond")


def rims_of(radiographs: Sequence[Radiograph], change: _Change = lambda image: image) -> Floats:
    """Describe the rims of (changed) radiographs, (images, features)."""
    return np.stack([rim_of(change(as_tensor(one))[0].numpy()) for one in radiographs])


def looks_of_members(folds: Sequence[Fold], *, seed: int) -> list[KnownLooks]:
    """Return the looks that each member knows: of what it was trained on."""
    return [known_looks(rims_of(fold.training), count=LOOKS, seed=seed) for fold in folds]


def looks_of_ensemble(folds: Sequence[Fold], *, seed: int) -> KnownLooks:
    """Return the looks that ship: of every radiograph, each of which some member was trained on."""
    everything = sorted((one for fold in folds for one in fold.held_out), key=lambda one: one.name)
    return known_looks(rims_of(everything), count=LOOKS, seed=seed)


def share_beyond(folds: Sequence[Fold], known: Sequence[KnownLooks], change: _Change) -> float:
    """Return the share of held-out radiographs, changed in one way, that lie beyond what their member knows."""
    distances = [looks.distances(rims_of(fold.held_out, change)) for fold, looks in zip(folds, known, strict=True)]
    return round(float(np.mean(np.concatenate(distances) >= BANDS[0])), 4)


def by_distance(
    folds: Sequence[Fold], known: Sequence[KnownLooks], chances: Scored, margins: Scored
) -> list[dict[str, float | None]]:
    """Return for each band what held-out scores are worth in it; `chances` and `margins` in the order of the folds."""
    distances = np.concatenate(
        [looks.distances(rims_of(fold.held_out)) for fold, looks in zip(folds, known, strict=True)]
    )
    bands = np.searchsorted(BANDS, distances, side="right")
    return [_worth(_some(chances, bands == band), _some(margins, bands == band)) for band in range(len(BANDS) + 1)]


def _worth(chances: Scored, margins: Scored) -> dict[str, float | None]:
    """Return the figures of one band; nothing where it holds not both normal and ill: it then says nothing."""
    counted = {"images": len(chances.scores), "normal": int((chances.labels == 0).sum())}
    if not 0 < counted["normal"] < counted["images"]:
        return {**counted, **dict.fromkeys(("auroc", "sensitivity", "specificity", "expected_calibration_error"))}
    return counted | {
        name: round(value, 4)
        for name, value in (
            ("auroc", metrics.auroc(chances)),
            ("sensitivity", metrics.sensitivity(margins, 0.0)),
            ("specificity", metrics.specificity(margins, 0.0)),
            ("expected_calibration_error", metrics.expected_calibration_error(chances)),
        )
    }


def _some(scored: Scored, chosen: np.ndarray[Any, np.dtype[np.bool_]]) -> Scored:
    return Scored(labels=scored.labels[chosen], scores=scored.scores[chosen], patients=scored.patients[chosen])


def calibration_errors(measured: Mapping[str, Any]) -> list[float]:
    """Return what the card says of each band; 1, the most there is, where nothing could be measured."""
    found = [one["expected_calibration_error"] for one in measured["by_distance"]]
    return [1.0 if error is None else error for error in found]


def rows(measured: Mapping[str, Any]) -> Iterator[str]:
    """Return the figures as lines of Markdown."""
    yield "| images whose look was held out | number, normal | AUROC | sensitivity | specificity | calibration error |"
    yield "|---|---|---|---|---|---|"
    for name, one in zip(_NAMES, measured["by_distance"], strict=True):
        values = [one[key] for key in ("auroc", "sensitivity", "specificity", "expected_calibration_error")]
        shown = " | ".join("too few" if value is None else f"{value:.3f}" for value in values)
        yield f"| {name} | {one['images']}, {one['normal']} | {shown} |"
    yield ""
    yield "| the same images, changed | beyond the known looks |"
    yield "|---|---|"
    for name, share in measured["beyond"].items():
        yield f"| {name} | {share:.1%} |"
