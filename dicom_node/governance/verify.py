"""Look at a model folder before it is trusted: card, codes, predicates, files, weights, golden studies.

Nothing of the model is run and torch is not loaded here; the weights are read in a worker process with limits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import ModelUnavailable, NodeError, SettingsError, WorkerDied
from dicom_node.governance.codes import code_problems
from dicom_node.governance.golden_cases import load_cases
from dicom_node.headers import ROUTING_KEYWORDS, snake_case
from dicom_node.inference.cards.card import ModelCard, load_card
from dicom_node.inference.workers.sandbox import Sandbox
from dicom_node.predicates import check_conditions
from dicom_node.routing import OWN_ATTRIBUTES, check_rank

_TIME_LIMIT_S = 300.0
_MEMORY_LIMIT_MB = 16384


@dataclass(frozen=True, slots=True)
class Point:
    """One thing that was looked at: whether it is well, and what was seen."""

    name: str
    ok: bool
    text: str


def verify_folder(folder: Path) -> Sequence[Point]:
    """Look at everything that can be known without running the model; each point says what is wrong and what to do."""
    try:
        card = load_card(folder)
    except (SettingsError, ModelUnavailable) as error:
        return [Point("card", False, str(error))]
    points = [Point("card", True, f"{card.name} {card.version}, {card.runtime}, {card.task}")]
    points += [_point(name, check, card) for name, check in _CHECKS.items()]
    digest_is_right = next(point.ok for point in points if point.name == "weights")
    if card.weights_file is not None and digest_is_right:
        points.append(_point("loading", _loading, card))
    return points


def _point(name: str, check: Callable[[ModelCard], str], card: ModelCard) -> Point:
    try:
        return Point(name, True, check(card))
    except NodeError as error:
        return Point(name, False, str(error))


def _codes(card: ModelCard) -> str:
    problems = list(code_problems(card))
    if problems:
        raise SettingsError(f"{'; '.join(problems)}. Correct the code; a wrong one names another finding.")
    return f"{len(card.findings) + len(card.segments)} outputs in coded words"


def _accepts(card: ModelCard) -> str:
    known = {snake_case(keyword) for keyword in ROUTING_KEYWORDS} | OWN_ATTRIBUTES
    for conditions in card.accepts:
        check_conditions(conditions, known)
    check_rank(card.rank, known)
    if not card.accepts:
        return "no [[accepts]]: whatever its route gives it"
    return f"{len(card.accepts)} alternatives"


def _files(card: ModelCard) -> str:
    return f"folder digest {card.folder_digest}"


def _weights(card: ModelCard) -> str:
    card.verify_weights()
    return f"sha256 {card.weights_sha256[:16]}…" if card.weights_file else "none"


def _golden(card: ModelCard) -> str:
    count = len(load_cases(card))
    return f"{count} golden studies" if count else "no golden studies: it can only be activated with --without-golden"


def _loading(card: ModelCard) -> str:
    target = "dicom_node.governance.weights_look:look"
    with Sandbox(target, time_limit_s=_TIME_LIMIT_S, memory_limit_mb=_MEMORY_LIMIT_MB) as sandbox:
        try:
            return str(sandbox.run(card.folder))
        except WorkerDied as error:
            raise ModelUnavailable(f"Reading the weights ended the process that read them. {error}") from error


_CHECKS: dict[str, Callable[[ModelCard], str]] = {
    "files": _files,
    "codes": _codes,
    "accepts": _accepts,
    "weights": _weights,
    "golden": _golden,
}
