"""The model as FHIR Device: its identity changes whenever weights or configuration do (IHE AI Results)."""

from __future__ import annotations

from dicom_node.codes import ARTIFICIAL_INTELLIGENCE
from dicom_node.fhir.facts import ReportFacts, conditional_create
from dicom_node.fhir.identifiers import dicom_uid, query
from dicom_node.fhir.json_types import Json, without_empty
from dicom_node.fhir.source_text import one_line
from dicom_node.fhir.terms import concept


def device_entry(facts: ReportFacts) -> Json:
    """Return the Device, created only if the server has none with its UID."""
    model = facts.model
    identifier = dicom_uid(model.device_uid)
    notes = [f"Intended use: {model.intended_use}" if model.intended_use else "", model.limits]
    device = without_empty(
        {
            "resourceType": "Device",
            "identifier": [identifier],
            "status": "active",
            "manufacturer": model.manufacturer,
            "deviceName": [{"name": model.name, "type": "model-name"}],
            "type": concept(ARTIFICIAL_INTELLIGENCE),
            "version": [
                {"type": {"text": "model version"}, "value": model.version},
                {"type": {"text": "sha256 of weights and configuration"}, "value": model.digest},
            ],
            "note": [{"text": one_line(note)} for note in notes if note.strip()],
        }
    )
    return conditional_create(facts.full_url("Device"), device, query(identifier))
