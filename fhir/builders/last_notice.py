"""The last word to an EHR on a study that could not even be told in the usual way: UIDs, the model and the reason."""

from __future__ import annotations

from dicom_node.analysis.context import ReportContext
from dicom_node.core.codes import DIAGNOSTIC_IMAGING_STUDY
from dicom_node.core.entities import ModelIdentity
from dicom_node.core.uids import derived_uuid
from dicom_node.fhir.builders.dicom_values import fhir_instant, one_line
from dicom_node.fhir.builders.facts import conditional_update, report_identifier, reporter
from dicom_node.fhir.builders.identifiers import JOB_SYSTEM, dicom_uid, query
from dicom_node.fhir.builders.terms import AI_ASSERTED, RADIOLOGY_SERVICE, concept
from dicom_node.fhir.json_types import Json


def last_bundle(
    study_instance_uid: str, model: ModelIdentity, context: ReportContext, reason: tuple[str, str]
) -> dict[str, object]:
    """Return a transaction with one DiagnosticReport; `reason` is its code and a sentence.

    It has the identifier of the usual report, so that a later one replaces it. No patient is named: the client parks
    it, with that as its reason, where a person sees it.
    """
    identifier = report_identifier(study_instance_uid, *reporter(context, model))
    told = one_line(f"AI, not reviewed by a physician. Not analysed by {model.name}: {reason[0]}. {reason[1]}")
    report: Json = {
        "resourceType": "DiagnosticReport",
        "meta": {"security": [AI_ASSERTED]},
        "identifier": [{"use": "official", **identifier}, {"system": JOB_SYSTEM, "value": context.job_key}],
        "status": "preliminary",
        "category": [RADIOLOGY_SERVICE],
        "code": concept(DIAGNOSTIC_IMAGING_STUDY, f"AI preliminary analysis: {model.name} {model.version}"),
        "subject": {"type": "Patient", "display": "Images whose patient could not be read"},
        "issued": fhir_instant(context.started_at),
        "imagingStudy": [{"type": "ImagingStudy", "identifier": dicom_uid(study_instance_uid)}],
        "conclusion": told,
    }
    url = derived_uuid("fhir", "last-notice", context.job_key).urn
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [conditional_update(url, report, query(identifier))],
    }
