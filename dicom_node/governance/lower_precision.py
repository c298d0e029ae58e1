"""A model that computes in less than float32 is held against itself in float32 before it goes live.

Compared is what a report would say: states, presences, probabilities and measurements of the same studies, on this
machine. A card that names a precision has to say how far off it may be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dicom_node.governance.golden import GoldenOutcome
from dicom_node.inference.cards.card import ModelCard


@dataclass(frozen=True, slots=True)
class _Number:
    """A number of an answer: of what, and whether it is a probability, which is compared as it is."""

    name: str
    value: float
    is_probability: bool

    def distance(self, other: float) -> float:
        """How far another value is from this one, of a measurement as a share of the larger."""
        apart = abs(self.value - other)
        return apart if self.is_probability else apart / max(abs(self.value), abs(other), 1e-12)


def held_to_float32(
    card: ModelCard, lower: Sequence[GoldenOutcome], full: Sequence[GoldenOutcome]
) -> Sequence[GoldenOutcome]:
    """Return the outcomes of the card's precision, each with its distance from that of the same study in float32; where
    it is more than the card tolerates, that is a difference."""
    return [_held(card, *pair) for pair in zip(lower, full, strict=True)]


def _held(card: ModelCard, lower: GoldenOutcome, full: GoldenOutcome) -> GoldenOutcome:
    if not (lower.answer and full.answer):
        return lower  # it did not run, which is said already
    differences = list(lower.differences)
    if _words(lower.answer) != _words(full.answer):
        differences.append(f"in {card.precision} it says {_words(lower.answer)}, in float32 {_words(full.answer)}")
    distances = _distances(lower.answer, full.answer)
    if not distances:
        return replace(lower, differences=differences)
    name = max(distances, key=lambda key: distances[key])
    told = (
        f"{card.precision} is at most {distances[name]:.2g} from float32, in {name}; {card.precision_tolerance:g} is "
        "tolerated"
    )
    if distances[name] <= card.precision_tolerance:
        return replace(lower, differences=differences, told=[*lower.told, told])
    advice = "Take precision out of the card, or measure what it costs and set precision_tolerance"
    return replace(lower, differences=[*differences, f"{told}. {advice}"])


def _distances(lower: Mapping[str, Any], full: Mapping[str, Any]) -> dict[str, float]:
    """Return how far each number that both answers have is from float32, by its name."""
    known = {one.name: one for one in _numbers(full)}
    return {one.name: known[one.name].distance(one.value) for one in _numbers(lower) if one.name in known}


def _words(answer: Mapping[str, Any]) -> str:
    """Return what an answer says without numbers."""
    findings = answer.get("findings", ())
    said = [f"{one['key']} {one['presence'] or 'measured'} {len(one['measurements'])}" for one in findings]
    return "; ".join([str(answer.get("reason") or answer["state"]), *said])


def _numbers(answer: Mapping[str, Any]) -> Iterator[_Number]:
    for finding in answer.get("findings", ()):
        if finding["probability"] is not None:
            yield _Number(f"the probability of {finding['key']}", finding["probability"], is_probability=True)
        for place, one in enumerate(finding["measurements"]):
            if one["value"] is not None:
                yield _Number(f"{one['label']} of {finding['key']} ({place + 1})", one["value"], is_probability=False)
