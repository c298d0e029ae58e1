"""One FHIR Observation per finding, with score, measurements and side as components."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dicom_node.analysis.answer import NotAnalysed
from dicom_node.core.assessment.review import Review
from dicom_node.core.codes import (
    DECISION_THRESHOLD,
    LEFT,
    LEFT_LUNG,
    LUNG,
    PERCENT,
    PRESENCE_CODES,
    RIGHT,
    RIGHT_LUNG,
    score_code,
)
from dicom_node.core.entities import Finding, ModelIdentity, Presence
from dicom_node.core.uids import tracking_uid
from dicom_node.fhir.builders.facts import ReportFacts, conditional_update
from dicom_node.fhir.builders.identifiers import dicom_uid, query
from dicom_node.fhir.builders.terms import (
    AI_ASSERTED,
    IMAGING_CATEGORY,
    LATERALITY,
    PROCEDURE_FINDINGS,
    absent_because,
    concept,
    measured_quantity,
    measured_thing,
    value_or_reason,
    withheld_because,
)
from dicom_node.fhir.builders.verification import practitioner, sealed
from dicom_node.fhir.builders.wording import change_lines, not_analysed_text, percent, site_text
from dicom_node.fhir.json_types import Json, without_empty

#: Key, among the findings of a job, of the Observation that says why there are none.
NOT_ANALYSED_KEY = "not-analysed"

#: Sites that have a code of their own for each side.
_SIDED = {(LUNG, LEFT): LEFT_LUNG, (LUNG, RIGHT): RIGHT_LUNG}


def finding_entries(facts: ReportFacts, findings: Sequence[Finding]) -> list[Json]:
    """Return an entry for every finding; each replaces the one with the same tracking UID."""
    return [_entry(facts, finding.key, _finding_elements(facts, finding)) for finding in findings]


def not_analysed_entry(facts: ReportFacts, answer: NotAnalysed) -> Json:
    """Return an Observation without value that tells why: absence of an answer is never a negative finding."""
    text = not_analysed_text(answer)
    elements = {
        "code": concept(PROCEDURE_FINDINGS, "AI analysis"),
        "dataAbsentReason": absent_because("not-performed", text),
        "note": [{"text": facts.warning}, {"text": text}],
    }
    return _entry(facts, NOT_ANALYSED_KEY, elements)


def _entry(facts: ReportFacts, finding_key: str, elements: Json) -> Json:
    """Complete an Observation by what all of one report share; the SR names it by the same tracking UID."""
    identifier = dicom_uid(tracking_uid(facts.tracked_by, finding_key))
    observation = without_empty(
        {
            "resourceType": "Observation",
            "meta": {"security": [AI_ASSERTED]},
            "identifier": [identifier],
            "basedOn": facts.based_on,
            "status": "preliminary",
            "category": [IMAGING_CATEGORY],
            "subject": facts.subject,
            "effectiveDateTime": facts.effective,
            "issued": facts.issued,
            "performer": facts.performer,
            "method": {"text": f"AI: {facts.model.name} {facts.model.version}"},
            "device": facts.reference("Device"),
            "derivedFrom": [facts.reference("ImagingStudy")],
            **elements,
        }
    )
    if facts.review is not None:
        observation = sealed(_by_whom(observation, facts.review, finding_key))
    return conditional_update(facts.full_url("Observation", finding_key), observation, query(identifier))


def _by_whom(observation: Json, review: Review, finding_key: str) -> Json:
    """Return the Observation as final: the model's word that a reader let stand, or else the reader's own."""
    reviewed = review.of(finding_key)
    final = {**observation, "status": "final"}
    if not reviewed.is_changed:
        return final
    own = {key: value for key, value in final.items() if key not in {"meta", "method", "device"}}
    return {**own, "performer": [practitioner(review.reviewer), *own.get("performer", ())]}


def _finding_elements(facts: ReportFacts, finding: Finding) -> Json:
    measurements = [
        {"code": measured_quantity(measurement), **value_or_reason(measurement.value, measurement.unit)}
        for measurement in finding.measurements
    ]
    withheld = [{"code": measured_quantity(one), "dataAbsentReason": withheld_because(one)} for one in finding.withheld]
    components = _score(finding, facts.model) + measurements + withheld
    return {
        "code": measured_thing(finding.code, finding.key, finding.label, facts.model.name),
        **_value(finding, has_components=bool(components)),
        "bodySite": _site(finding),
        "note": _notes(facts, finding),
        "component": components + _side(finding),
    }


def _value(finding: Finding, *, has_components: bool) -> Json:
    """Return Present or Absent (CID 240); undetermined, or nothing at all to say, becomes a reason instead."""
    if finding.presence is Presence.UNDETERMINED:
        return {"dataAbsentReason": absent_because("unknown", "The model could not determine the presence.")}
    if finding.presence is not None:
        return {"valueCodeableConcept": concept(PRESENCE_CODES[finding.presence])}
    if has_components:
        return {}
    return {"dataAbsentReason": absent_because("unknown", "The model gave no value.")}


def _score(finding: Finding, model: ModelIdentity) -> list[Json]:
    """Return the score by its name, and beside it the threshold, which as referenceRange would read as normal."""
    if finding.probability is None:
        return []
    score = {"code": concept(score_code(finding, model)), **value_or_reason(percent(finding.probability), PERCENT)}
    if finding.threshold is None or not math.isfinite(finding.threshold):
        return [score]
    threshold = {"code": concept(DECISION_THRESHOLD), **value_or_reason(percent(finding.threshold), PERCENT)}
    return [score, threshold]


def _site(finding: Finding) -> Json:
    """Return where it is; with its side in one code where there is one, for R4 has no place for the side here."""
    side = finding.laterality
    return concept(_SIDED.get((finding.site, side), finding.site) if side else finding.site, site_text(finding))


def _side(finding: Finding) -> list[Json]:
    """Return the side as component: not every site has a code with its side."""
    if finding.laterality is None:
        return []
    return [{"code": concept(LATERALITY), "valueCodeableConcept": concept(finding.laterality)}]


def _changes(facts: ReportFacts, finding: Finding) -> list[str]:
    """Say what the model had said of a finding that is a reader's word, and what the reader says of it."""
    reviewed = facts.review.of(finding.key) if facts.review else None
    return [] if reviewed is None or not reviewed.is_changed else change_lines(reviewed, facts.model)


def _notes(facts: ReportFacts, finding: Finding) -> list[Json]:
    """Say what score and heat map must not be taken for."""
    calibrated = facts.model.calibrated and finding.score is None
    told = [facts.warning, *_changes(facts, finding)]
    if finding.probability is not None and not calibrated:
        told.append("The score is no probability: it is not calibrated to a frequency of disease.")
    if finding.explanation_key:
        told.append("The heat map shows what in the image influenced the score, not where disease is.")
    return [{"text": text} for text in told]
