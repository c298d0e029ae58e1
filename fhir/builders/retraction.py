"""What takes a report back from an EHR: the resources that were the node's own, with status entered-in-error.

The report keeps its number, marked as one no longer in use, so that whoever looks for it finds that it was withdrawn,
and what is analysed later is a report of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape

from dicom_node.analysis.context import ReportLine
from dicom_node.core.codes import DIAGNOSTIC_IMAGING_STUDY
from dicom_node.core.uids import derived_uuid
from dicom_node.fhir.builders.dicom_values import fhir_instant, one_line
from dicom_node.fhir.builders.facts import conditional_update, former_identifier, report_identifier
from dicom_node.fhir.builders.identifiers import DICOM_UID_SYSTEM, JOB_SYSTEM, dicom_uid, query
from dicom_node.fhir.builders.terms import AI_ASSERTED, RADIOLOGY_SERVICE, concept
from dicom_node.fhir.json_types import Json

ENTERED_IN_ERROR = "entered-in-error"
#: The report's words about its findings, which must not stand beside the word that it is withdrawn.
_WORDS = ("text", "conclusion", "conclusionCode", "presentedForm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraction:
    """What is taken back from an EHR, why, and since when: `bundles` as they were sent, newest first.

    `study_instance_uid`, `node` and `line` find the report where no bundle can be read any more; `job_keys` are those
    of the runs whose report it may be.
    """

    study_instance_uid: str
    node: str
    line: ReportLine
    job_keys: Sequence[str]
    bundles: Sequence[Json]
    reason: str
    at: datetime


def retraction_bundle(told: Retraction) -> Json:
    """Return the transaction that takes back what was sent, with the ImagingStudies that the node may have made."""
    report = _withdrawn_report(told)
    url = derived_uuid("fhir", "withdrawal", *told.job_keys).urn
    kept = [entry for bundle in told.bundles for entry in _others(bundle)]
    by_url = {(entry["fullUrl"], entry["request"]["url"]): entry for entry in kept}
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [conditional_update(url, report, query(report["identifier"][0])), *by_url.values()],
    }


def with_studies_standing(bundle: Json) -> Json:
    """Return the retraction with ImagingStudies that stay in use: another result of the study stands and needs them."""
    return {**bundle, "entry": [_standing(entry) for entry in bundle["entry"]]}


def _standing(entry: Json) -> Json:
    is_study = entry["resource"]["resourceType"] == "ImagingStudy"
    return {**entry, "resource": {**entry["resource"], "status": "available"}} if is_study else entry


def with_reason(report: Json, reason: str) -> Json:
    """Return a report that says nothing but that it is withdrawn, and why."""
    told = one_line(f"WITHDRAWN: this AI result does not hold any more and must not be used. Reason: {reason}")
    silent = {key: value for key, value in report.items() if key not in _WORDS}
    div = f'<div xmlns="http://www.w3.org/1999/xhtml"><p>{escape(told)}</p></div>'
    return {**silent, "text": {"status": "generated", "div": div}, "status": ENTERED_IN_ERROR, "conclusion": told}


def is_retraction(bundle: Json) -> bool:
    """Tell a bundle that takes back from one that reports."""
    reports = (one["resource"] for one in bundle["entry"] if one["resource"]["resourceType"] == "DiagnosticReport")
    return any(one.get("status") == ENTERED_IN_ERROR for one in reports)


def _withdrawn_report(told: Retraction) -> Json:
    """Return the report as it was sent, without what refers into its bundle and what it said."""
    sent = _report_of(told.bundles[0]) if told.bundles else _nothing_known(told)
    numbers = sent["identifier"]
    official = {**numbers[0], "use": "old"}
    reports = [one for one in numbers if one.get("system") == DICOM_UID_SYSTEM]
    made_by = [{"system": JOB_SYSTEM, "value": job} for job in told.job_keys]
    former = former_identifier(told.study_instance_uid, told.line)
    formerly = [] if former["value"] == official["value"] else [{**former, "use": "old"}]
    report = {key: value for key, value in sent.items() if not _refers_inside(value)}
    report |= {"identifier": [official, *formerly, *reports, *made_by], "issued": fhir_instant(told.at)}
    return with_reason(report, told.reason)


def _report_of(bundle: Json) -> Json:
    return next(one["resource"] for one in bundle["entry"] if one["resource"]["resourceType"] == "DiagnosticReport")


def _nothing_known(told: Retraction) -> Json:
    return {
        "resourceType": "DiagnosticReport",
        "meta": {"security": [AI_ASSERTED]},
        "identifier": [report_identifier(told.study_instance_uid, told.node, told.line)],
        "category": [RADIOLOGY_SERVICE],
        "code": concept(DIAGNOSTIC_IMAGING_STUDY, f"AI preliminary analysis: {told.line.model}"),
        "imagingStudy": [{"type": "ImagingStudy", "identifier": dicom_uid(told.study_instance_uid)}],
    }


def _others(bundle: Json) -> Iterator[Json]:
    """Yield the Observations and the ImagingStudy, as they were sent but for what refers into their bundle."""
    for entry in bundle["entry"]:
        sent = entry["resource"]
        if sent["resourceType"] not in {"Observation", "ImagingStudy"}:
            continue
        request = entry["request"]
        search = request.get("ifNoneExist") or request["url"].partition("?")[2]
        resource = {key: value for key, value in sent.items() if not _refers_inside(value)}
        yield conditional_update(entry["fullUrl"], {**resource, "status": ENTERED_IN_ERROR}, search)


def _refers_inside(value: object) -> bool:
    if isinstance(value, list):
        return any(map(_refers_inside, value))
    if isinstance(value, dict):
        inside = str(value.get("reference", "")).startswith("urn:uuid:")
        return inside or any(map(_refers_inside, value.values()))
    return False
