"""The report as a document, for an EHR that takes a DocumentReference where it takes no DiagnosticReport.

It has the identifiers of the report and is replaced and withdrawn like it, in place.
"""

from __future__ import annotations

from dicom_node.fhir.builders.facts import conditional_update
from dicom_node.fhir.builders.resources.model_card import attachment
from dicom_node.fhir.builders.retraction import ENTERED_IN_ERROR
from dicom_node.fhir.builders.terms import AI_ASSERTED
from dicom_node.fhir.builders.verification import VERIFIED, sealed
from dicom_node.fhir.json_types import Json, without_empty

#: Composition status by that of the report (R4 composition-status); any other is preliminary.
_DOC_STATUS = {ENTERED_IN_ERROR: ENTERED_IN_ERROR, "final": "final", "amended": "amended"}


def document_entry(bundle: Json) -> Json:
    """Return the entry of the DocumentReference that says what the bundle's DiagnosticReport says.

    Pages and PDF are its contents; a withdrawn report, which has none, becomes the sentence that it is withdrawn.
    """
    entry: Json = next(one for one in bundle["entry"] if one["resource"]["resourceType"] == "DiagnosticReport")
    report = entry["resource"]
    is_withdrawn = report["status"] == ENTERED_IN_ERROR
    forms = report.get("presentedForm") or [attachment("text/plain; charset=utf-8", report["conclusion"].encode())]
    document = without_empty(
        {
            "resourceType": "DocumentReference",
            "meta": {"security": [AI_ASSERTED]} if "meta" in report else {},
            "text": report.get("text"),
            "identifier": report["identifier"],
            "status": ENTERED_IN_ERROR if is_withdrawn else "current",
            "docStatus": _DOC_STATUS.get(report["status"], "preliminary"),
            "type": report["code"],
            "category": report["category"],
            "subject": report.get("subject"),
            "date": report["issued"],
            "author": report.get("performer"),
            "description": report["code"].get("text"),
            "content": [{"attachment": form} for form in forms],
            "context": _context(report),
        }
    )
    if report["status"] in VERIFIED:
        document = sealed(document)
    return conditional_update(entry["fullUrl"], document, entry["request"]["url"].partition("?")[2])


def _context(report: Json) -> Json:
    """Return encounter, when the images were taken, and order and study as far as the server has or knows them."""
    named = [*report.get("basedOn", ()), *report.get("imagingStudy", ())]
    related = [one for one in named if not str(one.get("reference", "")).startswith("urn:")]
    encounter = [report["encounter"]] if "encounter" in report else []
    period = _period(report.get("effectiveDateTime"))
    return without_empty({"encounter": encounter, "period": period, "related": related})


def _period(start: str | None) -> Json:
    return {"start": start} if start else {}
