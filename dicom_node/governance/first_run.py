"""Run a model once on a phantom made to fit its card: what cannot run must not go live.

No answer is expected of it, for nobody knows what it should say of a phantom; that it says something is what is tried:
that its weights fit its network, the network its input, and what it gives its card; and that it says the same again.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from dicom_node.core.errors import InferenceError
from dicom_node.governance.golden import GoldenOutcome, Phantom, keep_pictures, written
from dicom_node.governance.model_probe import Look, ModelProbe
from dicom_node.inference.cards.card import TASK_INPUTS, ModelCard

_NAME, _FILE = "runs on a phantom", "(made for the card)"
_RADIOGRAPHS = frozenset({"CR", "DX", "DR", "RG"})
#: Graphics cards add up in any order.
_SAME = 1e-3
_SLICES, _ROWS, _SPACING_MM = 32, 128, 10.0
#: Of an adult's head. A network over it takes a third of the time that golden studies take, and runs or does not.
_HEAD_SCALE = 0.5
#: Why a network was not run at all; other refusals are about what it said of a phantom.
_NOT_RUN = frozenset({"CHANNELS_MISSING", "WRONG_CHANNELS", "WRONG_DIMENSIONS", "NO_POSITION", "VOLUME_TOO_SMALL"})


def first_run(
    card: ModelCard, phantoms: Mapping[str, Phantom], asker: ModelProbe, pictures: Path | None = None
) -> GoldenOutcome:
    """Build the model and run it, twice on the same images, and leave pictures of its answer in a folder, where one is
    named; the difference, if there is one, says why it cannot run."""
    with tempfile.TemporaryDirectory(prefix="first-run-") as made:
        files = list(written(fitting_phantom(card, phantoms), Path(made)))
        out_dir = Path(made, "out")
        out_dir.mkdir()
        try:
            answer = asker.ask(files, {}, out_dir, Look(gated=False, closer=True))
            again = asker.ask(files, {}, out_dir, Look(gated=False))
        except InferenceError as error:
            return GoldenOutcome(_NAME, _FILE, [f"it does not run: {error}"], {})
        keep_pictures(out_dir, pictures, "first-run")
    not_run = card.task in TASK_INPUTS and answer.get("reason") in _NOT_RUN
    differences = [f"it was not run: {answer['message']}"] if not_run else []
    if not _agree(_numbers(answer), _numbers(again)):
        differences.append("it gave two answers about one study: something in it draws by lot, such as a dropout")
    return GoldenOutcome(_NAME, _FILE, differences, answer, answer.get("understood", ()))


def _numbers(answer: Mapping[str, Any]) -> list[float]:
    """Return all numbers of an answer, in order."""
    found: list[float] = []
    for finding in answer.get("findings", ()):
        found += [finding["probability"] or 0.0, *(float(one["value"] or 0.0) for one in finding["measurements"])]
    return found


def _agree(numbers: Sequence[float], others: Sequence[float]) -> bool:
    return len(numbers) == len(others) and all(
        math.isclose(one, other, rel_tol=_SAME, abs_tol=_SAME) for one, other in zip(numbers, others, strict=True)
    )


def fitting_phantom(card: ModelCard, phantoms: Mapping[str, Phantom]) -> Sequence[Dataset]:
    """Return images of the kind the card is given: a radiograph, a head on MR where its gate asks for a weighting, or a
    chest CT with slices as many and as near as its gate asks for."""
    modalities = card.accepted_modalities
    if card.gate.weighting:
        return phantoms["head-mr"](scale=_HEAD_SCALE).images
    if card.input == "image" or (not card.input and modalities and modalities <= _RADIOGRAPHS):
        return phantoms["chest-radiograph"]().images
    spacing_mm = min(_SPACING_MM, card.gate.max_slice_spacing_mm or _SPACING_MM)
    slices = max(_SLICES, card.gate.min_slices)
    return phantoms["chest-ct"](slices=slices, rows=_ROWS, slice_spacing_mm=spacing_mm).images
