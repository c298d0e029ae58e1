"""The whole result as one FHIR R4 (4.0.1) transaction Bundle."""

from __future__ import annotations

from collections.abc import Sequence

from dicom_node.analysis.answer import Analysis, NotAnalysed, analysed_images, with_headers
from dicom_node.analysis.context import ReportContext, as_reviewed
from dicom_node.analysis.written import WrittenObject
from dicom_node.core.errors import ReportInvalid
from dicom_node.fhir.builders.facts import ReportFacts, gather_facts
from dicom_node.fhir.builders.resources.imaging_study import imaging_study_entry
from dicom_node.fhir.builders.resources.model_card import model_card_entry
from dicom_node.fhir.builders.resources.observation import finding_entries, not_analysed_entry
from dicom_node.fhir.builders.resources.provenance import device_entry, endpoint_entry, provenance_entry
from dicom_node.fhir.builders.resources.report import report_entry
from dicom_node.fhir.builders.validation import check_bundle
from dicom_node.fhir.json_types import Json, to_json_bytes
from dicom_node.fhir.options import FhirOptions
from dicom_node.headers.sound import without_unreadable

__all__ = ["build_bundle", "to_json_bytes"]


def build_bundle(
    answer: Analysis | NotAnalysed, context: ReportContext, written: Sequence[WrittenObject], options: FhirOptions
) -> dict[str, object]:
    """Return the transaction that puts this answer into an EHR; equal inputs give an equal bundle.

    The patient is a logical reference: `FhirClient` finds the EHR's own Patient when it sends the bundle. Entries are
    ordered so that none refers to a later one, for servers that take them one at a time. What nobody can read of a
    source header counts as not said. Raises `ReportInvalid` when a resource would break R4 or the node's own rules.

    Of an `answer` about one radiograph and its `context`:

    >>> bundle = build_bundle(answer, context, (), FhirOptions(patient_system="https://hospital.example/patients"))
    >>> types = [entry["resource"]["resourceType"] for entry in bundle["entry"]]
    >>> list(dict.fromkeys(types)), types.count("Observation") == len(answer.findings)
    (['Device', 'ImagingStudy', 'Observation', 'DocumentReference', 'DiagnosticReport', 'Provenance'], True)
    >>> bundle["entry"][-2]["resource"]["status"]
    'preliminary'
    """
    answer = as_reviewed(answer, context)
    answer = with_headers(answer, without_unreadable)
    facts = gather_facts(answer, context, options)
    has_endpoint = bool(options.dicomweb_url)
    observations = _observations(facts, answer)
    urls = [entry["fullUrl"] for entry in observations]
    entries = [
        device_entry(facts),
        *([endpoint_entry(facts, options.dicomweb_url)] if has_endpoint else []),
        imaging_study_entry(facts, analysed_images(answer), written, has_endpoint=has_endpoint),
        *observations,
        model_card_entry(facts),
        report_entry(facts, answer, written, urls, study_partial=context.study_partial),
        provenance_entry(facts, context, urls),
    ]
    bundle: Json = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    check_bundle(bundle, is_verified=context.review is not None)
    return bundle


def _observations(facts: ReportFacts, answer: Analysis | NotAnalysed) -> list[Json]:
    if isinstance(answer, NotAnalysed):
        return [not_analysed_entry(facts, answer)]
    keys = [finding.key for finding in answer.findings]
    doubled = sorted({key for key in keys if keys.count(key) > 1})
    if doubled:
        raise ReportInvalid(
            f"Model {answer.model.name} returned two findings under one key ({', '.join(doubled)}); "
            "give every finding of the model its own key."
        )
    return finding_entries(facts, answer.findings)
