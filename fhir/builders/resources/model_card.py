"""The model card as a document beside the report: what the model is for, and where it must not be trusted.

A DocumentReference with Markdown inline, as HL7 AI Transparency on FHIR (1.0.0-ballot) has it, and named by the
Provenance as what the result derives from. It is about the model, so it names no patient; equal cards are one document.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator

from dicom_node.core.entities import ModelIdentity
from dicom_node.fhir.builders.dicom_values import one_line
from dicom_node.fhir.builders.facts import ReportFacts, conditional_create
from dicom_node.fhir.builders.identifiers import query, uuid_identifier
from dicom_node.fhir.builders.terms import MODEL_CARD, MODEL_CARD_IN_MARKDOWN
from dicom_node.fhir.json_types import Json


def model_card_entry(facts: ReportFacts) -> Json:
    """Return the DocumentReference, created only if the server has none with this very text."""
    data = model_card(facts.model).encode("utf-8")
    identifier = uuid_identifier("DocumentReference", "model-card", hashlib.sha256(data).hexdigest())
    document: Json = {
        "resourceType": "DocumentReference",
        "identifier": [identifier],
        "status": "current",
        "type": MODEL_CARD,
        "category": [MODEL_CARD_IN_MARKDOWN],
        "description": one_line(f"Model card of {facts.model.name} {facts.model.version}"),
        "content": [{"attachment": attachment("text/markdown; charset=utf-8", data)}],
        "context": {"related": [facts.reference("Device")]},
    }
    return conditional_create(facts.full_url("DocumentReference"), document, query(identifier))


def attachment(content_type: str, data: bytes) -> Json:
    """Return bytes as Attachment; `hash` is the base64 SHA-1 of them (R4 datatypes)."""
    return {
        "contentType": content_type,
        "language": "en",
        "data": base64.b64encode(data).decode("ascii"),
        "size": len(data),
        "hash": base64.b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode("ascii"),
    }


def model_card(model: ModelIdentity) -> str:
    """Return the card as Markdown."""
    return "\n".join(_lines(model)) + "\n"


def _lines(model: ModelIdentity) -> Iterator[str]:
    yield f"# {one_line(model.name)} {one_line(model.version)}"
    for title, text in (
        ("Manufacturer", model.manufacturer),
        ("Intended use", model.intended_use),
        ("Limits", model.limits),
        ("Scores", how_sure(model)),
        ("Settings", ", ".join(model.parameters)),
        ("Identity", f"Device UID {model.device_uid}, sha256 of weights and configuration {model.digest}"),
    ):
        if text.strip():
            yield f"\n## {title}\n\n{one_line(text)}"


def how_sure(model: ModelIdentity) -> str:
    """Return in one sentence what the model's percentages may be taken for."""
    if model.calibrated:
        return "Percentages are calibrated, except scores of another name."
    return "Scores are not calibrated: they are no probability of disease."
