"""Find the one Patient in the EHR whom the images belong to; never guess, never create."""

from __future__ import annotations

from dicom_node.errors import DeliveryRefused
from dicom_node.fhir.exchange import Exchange
from dicom_node.fhir.json_types import Json
from dicom_node.fhir.searching import find_patients


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
