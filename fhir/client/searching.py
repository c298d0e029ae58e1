"""Searches that trust no server blindly, the one for the Patient above all: a hit must carry what was searched for."""

from __future__ import annotations

from http import HTTPStatus

from dicom_node.core.errors import DeliveryRefused
from dicom_node.fhir.client.exchange import Exchange
from dicom_node.fhir.json_types import Json

#: Answers of servers that do not offer searching by POST.
_NO_POST_SEARCH = {
    HTTPStatus.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.NOT_IMPLEMENTED,
}


def find(exchange: Exchange, resource_type: str, query: str) -> list[Json]:
    """Return the resources that match ``identifier=system|value`` or ``_tag=system|value``."""
    parameter, _, token = query.partition("=")
    asked = f"a search for {resource_type}"
    answer = exchange.get(resource_type, asked, {parameter: token})
    return _hits(exchange.json(answer, asked), resource_type, parameter, token)


def find_patients(exchange: Exchange, system: str, value: str) -> list[Json]:
    """Return the Patients with this identifier; searched by POST, which keeps the number out of addresses and logs."""
    form = {"identifier": f"{_escaped(system)}|{_escaped(value)}"}
    asked = "a search for the Patient"
    answer = exchange.post_form("Patient/_search", form)
    if answer.status_code in _NO_POST_SEARCH:
        answer = exchange.get("Patient", asked, form)
    body = exchange.json(exchange.succeeded(answer, asked), asked)
    return _hits(body, "Patient", "identifier", f"{system}|{value}")


def _hits(searchset: Json, resource_type: str, parameter: str, token: str) -> list[Json]:
    resources = [entry.get("resource", {}) for entry in searchset.get("entry", [])]
    system, _, value = token.partition("|")
    return [r for r in resources if r.get("resourceType") == resource_type and _carries(r, parameter, system, value)]


def _carries(resource: Json, parameter: str, system: str, value: str) -> bool:
    if parameter == "_tag":
        tags = resource.get("meta", {}).get("tag", [])
        return any(tag.get("system") == system and tag.get("code") == value for tag in tags)
    identifiers = resource.get("identifier", [])
    return any(one.get("system") == system and one.get("value") == value for one in identifiers)


def _escaped(text: str) -> str:
    """Escape what separates search values (R4 search 3.1.1.4.0.1)."""
    return "".join(f"\\{character}" if character in "\\|,$" else character for character in text)


# --- the patient: never guessed, never created -----------------------------------------------------------------------


def patient_reference_on_server(exchange: Exchange, subject: Json) -> str:
    """Return ``Patient/id``. Raises `DeliveryRefused`, without naming the patient, unless exactly one matches."""
    identifier = subject.get("identifier", {})
    value, system = identifier.get("value", ""), identifier.get("system", "")
    if not value:
        raise DeliveryRefused(
            "The images carry no PatientID, so the report belongs to nobody. "
            "Correct the study at its source and send it again."
        )
    if not system:
        raise DeliveryRefused(
            "The PatientID has no identifier system, so it could match another patient's number. "
            "Add the issuer that the images name to fhir.issuers; for images that name none, set fhir.patient_system."
        )
    found = [patient for patient in find_patients(exchange, system, value) if _is_current(patient)]
    if len(found) != 1:
        raise DeliveryRefused(
            f"The EHR has {len(found) or 'no'} Patient{'s' if len(found) > 1 else ''} with the study's PatientID in "
            f"identifier system {system}; exactly one is needed. Register or merge the patient, or correct "
            "fhir.patient_system or fhir.issuers, then retry the delivery."
        )
    return f"Patient/{found[0]['id']}"


def _is_current(patient: Json) -> bool:
    """Tell whether the record is in use: not inactive, not merged into another."""
    merged = any(link.get("type") == "replaced-by" for link in patient.get("link", []))
    return patient.get("active", True) and not merged
