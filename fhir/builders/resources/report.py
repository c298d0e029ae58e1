"""The FHIR DiagnosticReport: what the EHR shows.

Status is `preliminary` until a person has reviewed the result; `partial` when the study or the analysis was incomplete.
A study that could not be analysed is `preliminary` too, not `cancelled`: the code would fit (R4
diagnostic-report-status), but EHRs hide cancelled reports, and a study without an answer must be seen; also a late
image may still bring the answer. What a reader has verified is `final`, also where the reader has changed it:
`amended` and `corrected` are said of what was final before, and `amended` is what replaces an earlier verified report
of the line.
"""

from __future__ import annotations

from collections.abc import Sequence

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.analysis.written import WrittenObject
from dicom_node.core.assessment.review import Review
from dicom_node.core.codes import DIAGNOSTIC_IMAGING_STUDY
from dicom_node.core.entities import ArtifactKind, Finding, Presence
from dicom_node.fhir.builders.dicom_values import one_line, source_text
from dicom_node.fhir.builders.facts import ReportFacts, conditional_update
from dicom_node.fhir.builders.identifiers import JOB_SYSTEM, dicom_uid, query
from dicom_node.fhir.builders.terms import AI_ASSERTED, RADIOLOGY_SERVICE, concept
from dicom_node.fhir.builders.verification import contained_reader, interpreter, sealed
from dicom_node.fhir.builders.wording import conclusion_lines, narrative, presented_forms, summary_lines
from dicom_node.fhir.json_types import Json, without_empty

#: R4, Extension: reasonCode; its contexts are Observation, DiagnosticReport, Media and NutritionOrder.
REASON_CODE = "http://hl7.org/fhir/StructureDefinition/workflow-reasonCode"


def report_entry(
    facts: ReportFacts,
    answer: Analysis | NotAnalysed,
    written: Sequence[WrittenObject],
    observation_urls: Sequence[str],
    *,
    study_partial: bool,
) -> Json:
    """Return the DiagnosticReport; it replaces the earlier one of the same study, model and route."""
    incomplete = study_partial or (isinstance(answer, Analysis) and answer.partial)
    summary, lines = summary_lines(answer), conclusion_lines(answer, incomplete=incomplete, review=facts.review)
    report = without_empty(
        {
            "resourceType": "DiagnosticReport",
            "meta": {"security": [AI_ASSERTED]} if facts.is_word_of_model else {},
            "text": narrative(facts, summary, lines),
            "extension": _reason(facts),
            "identifier": _identifiers(facts, written),
            "basedOn": facts.based_on,
            "status": _status(facts, incomplete=incomplete),
            "category": [RADIOLOGY_SERVICE],
            "code": concept(DIAGNOSTIC_IMAGING_STUDY, facts.title),
            "subject": facts.subject,
            "effectiveDateTime": facts.effective,
            "issued": facts.issued,
            "performer": facts.performer,
            "result": [{"reference": url, "type": "Observation"} for url in observation_urls],
            "imagingStudy": [facts.reference("ImagingStudy")],
            "conclusion": "\n".join([facts.warning, *lines]),
            "conclusionCode": _conclusion_codes(answer),
            "presentedForm": presented_forms(facts, summary, lines, written),
        }
    )
    if facts.review is not None:
        report = sealed(report | _interpreted_by(facts.review))
    return conditional_update(facts.full_url("DiagnosticReport"), report, query(facts.report_identifier))


def _status(facts: ReportFacts, *, incomplete: bool) -> str:
    if facts.review is not None:
        return "amended" if facts.is_correction else "final"
    return "partial" if incomplete else "preliminary"


def _interpreted_by(review: Review) -> Json:
    """Return who interpreted the images: the readers, contained in the report."""
    readers = [(who, contained_reader(who, number)) for number, (who, _) in enumerate(review.readers, start=1)]
    return {
        "contained": [one for _, contained in readers for one in contained],
        "resultsInterpreter": [interpreter(contained, who) for who, contained in readers],
    }


def _reason(facts: ReportFacts) -> list[Json]:
    """Return why the analysis was asked for, for which R4 has an extension of this resource, and no element."""
    reason = one_line(facts.order.reason) if facts.order else ""
    return [{"url": REASON_CODE, "valueCodeableConcept": {"text": reason}}] if reason else []


def _identifiers(facts: ReportFacts, written: Sequence[WrittenObject]) -> list[Json]:
    """Return what lasts over re-runs (official), the SRs that say the same, and the job that made this version."""
    reports = [item.dataset for item in written if item.kind is ArtifactKind.STRUCTURED_REPORT]
    return [
        {"use": "official", **facts.report_identifier},
        *(dicom_uid(source_text(report, "SOPInstanceUID")) for report in reports),
        {"system": JOB_SYSTEM, "value": facts.job_key},
    ]


def _conclusion_codes(answer: Analysis | NotAnalysed) -> list[Json]:
    """Return the findings that are present; an absent one, or a mere rank among other images, would read as a
    diagnosis."""
    findings: Sequence[Finding] = answer.findings if isinstance(answer, Analysis) else ()
    present = [finding for finding in findings if finding.presence is Presence.PRESENT and finding.score is None]
    return [concept(finding.code, finding.label) for finding in present]
