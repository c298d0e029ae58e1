"""Fit a stored Bundle to its receiver: a pure function of the Bundle, the settings and what the receiver takes.

The stored bytes stay as they are, so that what was made is known for ever, and another profile holds for the next
sending.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from dicom_node.core.codes import FHIR_SYSTEMS
from dicom_node.fhir.builders.resources.model_card import attachment
from dicom_node.fhir.builders.retraction import ENTERED_IN_ERROR
from dicom_node.fhir.builders.terms import RADIOLOGY_CATEGORIES
from dicom_node.fhir.json_types import Json, without_empty
from dicom_node.fhir.options import FhirProfile

US_CORE_NOTE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-diagnosticreport-note"
_NO_DATE: Json = {
    "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]
}
#: What may be left out. A Device or ImagingStudy that is not sent is still named, by its DICOM UID.
DROPPABLE = ("Device", "DocumentReference", "Endpoint", "ImagingStudy", "Observation", "Provenance")
_NAMED_ALL_THE_SAME = {"Device", "ImagingStudy"}
#: Without which an element says nothing (R4 Provenance: entity.what, agent.who).
_NEEDED = ("what", "who")


def adapted(bundle: Json, profile: FhirProfile, takes: Callable[[str], bool] = lambda _kind: True) -> Json:
    """Return the Bundle as this receiver wants it; `takes` tells of a type whether it takes a new one.

    What the profile drops and what the receiver does not take is left out, with what refers to it.
    """
    dropped = {kind for kind in DROPPABLE if kind in profile.drop or not takes(kind)}
    gone = {
        entry["fullUrl"]: _named(entry["resource"])
        for entry in bundle["entry"]
        if entry["resource"]["resourceType"] in dropped
    }
    kept = [entry for entry in bundle["entry"] if entry["fullUrl"] not in gone]
    procedure = _procedure(bundle, profile.procedures)
    entries = [{**entry, "resource": _referring(entry["resource"], gone)} for entry in kept]
    return {**bundle, "entry": [_adapted_entry(entry, profile, procedure) for entry in entries]}


def _named(resource: Json) -> Json:
    """Return what to say of a resource that is left out; nothing where nobody would find it."""
    kind = resource["resourceType"]
    return {"type": kind, "identifier": resource["identifier"][0]} if kind in _NAMED_ALL_THE_SAME else {}


def _referring(node: Any, gone: Mapping[str, Json]) -> Any:
    """Return the node without references to what is gone; `None` where nothing is left of it."""
    if isinstance(node, list):
        return [one for one in (_referring(item, gone) for item in node) if one is not None]
    if not isinstance(node, dict):
        return node
    inside = node.get("reference")
    if isinstance(inside, str) and inside in gone:
        named = {key: value for key, value in node.items() if key not in {"reference", "type"}} | gone[inside]
        return named if gone[inside] else None
    left = {key: _referring(value, gone) for key, value in node.items()}
    is_void = any(left.get(key, "") is None for key in _NEEDED)
    return None if is_void else {key: value for key, value in left.items() if value is not None and value != []}


def _adapted_entry(entry: Json, profile: FhirProfile, procedure: Json | None) -> Json:
    report = entry["resource"]
    if report["resourceType"] != "DiagnosticReport":
        return entry
    named = [RADIOLOGY_CATEGORIES[one] for one in profile.categories]
    report = {**report, "category": named or report["category"]}
    if procedure is not None:
        report["code"] = {**report["code"], "coding": [procedure]}
    if "presentedForm" in report:
        report["presentedForm"] = [form for one in report["presentedForm"] if (form := _form(one, profile.pdf))]
    return {**entry, "resource": _as_us_core(report) if profile.us_core else report}


def _form(form: Json, pdf: str) -> Json:
    """Return a form of the report: a PDF whole, or by its address where it has one, or nothing where it is unwanted."""
    if form["contentType"] != "application/pdf":
        return form
    if pdf == "link" and "url" in form:
        return {key: value for key, value in form.items() if key != "data"}
    return {key: value for key, value in form.items() if key != "url"} if pdf == "attachment" else {}


def _as_us_core(report: Json) -> Json:
    """Return the report with the profile claimed, and a date that is said to be unknown where there is none."""
    meta = {**report.get("meta", {}), "profile": [US_CORE_NOTE]}
    undated = {} if "effectiveDateTime" in report else {"_effectiveDateTime": _NO_DATE}
    return {**report, "meta": meta, **undated}


def _procedure(bundle: Json, table: Mapping[str, str]) -> Json | None:
    """Return the LOINC coding of the study's procedure by its description; blanks and case do not count."""
    studies = [one["resource"] for one in bundle["entry"] if one["resource"]["resourceType"] == "ImagingStudy"]
    described = _folded(studies[0].get("description", "")) if studies else ""
    found = next((code for name, code in table.items() if _folded(name) == described), "")
    code, _, display = found.partition(" ")
    return without_empty({"system": FHIR_SYSTEMS["LN"], "code": code, "display": display.strip()}) if code else None


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


# --- the link to the images ------------------------------------------------------------------------------------------


def names_for_viewer(bundle: Json) -> dict[str, str]:
    """Return what a viewer may find the images by; empty texts where the Bundle does not say."""
    by_kind = {one["resource"]["resourceType"]: one["resource"] for one in bundle["entry"]}
    report, study = by_kind.get("DiagnosticReport", {}), by_kind.get("ImagingStudy", {})
    orders = report.get("basedOn") or [{}]
    return {
        "study_instance_uid": _value(study.get("identifier") or [{}]).removeprefix("urn:oid:"),
        "accession_number": _value([orders[0].get("identifier", {})]),
        "patient_id": _value([report.get("subject", {}).get("identifier", {})]),
    }


def _value(identifiers: list[Json]) -> str:
    return str(identifiers[0].get("value", ""))


def with_link(bundle: Json, address: str) -> Json:
    """Return the Bundle whose report leads to the images in a viewer, in its text and on its page; none: as it is."""
    if not address:
        return bundle
    return {**bundle, "entry": [_linked(entry, address) for entry in bundle["entry"]]}


def _linked(entry: Json, address: str) -> Json:
    report = entry["resource"]
    if report["resourceType"] != "DiagnosticReport" or "text" not in report or report["status"] == ENTERED_IN_ERROR:
        return entry
    link = f'<p><a href="{escape(address)}">Open the images</a></p>'
    text = {**report["text"], "div": _before(report["text"]["div"], "</div>", link)}
    forms = [_linked_form(one, link) for one in report.get("presentedForm", ())]
    return {**entry, "resource": without_empty({**report, "text": text, "presentedForm": forms})}


def _linked_form(form: Json, link: str) -> Json:
    if form["contentType"] != "text/html":
        return form
    page = base64.b64decode(form["data"]).decode("utf-8")
    return {**form, **attachment("text/html", _before(page, "</body>", link).encode("utf-8"))}


def _before(page: str, end: str, link: str) -> str:
    head, mark, tail = page.rpartition(end)
    return f"{head}{link}{mark}{tail}"
