"""Numbers held against what the card holds plausible: one that lies outside is withheld, with its reason and all that
was measured of the same thing, for then it is not what it should be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from dicom_node.analysis.answer import Analysis
from dicom_node.core.entities import Finding, Measurement, Presence, Withheld
from dicom_node.core.errors import ModelUnavailable, NotAnalysable
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.cards.outputs import CardCheck, CardMeasurement, PlausibleRange

_REASON = "IMPLAUSIBLE_VALUE"


def held_to_card(answer: Analysis, card: ModelCard) -> Analysis:
    """Return the answer without the numbers that are outside the ranges of the card's `[[measurement]]`.

    Of a finding with such a number none is reported, nor its outline; where it was scored it becomes undetermined.
    Raises `NotAnalysable` (IMPLAUSIBLE_VALUE) when nothing is left that may be reported.
    """
    findings = tuple(held_finding(one, card.measurements) for one in answer.findings)
    refused = {new.key for new, old in zip(findings, answer.findings, strict=True) if new is not old}
    if not refused:
        return answer
    told = _messages(one for one in findings if one.key in refused)
    if all(one.key in refused or not (one.measurements or one.presence) for one in findings):
        raise NotAnalysable(_REASON, " ".join(told))
    return replace(
        answer,
        findings=findings,
        segments=tuple(one for one in answer.segments if one.finding_key not in refused),
        notes=(*answer.notes, *told),
        partial=True,
    )


def held_finding(finding: Finding, ranges: Sequence[CardMeasurement]) -> Finding:
    """Return the finding itself, or without its numbers and outline where one of them is not plausible."""
    refusals = {
        place: limits.plausible.refusal(finding.label, number)
        for place, number in enumerate(finding.measurements)
        for limits in ranges
        if limits.is_of(finding.key, number) and not limits.plausible.hold(number.value)
    }
    if not refusals:
        return finding
    first = finding.measurements[min(refusals)].label
    messages = [
        refusals.get(place, f"{finding.label}: {one.label} is not reported, because {first} is not plausible.")
        for place, one in enumerate(finding.measurements)
    ]
    numbers = zip(finding.measurements, messages, strict=True)
    return replace(
        finding,
        measurements=(),
        withheld=(*(_withheld(one, message) for one, message in numbers), *finding.withheld),
        presence=Presence.UNDETERMINED if finding.presence else None,
        probability=None,
        segment_number=None,
    )


def hold_checks(card: ModelCard, figures: Mapping[str, float]) -> None:
    """Raise `NotAnalysable` with the code of the first `[[check]]` of the card that does not hold; the message tells of
    all. Raises `ModelUnavailable` where the model leaves a number out that the card asks for."""
    failed: list[CardCheck] = []
    for check in card.checks:
        if check.figure not in figures:
            if failed:
                break  # what is no brain has no sides
            raise ModelUnavailable(
                f"Model {card.name} leaves no figure {check.figure!r} but {', '.join(sorted(figures)) or 'none'}. "
                "Correct [[check]] of the card, or the model."
            )
        if not check.plausible.hold(figures[check.figure]):
            failed.append(check)
    if failed:
        raise NotAnalysable(failed[0].code, " ".join(one.refusal(figures[one.figure]) for one in failed))


def held_value(label: str, value: Measurement, plausible: PlausibleRange) -> Withheld | None:
    """Return what stands in place of a number that is outside a range; `None` for one inside."""
    return None if plausible.hold(value.value) else _withheld(value, plausible.refusal(label, value))


def _withheld(measurement: Measurement, message: str) -> Withheld:
    return Withheld(measurement.name, _REASON, message, measurement.derivation)


def _messages(findings: Iterable[Finding]) -> list[str]:
    return [one.message for finding in findings for one in finding.withheld if one.reason == _REASON]
