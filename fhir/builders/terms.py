"""FHIR code systems and the fixed concepts of the resources; concepts shared with SR are in `dicom_node.core.codes`."""

from __future__ import annotations

import math

from dicom_node.core.codes import FHIR_SYSTEMS, NO_UNITS, PRIVATE_SCHEME
from dicom_node.core.entities import Code, Measurement, Withheld
from dicom_node.core.uids import coding_scheme_uid, derived_uid
from dicom_node.fhir.builders.dicom_values import one_line
from dicom_node.fhir.json_types import Json, without_empty

_HL7 = "http://terminology.hl7.org/CodeSystem"
_AI_TRANSPARENCY = "http://hl7.org/fhir/uv/aitransparency/CodeSystem"

UCUM = FHIR_SYSTEMS["UCUM"]
DCM = FHIR_SYSTEMS["DCM"]

LATERALITY = Code("272741003", "SCT", "Laterality")
PROCEDURE_FINDINGS = Code("59776-5", "LN", "Procedure findings")
STUDY = Code("113014", "DCM", "Study")


def _concept(system: str, code: str, display: str) -> Json:
    return {"coding": [{"system": system, "code": code, "display": display}]}


IMAGING_CATEGORY = _concept(f"{_HL7}/observation-category", "imaging", "Imaging")
RADIOLOGY_SERVICE = _concept(f"{_HL7}/v2-0074", "RAD", "Radiology")
#: By the code system that a receiver wants them from; US Core takes the second.
RADIOLOGY_CATEGORIES = {
    "v2-0074": RADIOLOGY_SERVICE,
    "loinc": _concept(FHIR_SYSTEMS["LN"], "LP29684-5", "Radiology"),
}
ACCESSION_TYPE = _concept(f"{_HL7}/v2-0203", "ACSN", "Accession ID")
PLACER_TYPE = _concept(f"{_HL7}/v2-0203", "PLAC", "Placer Identifier")
ASSEMBLER = _concept(f"{_HL7}/provenance-participant-type", "assembler", "Assembler")
VERIFIER = _concept(f"{_HL7}/provenance-participant-type", "verifier", "Verifier")
CREATED = _concept(f"{_HL7}/v3-DataOperation", "CREATE", "create")
REVISED = _concept(f"{_HL7}/v3-DataOperation", "UPDATE", "revise")
MODEL_CARD = _concept(f"{_AI_TRANSPARENCY}/AImodelCardCS", "AIModelCard", "AI Model-Card")
MODEL_CARD_IN_MARKDOWN = _concept(f"{_AI_TRANSPARENCY}/AImodelCardCS", "AImodelCardMarkdownFormat", "Markdown Format")
#: The label of what software, not a person, asserts (HL7 AI Transparency on FHIR): as `meta.security`, and as a reason.
AI_ASSERTED: Json = {
    "system": f"{_HL7}/v3-ObservationValue",
    "code": "AIAST",
    "display": "Artificial Intelligence asserted",
}
WADO_RS: Json = {"system": f"{_HL7}/endpoint-connection-type", "code": "dicom-wado-rs", "display": "DICOM WADO-RS"}

_ABSENT_REASONS = {"unknown": "Unknown", "not-performed": "Not Performed", "not-a-number": "Not a Number (NaN)"}


def absent_because(reason: str, text: str) -> Json:
    """Return a dataAbsentReason; `reason` is ``unknown``, ``not-performed`` or ``not-a-number``."""
    return {**_concept(f"{_HL7}/data-absent-reason", reason, _ABSENT_REASONS[reason]), "text": text}


def coding(code: Code) -> Json:
    """Return the Coding; a scheme without a FHIR address is named by the OID that identifies it in the SR too."""
    system = FHIR_SYSTEMS.get(code.scheme) or f"urn:oid:{coding_scheme_uid(code.scheme)}"
    return without_empty({"system": system, "code": code.value, "display": one_line(code.meaning)})


def concept(code: Code, text: str = "") -> Json:
    """Return a CodeableConcept of one coding."""
    return without_empty({"coding": [coding(code)], "text": one_line(text)})


def measured_thing(code: Code, key: str, label: str, model_name: str) -> Json:
    """Return what an Observation is about: the shared concept, and the model's own code for this very thing.

    Both lungs, the left and the right one share the concept "Lung"; an EHR that trends by code must tell them apart.
    """
    own = {"system": f"urn:oid:{derived_uid('code-system', model_name)}", "code": key, "display": one_line(label)}
    return without_empty({"coding": [coding(code), without_empty(own)], "text": one_line(label)})


def withheld_because(withheld: Withheld) -> Json:
    """Return the dataAbsentReason of a number that is withheld: a value that nobody knows, and in a code why."""
    absent = absent_because("unknown", one_line(withheld.message))
    return {**absent, "coding": [*absent["coding"], coding(Code(withheld.reason, PRIVATE_SCHEME, "Not reported"))]}


def measured_quantity(measurement: Measurement | Withheld) -> Json:
    """Return what a number means; with a derivation (mean, maximum …) a code of this project says both in one."""
    name, derivation = measurement.name, measurement.derivation
    if derivation is None:
        return concept(name, measurement.label)
    both = Code(f"{derivation.value}-{name.value}", PRIVATE_SCHEME, measurement.label)
    return {"coding": [coding(name), coding(both)], "text": one_line(measurement.label)}


def printed_unit(unit: Code) -> str:
    """Return a unit for people: the UCUM code, its meaning where the code is bracketed, nothing for pure numbers."""
    if unit.value == NO_UNITS.value:
        return ""
    return unit.meaning if unit.value.startswith("[") else unit.value


def value_or_reason(value: float, unit: Code) -> Json:
    """Return ``valueQuantity`` in UCUM, or ``dataAbsentReason`` for a number that JSON cannot hold."""
    if not math.isfinite(value):
        return {"dataAbsentReason": absent_because("not-a-number", "The measurement has no finite value.")}
    quantity = {"value": value, "unit": printed_unit(unit), "system": UCUM, "code": unit.value}
    return {"valueQuantity": without_empty(quantity) | {"value": value}}
