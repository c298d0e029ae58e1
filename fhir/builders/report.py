"""The FHIR DiagnosticReport: what the EHR shows.

Status is `preliminary`; `partial` when the study or the analysis was incomplete. A study that could not be analysed is
`preliminary` too, not `cancelled`: the code would fit (R4 diagnostic-report-status), but EHRs hide cancelled reports,
and a study without an answer must be seen; also a late image may still bring the answer. Never `final`, `amended` or
`corrected`: only a physician says that.
"""

from __future__ import annotations

from collections.abc import Sequence

from dicom_node.analysis.answer import Analysis, NotAnalysed, WrittenObject
from dicom_node.core.codes import DIAGNOSTIC_IMAGING_STUDY
from dicom_node.core.entities import ArtifactKind, Finding, Presence
from dicom_node.fhir.builders.dicom_values import source_text
from dicom_node.fhir.builders.facts import ReportFacts, conditional_update
from dicom_node.fhir.builders.identifiers import JOB_SYSTEM, dicom_uid, query
from dicom_node.fhir.builders.terms import AI_ASSERTED, RADIOLOGY_SERVICE, concept
from dicom_node.fhir.builders.wording import conclusion_lines, narrative, presented_forms, summary_lines
from dicom_node.fhir.json_types import Json, without_empty


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
    summary, lines = summary_lines(answer), conclusion_lines(answer, incomplete=incomplete)
    report = without_empty(
        {
            "resourceType": "DiagnosticReport",
            "meta": {"security": [AI_ASSERTED]},
            "text": narrative(facts, summary, lines),
            "identifier": _identifiers(facts, written),
            "basedOn": facts.based_on,
            "status": "partial" if incomplete else "preliminary",
            "category": [RADIOLOGY_SERVICE],
            "code": concept(DIAGNOSTIC_IMAGING_STUDY, _title(facts)),
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
    return conditional_update(facts.full_url("DiagnosticReport"), report, query(facts.report_identifier))


def _title(facts: ReportFacts) -> str:
    return f"AI preliminary analysis: {facts.model.name} {facts.model.version}"


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
