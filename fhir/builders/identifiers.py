"""Identifiers and logical references: who the patient is, which order, which DICOM object, which report."""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicom_node.core.entities import OrderContext
from dicom_node.core.uids import derived_uid, derived_uuid, is_valid_uid
from dicom_node.fhir.builders.dicom_values import date_of, person_name, source_text
from dicom_node.fhir.builders.terms import ACCESSION_TYPE, PLACER_TYPE
from dicom_node.fhir.json_types import Json, without_empty
from dicom_node.fhir.options import FhirOptions

DICOM_UID_SYSTEM = "urn:dicom:uid"
URI_SYSTEM = "urn:ietf:rfc:3986"
#: Systems of identifiers that only this product gives out.
JOB_SYSTEM = f"urn:oid:{derived_uid('identifier-system', 'job-key')}"
MODEL_DIGEST_SYSTEM = f"urn:oid:{derived_uid('identifier-system', 'model-digest')}"
#: Carried by the stored reference to the Patient for the comparison with the EHR's record, and not sent.
BIRTH_DATE_EXTENSION = f"urn:oid:{derived_uid('extension', 'patient-birth-date')}"
SEX_EXTENSION = f"urn:oid:{derived_uid('extension', 'patient-sex')}"
#: PatientSex (PS3.3 C.7.1.1) that says the same in both worlds; "O" means too many things.
_SEXES = {"M": "male", "F": "female"}


def dicom_uid(uid: str) -> Json:
    """Return a DICOM UID as Identifier (FHIR R4 ImagingStudy notes)."""
    return {"system": DICOM_UID_SYSTEM, "value": f"urn:oid:{uid}"}


def uuid_identifier(*parts: str) -> Json:
    """Return an Identifier that always stands for these parts."""
    return {"system": URI_SYSTEM, "value": derived_uuid("fhir", *parts).urn}


def query(identifier: Json) -> str:
    """Return the search that finds the resource with this identifier; only for systems that need no escaping."""
    return f"identifier={identifier['system']}|{identifier['value']}"


def patient_reference(dataset: Dataset, options: FhirOptions) -> Json:
    """Return the Patient as logical reference; the EHR's own id is looked up when the bundle is sent.

    Without PatientID only the name remains, and the client will refuse to send it.
    """
    identifier = without_empty(
        {"system": _patient_system(dataset, options), "value": source_text(dataset, "PatientID")}
    )
    known = identifier if "value" in identifier else None
    display = person_name(dataset) or ("" if known else "Images carry neither PatientID nor PatientName")
    demographics = _demographics(dataset)
    return without_empty({"type": "Patient", "identifier": known, "display": display, "extension": demographics})


def _demographics(dataset: Dataset) -> list[Json]:
    """Return birth date and sex as the images have them, where they have them."""
    born = date_of(dataset, "PatientBirthDate")
    sex = _SEXES.get(source_text(dataset, "PatientSex").upper(), "")
    return [
        *([{"url": BIRTH_DATE_EXTENSION, "valueDate": born}] if born else []),
        *([{"url": SEX_EXTENSION, "valueCode": sex}] if sex else []),
    ]


def accession_identifier(dataset: Dataset, options: FhirOptions, order: OrderContext | None = None) -> Json | None:
    """Return AccessionNumber as Identifier of its issuer (it is unique only there), or `None` when absent.

    Images that have none were made by the order that names their study: its number it is.
    """
    number = source_text(dataset, "AccessionNumber") or (order.accession_number if order else "")
    if not number:
        return None
    system = _universal_system(dataset, "IssuerOfAccessionNumberSequence") or options.accession_system
    return without_empty({"type": ACCESSION_TYPE, "system": system, "value": number})


def placer_identifier(order: OrderContext | None) -> Json | None:
    """Return the number of an order at who placed it (v2-0203 PLAC), of its system where that is known by an OID."""
    if order is None or order.placer is None:
        return None
    authority = order.placer.authority
    system = f"urn:oid:{authority}" if "." in authority and is_valid_uid(authority) else ""
    return without_empty({"type": PLACER_TYPE, "system": system, "value": order.placer.value})


def _patient_system(dataset: Dataset, options: FhirOptions) -> str:
    """Return the system of PatientID, or nothing when the images name an issuer that the site's list does not hold.

    Such a number is another hospital's: under the site's own system it could be the number of another patient.
    """
    issuer = source_text(dataset, "IssuerOfPatientID")
    named = options.issuers.get(issuer, "") or _universal_system(dataset, "IssuerOfPatientIDQualifiersSequence")
    is_foreign = bool(issuer and options.issuers)
    return named or ("" if is_foreign else options.patient_system)


def _universal_system(dataset: Dataset, keyword: str) -> str:
    """Return the assigning authority of HL7v2 Hierarchic Designator macro as URI (PS3.3 10.14), where it is an OID."""
    for item in dataset.get(keyword) or ():
        if source_text(item, "UniversalEntityIDType") == "ISO":
            return f"urn:oid:{source_text(item, 'UniversalEntityID')}"
    return ""
