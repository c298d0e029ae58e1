"""Try a MONAI Bundle before there is a card for it: load it, run it once on a phantom of fitting shape, tell what came.

It runs in a process of its own, confined as far as this system can: nobody has read its code, perhaps.
The weights are those the network starts with unless the folder has a card that names some, so the answer means
nothing; that it comes back on the phantom's own pixels is what is tried.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from dicom_node.core.errors import InferenceError, NodeError
from dicom_node.inference.cards.card import CARD_NAME, TASK_INPUTS, load_card
from dicom_node.inference.prediction import ModelInput, Prediction
from dicom_node.sandbox.confinement import Confinement
from dicom_node.sandbox.host import ProcessLimits, Sandbox

_LIMITS = ProcessLimits(time_s=1800.0)

#: Slices, rows and columns of a volume; rows and columns of a picture.
_VOLUME, _PICTURE = (32, 64, 72), (128, 144)
_SPACING_MM = (2.5, 1.5, 1.4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What became of one bundle: `given` (channels, …), what came out, or the problem; times in seconds."""

    folder: Path
    task: str
    given: tuple[int, ...]
    result: str = ""
    problem: str = ""
    load_s: float = 0.0
    run_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialOptions:
    """What the bundle's metadata do not tell, or tell wrongly: its task, which entry holds the answer, the shape to
    give it, where to run it."""

    task: str = ""
    output: str = "pred"
    shape: tuple[int, ...] = ()
    device: str = "cpu"


def try_bundles(folders: Sequence[Path], options: TrialOptions) -> Iterator[Trial]:
    """Try each bundle in a confined process. What goes wrong is part of the answer."""
    with (
        tempfile.TemporaryDirectory(prefix="dicom-node-trial-") as made,
        Sandbox(
            "dicom_node.inference.trial:tried", answer=Trial, limits=_LIMITS,
            confinement=Confinement(Path(made), tuple(folders)),
        ) as sandbox,
    ):  # fmt: skip
        for folder in folders:
            try:
                yield cast(Trial, sandbox.run((folder, options)))
            except InferenceError as error:
                yield Trial(folder=folder, task=options.task, given=options.shape, problem=str(error))


def tried(question: tuple[Path, TrialOptions]) -> Trial:
    """Try one bundle; runs in the confined process."""
    return try_bundle(*question)


def try_bundle(folder: Path, options: TrialOptions) -> Trial:
    """Load and run a bundle once, in this process. What goes wrong is part of the answer."""
    # MONAI takes seconds to load, and the command line imports this module for its other commands.
    from dicom_node.inference.runtimes.channels import ChannelEvidence, evidence_of_card  # noqa: PLC0415
    from dicom_node.inference.runtimes.monai_bundle.model import WantedAnswer, open_bundle  # noqa: PLC0415
    from dicom_node.inference.runtimes.weights import read_state  # noqa: PLC0415

    expected = _expected(folder)
    task = options.task or _task_of_card(folder) or _task(expected)
    shape = options.shape or _shape(folder, expected)
    if not task:
        problem = f"Neither a card nor its metadata name one of {', '.join(TASK_INPUTS)}: name it by --task."
        return Trial(folder=folder, task="", given=shape, problem=problem)
    started = loaded = time.perf_counter()
    try:
        card = load_card(folder) if (folder / CARD_NAME).is_file() else None
        said = evidence_of_card(card) if card and task == card.task == "segmentation" else ChannelEvidence()
        scale = card.preprocessing.range if card and card.preprocessing else None
        wanted = WantedAnswer(task=task, output=options.output, channels=said, picture_range=scale)
        weights = card.weights_file if card else None
        model = open_bundle(folder, options.device, wanted, read_state(weights) if weights else None)
        loaded = time.perf_counter()
        (prediction,) = model.predict([phantom(shape)])
    except NodeError as error:
        return Trial(folder=folder, task=task, given=shape, problem=str(error), load_s=loaded - started)
    ended = time.perf_counter()
    told = "; ".join((describe(prediction), *model.understood))
    return Trial(folder=folder, task=task, given=shape, result=told, load_s=loaded - started, run_s=ended - loaded)


def phantom(shape: tuple[int, ...]) -> ModelInput:
    """Make an asymmetric body with some noise, (channels, [slices,] rows, columns): Hounsfield units for a volume,
    oblique in the patient, and 0..1 for a picture. Equal shapes give equal values."""
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape[1:]), indexing="ij")
    body = (np.sum(np.square(axes), axis=0) < 0.8).astype(np.float32)
    lump = (np.sum([np.square(axis - 0.3) for axis in axes], axis=0) < 0.06).astype(np.float32)
    noise = np.random.default_rng(1).normal(0.0, 0.02, shape).astype(np.float32)
    values = np.clip(0.55 * body + 0.3 * lump + noise, 0.0, 1.0).astype(np.float32)
    if len(shape) == 3:
        return ModelInput(values=values)
    dz, dy, dx = _SPACING_MM
    turn = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3] = turn * np.array([dx, dy, dz])
    affine[:3, 3] = (-60.0, -45.0, 20.0)
    return ModelInput(values=values * 1400.0 - 1000.0, affine_lps_mm=affine)


def describe(prediction: Prediction) -> str:
    """Say what came back, in numbers a person can compare."""
    if prediction.masks is not None:
        shape = next(iter(prediction.masks.values())).shape
        held = ", ".join(str(value) for value, mask in sorted(prediction.masks.items())[:8] if mask.any())
        return f"structures {held or 'none'} of {len(prediction.masks)} on {'x'.join(map(str, shape))} voxels"
    if prediction.labels is not None:
        found = np.unique(prediction.labels).tolist()
        told = ", ".join(map(str, found[:8])) + (" …" if len(found) > 8 else "")
        return f"classes {told} on {'x'.join(map(str, prediction.labels.shape))} voxels"
    if prediction.scores is not None:
        return "values " + ", ".join(f"{value:.3f}" for value in prediction.scores[:8])
    best = max((box.score for box in prediction.boxes), default=0.0)
    return f"{len(prediction.boxes)} boxes, best score {best:.2f}"


def _expected(folder: Path) -> Mapping[str, Any]:
    try:
        found = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    formats = found.get("network_data_format")
    return formats if isinstance(formats, dict) else {}


def _entry(expected: Mapping[str, Any], part: str, name: str) -> Mapping[str, Any]:
    entries = expected.get(part)
    found = entries.get(name) if isinstance(entries, dict) else None
    return found if isinstance(found, dict) else {}


def _task_of_card(folder: Path) -> str:
    """Return the task that the folder's card names, if there is one and bundles can have it."""
    try:
        task = load_card(folder).task if (folder / CARD_NAME).is_file() else ""
    except NodeError:
        return ""  # whatever is wrong with the card is told where the bundle is tried
    return task if task in TASK_INPUTS else ""


def _task(expected: Mapping[str, Any]) -> str:
    output = _entry(expected, "outputs", "pred")
    kind, written = str(output.get("type")), str(output.get("format"))
    if kind == "object":
        return "detection"
    if written == "segmentation" or (kind == "image" and written == "labels"):
        return "segmentation"
    return "classification" if written in {"classes", "classification"} else ""


def _shape(folder: Path, expected: Mapping[str, Any]) -> tuple[int, ...]:
    from dicom_node.inference.runtimes.monai_bundle.config import read_config  # noqa: PLC0415 - as above

    source = _entry(expected, "inputs", "image")
    channels, sizes = source.get("num_channels", 1), source.get("spatial_shape", [])
    try:
        by_slices = read_config(folder, "cpu").mentions("SliceInferer")
    except NodeError:
        by_slices = False
    volume = by_slices or not isinstance(sizes, list) or len(sizes) != 2
    return (channels if isinstance(channels, int) else 1, *(_VOLUME if volume else _PICTURE))
