"""OBX: what the result says, one observation after the other; the first says whether a physician answers for it."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.analysis.context import ReportContext
from dicom_node.analysis.written import WrittenObject
from dicom_node.core.assessment.review import Review, ReviewedFinding
from dicom_node.core.codes import (
    DECISION_THRESHOLD,
    DIAGNOSTIC_IMAGING_STUDY,
    PERCENT,
    PRESENCE_CODES,
    PRIVATE_SCHEME,
    PURPOSE_OF_ANALYSIS,
    score_code,
)
from dicom_node.core.entities import ArtifactKind, Code, Finding, Measurement, ModelIdentity, Withheld
from dicom_node.fhir.builders.facts import ReportFacts
from dicom_node.fhir.builders.terms import LATERALITY, PROCEDURE_FINDINGS, STUDY
from dicom_node.fhir.builders.wording import (
    NOT_MEASURABLE,
    change_lines,
    conclusion_lines,
    not_analysed_text,
    percent,
)
from dicom_node.fhir.hl7.grammar import Er7, coded, cut, field, number, readable_id, repeated

FINDING_SITE = Code("363698007", "SCT", "Finding site")
NOTICE = Code("ai-notice", PRIVATE_SCHEME, "AI result, not verified")
REVIEWED = Code("ai-reviewed", PRIVATE_SCHEME, "AI result, reviewed and verified")
SAID_BY_MODEL = Code("said-by-model", PRIVATE_SCHEME, "What the model had said")
WITHDRAWN = Code("ai-withdrawn", PRIVATE_SCHEME, "AI result, withdrawn")
REPLACES = Code("ai-replaces", PRIVATE_SCHEME, "Replaces")
#: NM is a number of 16 digits (2.A.47) and has no exponent: one that needs far more would be cut, or break a receiver.
_MOST_DIGITS = 32
#: Before whatever a person reads first.
NOT_VERIFIED = "AI result, NOT VERIFIED."


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One OBX: its data type (table 0125), what it is about, which of several such it is, and what it says.

    `about`, `value` and `unit` are fields as they stand in the message. `sub_id` ties together what is about one
    finding.
    """

    type: str
    about: Er7
    value: str
    sub_id: str = ""
    unit: str = ""
    #: Whose word it is: the finding's key, where a finding's it is.
    finding_key: str = ""


def observations(
    facts: ReportFacts, answer: Analysis | NotAnalysed, context: ReportContext, written: Sequence[WrittenObject]
) -> list[Observation]:
    """Return everything there is to say, in the order in which people read it."""
    incomplete = context.study_partial or (isinstance(answer, Analysis) and answer.partial)
    lines = conclusion_lines(answer, incomplete=incomplete, review=facts.review)
    told = [
        _notice(facts),
        text(DIAGNOSTIC_IMAGING_STUDY, *lines, *_limits(facts.model)),
        Observation(type="HD", about=coded(STUDY), value=field("", facts.study_instance_uid, "ISO")),
        *_purpose(context.purpose),
        *([text(REPLACES, facts.replaces or "An earlier result of this study and route")] if context.replaced else []),
        *(_not_analysed(answer) if isinstance(answer, NotAnalysed) else _findings(answer, facts.review)),
        *_documents(written),
    ]
    return list(_told_apart(told))


def _notice(facts: ReportFacts) -> Observation:
    by = f"By {facts.model.name} {facts.model.version}."
    if facts.review is not None:
        return text(REVIEWED, f"{facts.warning} {by}")
    return text(NOTICE, f"{NOT_VERIFIED} {facts.warning} {by}")


def _purpose(purpose: str) -> Iterator[Observation]:
    """Say what the analysis is for, where somebody has said so; why it is wanted stands in OBR-31."""
    if purpose:
        meant = coded(Code(purpose, PRIVATE_SCHEME, purpose))
        yield Observation(type="CWE", about=coded(PURPOSE_OF_ANALYSIS), value=meant)


def text(about: Code, *lines: str) -> Observation:
    """Return words; each line is a repetition, which in TX is a hard line end (2.A.78)."""
    return Observation(type="TX", about=coded(about), value=repeated(*lines))


def _limits(model: ModelIdentity) -> list[str]:
    return [f"Limits: {model.limits}"] if model.limits else []


def _not_analysed(answer: NotAnalysed) -> list[Observation]:
    """Say why there is no finding, where a receiver that reads codes alone would look for findings."""
    return [text(PROCEDURE_FINDINGS, not_analysed_text(answer))]


def _findings(answer: Analysis, review: Review | None) -> Iterator[Observation]:
    for finding in answer.findings:
        sub_id = readable_id(finding.key)
        told = [*_finding(finding, answer.model), *(_changes(review.of(finding.key), answer.model) if review else ())]
        yield from (replace(one, sub_id=sub_id, finding_key=finding.key) for one in told)


def _changes(reviewed: ReviewedFinding, model: ModelIdentity) -> Iterator[Observation]:
    """Yield what became of a finding in the review, with what the model had said."""
    if reviewed.is_changed:
        yield text(SAID_BY_MODEL, *change_lines(reviewed, model))


def _finding(finding: Finding, model: ModelIdentity) -> Iterator[Observation]:
    own = Code(readable_id(finding.key), PRIVATE_SCHEME, finding.label)
    if finding.presence is not None:
        yield Observation(type="CWE", about=coded(finding.code, own), value=coded(PRESENCE_CODES[finding.presence]))
    yield Observation(type="CWE", about=coded(FINDING_SITE), value=coded(finding.site))
    if finding.laterality is not None:
        yield Observation(type="CWE", about=coded(LATERALITY), value=coded(finding.laterality))
    yield from _score(finding, model)
    for measurement in finding.measurements:
        yield _number(_measured(finding, measurement), measurement.value, measurement.unit)
    for withheld in finding.withheld:
        why = f"not reported: {withheld.message} ({withheld.reason})"
        yield Observation(type="TX", about=_measured(finding, withheld), value=why)


def _score(finding: Finding, model: ModelIdentity) -> Iterator[Observation]:
    """Yield the score by its name, and the threshold as an observation: as reference range it would read as normal."""
    if finding.probability is None:
        return
    own = Code(readable_id(f"{finding.key}.score"), PRIVATE_SCHEME, f"{finding.label}: score")
    yield _number(coded(score_code(finding, model), own), percent_or_nan(finding.probability), PERCENT)
    if finding.threshold is not None and math.isfinite(finding.threshold):
        yield _number(coded(DECISION_THRESHOLD), percent(finding.threshold), PERCENT)


def percent_or_nan(probability: float) -> float:
    """Return a probability as a percentage, or what is no number as it is."""
    return percent(probability) if math.isfinite(probability) else probability


def _measured(finding: Finding, measurement: Measurement | Withheld) -> Er7:
    """Return what a number means, with a code of this project for it and its derivation in one, as in FHIR; and the
    model's own code for the number of this very finding: both lungs have a volume."""
    name, derivation = measurement.name, measurement.derivation
    if derivation is not None:
        name = Code(f"{derivation.value}-{name.value}", PRIVATE_SCHEME, measurement.label)
    own = readable_id(f"{finding.key}.{name.value}")
    return coded(name, Code(own, PRIVATE_SCHEME, f"{finding.label}: {measurement.label}"))


def _number(about: Er7, amount: float, unit: Code) -> Observation:
    if not math.isfinite(amount):
        return Observation(type="TX", about=about, value=NOT_MEASURABLE)
    digits = number(amount)
    if len(digits) > _MOST_DIGITS:
        return Observation(type="TX", about=about, value=f"{float(amount)!r} {unit.value}")
    return Observation(type="NM", about=about, value=digits, unit=coded(unit))


def _documents(written: Sequence[WrittenObject]) -> Iterator[Observation]:
    """Yield the report as PDF, where the objects of the result have one."""
    for one in written:
        if one.kind is ArtifactKind.ENCAPSULATED_PDF:
            dataset = one.dataset
            data = bytes(dataset.EncapsulatedDocument)[: int(dataset.EncapsulatedDocumentLength)]
            encoded = base64.b64encode(data).decode("ascii")
            about = coded(DIAGNOSTIC_IMAGING_STUDY, Code("ai-report", PRIVATE_SCHEME, cut(one.description)))
            yield Observation(type="ED", about=about, value=field("", "application", "pdf", "Base64", encoded))


def _told_apart(told: Sequence[Observation]) -> Iterator[Observation]:
    """Yield them so that no two have both OBX-3 and OBX-4 in common: a receiver would keep one of them (7.4.2.4)."""
    seen: dict[tuple[Er7, str], int] = {}
    for one in told:
        count = seen[one.about, one.sub_id] = seen.get((one.about, one.sub_id), 0) + 1
        yield one if count == 1 else replace(one, sub_id=readable_id(f"{one.sub_id}.{count}"))
