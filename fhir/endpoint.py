"""Where the images can be fetched: the DICOMweb service of the PACS as FHIR Endpoint."""

from __future__ import annotations

from dicom_node.fhir.facts import ReportFacts, conditional_create
from dicom_node.fhir.identifiers import query, uuid_identifier
from dicom_node.fhir.json_types import Json
from dicom_node.fhir.terms import DICOM_STUDY, WADO_RS, concept


def endpoint_entry(facts: ReportFacts, dicomweb_url: str) -> Json:
    """Return the Endpoint of this address, created only if the server has none."""
    identifier = uuid_identifier("Endpoint", dicomweb_url)
    endpoint: Json = {
        "resourceType": "Endpoint",
        "identifier": [identifier],
        "status": "active",
        "connectionType": WADO_RS,
        "payloadType": [concept(DICOM_STUDY)],
        "payloadMimeType": ["application/dicom"],
        "address": dicomweb_url,
    }
    return conditional_create(facts.full_url("Endpoint"), endpoint, query(identifier))
