"""Whose report it is: the EHR's own Patient, found by number, compared by birth date and sex, never created."""

from __future__ import annotations

import re

from dicom_node.core.errors import DeliveryRefused
from dicom_node.fhir.builders.identifiers import BIRTH_DATE_EXTENSION, SEX_EXTENSION
from dicom_node.fhir.client.exchange import Exchange
from dicom_node.fhir.client.reading import child, children, text
from dicom_node.fhir.client.searching import find_patients
from dicom_node.fhir.json_types import Json

#: A record merged into one that was merged itself, and so on; a longer chain is a circle.
_MOST_MERGES = 5
_DATE = re.compile(r"\d{4}(-\d{2}(-\d{2})?)?")
_COMPARED_SEXES = {"male", "female"}


def patient_reference_on_server(exchange: Exchange, subject: Json) -> str:
    """Return ``Patient/id``. Raises `DeliveryRefused`, without naming the patient, unless exactly one matches."""
    identifier = child(subject, "identifier")
    value, system = text(identifier, "value"), text(identifier, "system")
    if not value:
        raise DeliveryRefused(
            "The images carry no PatientID, so the report belongs to nobody. Give the study its number at the source "
            "and send it again: the report then follows under that. Or discard this delivery."
        )
    if not system:
        raise DeliveryRefused(
            "The PatientID has no identifier system, so it could match another patient's number. "
            "Add the issuer that the images name to fhir.issuers; for images that name none, set fhir.patient_system."
        )
    patient = _the_one(exchange, system, value)
    _check_same_person(patient, subject)
    return f"Patient/{patient['id']}"


def patient_on_server(exchange: Exchange, system: str, value: str) -> str:
    """Return ``Patient/id`` of a number. Raises `DeliveryRefused`, without naming it, unless exactly one matches."""
    return f"Patient/{_the_one(exchange, system, value)['id']}"


def without_demographics(subject: Json) -> Json:
    """Return the reference without what only the comparison needs."""
    return {key: value for key, value in subject.items() if key != "extension"}


def _the_one(exchange: Exchange, system: str, value: str) -> Json:
    found = {one["id"]: one for one in (_survivor(exchange, p) for p in find_patients(exchange, system, value)) if one}
    if len(found) != 1:
        raise DeliveryRefused(
            f"The EHR has {len(found) or 'no'} Patient{'s' if len(found) > 1 else ''} with the study's PatientID in "
            f"identifier system {system}; exactly one is needed. Register or merge the patient, or correct "
            "fhir.patient_system or fhir.issuers, then retry the delivery."
        )
    return next(iter(found.values()))


def _survivor(exchange: Exchange, patient: Json) -> Json | None:
    """Return the record in use that this one stands for: itself, or the one it was merged into (R4 patient-link)."""
    for _ in range(_MOST_MERGES):
        links = [one for one in children(patient, "link") if text(one, "type") == "replaced-by"]
        if not links:
            return patient if patient.get("active") is not False else None
        merged_into = re.search(r"(?:^|/)(Patient/[A-Za-z0-9\-.]{1,64})$", text(child(links[0], "other"), "reference"))
        found = (
            exchange.read(merged_into.group(1), "the Patient that a record was merged into") if merged_into else None
        )
        if found is None or f"Patient/{text(found, 'id')}" != (merged_into and merged_into.group(1)):
            return None
        patient = found
    return None


def _check_same_person(patient: Json, subject: Json) -> None:
    """Compare where both sides say something: a number alone may be mistyped, or given twice."""
    ours = {text(one, "url"): one for one in children(subject, "extension")}
    born, sex = text(ours.get(BIRTH_DATE_EXTENSION), "valueDate"), text(ours.get(SEX_EXTENSION), "valueCode")
    differing = [
        *(["birth date"] if _dates_differ(born, text(patient, "birthDate")) else []),
        *(["sex"] if {sex, text(patient, "gender")} == _COMPARED_SEXES else []),
    ]
    if differing:
        raise DeliveryRefused(
            f"The EHR's Patient with the study's PatientID has another {' and another '.join(differing)} than the "
            "images. Correct the study at its source and send it again, or the record in the EHR and retry. Or discard."
        )


def _dates_differ(ours: str, theirs: str) -> bool:
    """Tell whether two dates contradict each other; FHIR dates may be a year or a month only."""
    if not (_DATE.fullmatch(ours) and _DATE.fullmatch(theirs)):
        return False
    shared = min(len(ours), len(theirs))
    return ours[:shared] != theirs[:shared]
